"""`icis`, the default: the paper's two encoder-decoders, trained fast, blended with Gaussian kernel ridge.

What it keeps of the paper: both networks, their shared latent and all four cosine terms. What it does otherwise: rows are
centred on their mean (adding one vector to every row changes no prediction) and written in coordinates of their own span;
training is full-batch with dropout; the networks' row is added, with a small weight, to that of a kernel ridge regression,
which is the better of the two on its own. Descriptors of new classes are not used, so the row of a name does not depend on
which other names are injected with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timm_inject.mappers.base import Mapper, ProgressCallback, normalize
from timm_inject.mappers.kernel_ridge import gaussian_kernel, select_kernel
from timm_inject.mappers.networks import IcisNetworks, icis_loss

__all__ = ["IcisMapper"]

# Chosen on three ImageNet heads by how well predicted rows find the true ones of hidden classes. Accuracy on 1,300 photos was
# printed beside it, so that accuracy is no independent check of these numbers.
_NETWORK_WEIGHT = 0.2  # a kernel-ridge row of length 1 plus 0.2 of a network row of length 1
_EQUALIZE = 0.3  # each coordinate is divided by its share of the largest singular value, to this power
_LATENT_DIM = 256
_NETWORK_ROW_DIM = 128  # the networks learn the leading coordinates only; the rest is close to noise
_EPOCHS = 80
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-2
_DROPOUT = 0.5
_MIN_SINGULAR_SHARE = 0.05  # keeps weak directions from being blown up
_EPSILON = 1e-6


class IcisMapper(Mapper):
    """Encoder-decoders and kernel ridge on centred rows; every predicted row has the mean length of the seen ones.

    Source: Christensen et al., ICCV 2023, for the networks and the objective; see `KernelRidgeMapper` for the closed form.
    """

    name = "icis"

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        mean_descriptor, mean_row = descriptors.mean(0), rows.mean(0)
        texts = normalize(descriptors - mean_descriptor)
        centred = rows - mean_row
        left, singular, basis = torch.linalg.svd(centred, full_matrices=False)
        kept = singular > 1e-4 * singular[0].clamp_min(_EPSILON)
        coordinates, basis = (left * singular)[:, kept], basis[kept]
        width, ridge = select_kernel(texts, coordinates)
        kernel = gaussian_kernel(texts, texts, width)
        share = (singular[kept] / singular[0]).clamp_min(_MIN_SINGULAR_SHARE)
        networks = _train_networks(texts, coordinates[:, :_NETWORK_ROW_DIM], generator, progress)
        return {
            "descriptor_dim": torch.tensor(descriptors.shape[1]),
            "mean_descriptor": mean_descriptor,
            "mean_row": mean_row,
            "seen_texts": texts,
            "width": torch.tensor(width),
            "coefficients": torch.linalg.solve(kernel + ridge * torch.eye(len(kernel), dtype=torch.float32), coordinates),
            "equalizer": share**-_EQUALIZE,
            "basis": basis,
            "length": centred.norm(dim=1).mean(),
        } | {f"networks.{key}": tensor.detach().clone() for key, tensor in networks.state_dict().items()}

    def _predict(self, descriptors: Tensor) -> Tensor:
        tensors = self.tensors
        texts = normalize(descriptors - tensors["mean_descriptor"])
        kernel = gaussian_kernel(texts, tensors["seen_texts"], tensors["width"].item())
        coordinates = normalize(kernel @ tensors["coefficients"])
        from_networks = normalize(self._networks().row_from_descriptor(texts))
        coordinates[:, : from_networks.shape[1]] += _NETWORK_WEIGHT * from_networks
        directions = normalize(coordinates * tensors["equalizer"]) @ tensors["basis"]
        return directions * tensors["length"] + tensors["mean_row"]

    def _networks(self) -> IcisNetworks:
        weights = {key.removeprefix("networks."): t for key, t in self.tensors.items() if key.startswith("networks.")}
        return IcisNetworks.from_state(weights)


def _train_networks(
    texts: Tensor, coordinates: Tensor, generator: torch.Generator, progress: ProgressCallback | None
) -> IcisNetworks:
    """Full-batch AdamW with a one-cycle schedule; the last epoch is taken, so nothing needs to be held out."""
    networks = IcisNetworks(
        texts.shape[1], coordinates.shape[1], latent_dim=_LATENT_DIM, dropout=_DROPOUT, generator=generator
    ).train()
    optimizer = torch.optim.AdamW(networks.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_EPOCHS, pct_start=0.2)
    # Unit inputs of hundreds of entries are tiny beside the initial biases' steps: bring each entry to about 1.
    scaled = texts * texts.shape[1] ** 0.5
    targets = normalize(coordinates) * coordinates.shape[1] ** 0.5
    is_seen = torch.ones(len(texts), dtype=torch.bool)
    for epoch in range(_EPOCHS):
        loss = icis_loss(networks, scaled, targets, is_seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress("Train the mapper", epoch + 1, _EPOCHS)
    # Folds the input scale into the weights, so that prediction takes the texts as they are.
    with torch.no_grad():
        networks.descriptor_encoder.weight.mul_(texts.shape[1] ** 0.5)
    return networks.eval()
