"""`icis-networks`: the paper's two encoder-decoders, trained in a second.

What it keeps of the paper: both networks, their shared latent and all four cosine terms. What it does otherwise: rows are centred
on their mean and written in the leading coordinates of their span, texts likewise; training takes one step an epoch, with
dropout. Descriptors of new classes are not used, so the row of a name does not depend on which other names are injected with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timm_inject.mappers.base import Mapper, normalize
from timm_inject.mappers.networks import IcisNetworks, icis_loss
from timm_inject.mappers.span import RowSpan
from timm_inject.text import ProgressCallback

__all__ = ["IcisNetworksMapper"]

# How these were chosen: docs/design.md ("Mapper").
_LATENT_DIM = 256
_ROW_DIM = _TEXT_DIM = 128
_EPOCHS = 20
_LEARNING_RATE, _WEIGHT_DECAY, _DROPOUT = 1e-2, 1e-2, 0.5
_EPOCH_SHARE, _MIN_PER_EPOCH, _MAX_PER_EPOCH = 0.4, 400, 4000


class IcisNetworksMapper(Mapper):
    """Encoder-decoders for descriptors and rows with a shared latent space.

    Source: Christensen et al., "Image-free Classifier Injection for Zero-Shot Classification", ICCV 2023, section 3.
    """

    name = "icis-networks"

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        mean_row, mean = rows.mean(0), descriptors.mean(0)
        centred = rows - mean_row
        span = RowSpan.of(centred)
        networks = _train(normalize(descriptors - mean), span.coordinates[:, :_ROW_DIM], generator, progress)
        return {
            "descriptor_dim": torch.tensor(descriptors.shape[1]),
            "mean_descriptor": mean,
            "mean_row": mean_row,
            "basis": span.basis[:_ROW_DIM].contiguous(),
            "length": centred.norm(dim=1).mean(),
        } | {f"networks.{key}": tensor.detach().clone() for key, tensor in networks.state_dict().items()}

    def _predict(self, descriptors: Tensor) -> Tensor:
        weights = {key.removeprefix("networks."): t for key, t in self.tensors.items() if key.startswith("networks.")}
        texts = normalize(descriptors - self.tensors["mean_descriptor"])
        directions = normalize(IcisNetworks.from_state(weights).row_from_descriptor(texts)) @ self.tensors["basis"]
        return directions * self.tensors["length"] + self.tensors["mean_row"]


def _train(texts: Tensor, coordinates: Tensor, generator: torch.Generator, progress: ProgressCallback | None) -> IcisNetworks:
    """AdamW with a one-cycle schedule, one step an epoch; the last epoch is taken, so nothing needs to be held out.

    Args:
        texts: (num_seen, descriptor_dim), centred and of length 1.
        coordinates: (num_seen, network_row_dim), the leading coordinates of the rows.
        generator: Draws initial weights, dropout and who takes part in an epoch.
        progress: As in `Mapper.fit`.

    Returns:
        Networks from texts as they come to coordinates, and back.
    """
    basis = RowSpan.of(texts).basis[:_TEXT_DIM]
    # Unit inputs of hundreds of entries are tiny beside the initial biases' steps: bring each entry to about 1.
    scale, row_scale = len(basis) ** 0.5, coordinates.shape[1] ** 0.5
    inputs, targets = texts @ basis.T * scale, normalize(coordinates) * row_scale
    networks = IcisNetworks(
        inputs.shape[1], targets.shape[1], latent_dim=_LATENT_DIM, dropout=_DROPOUT, generator=generator
    ).train()
    optimizer = torch.optim.AdamW(networks.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_EPOCHS, pct_start=0.2)
    count = min(len(texts), _MAX_PER_EPOCH, max(_MIN_PER_EPOCH, round(_EPOCH_SHARE * len(texts))))
    is_seen = torch.ones(count, dtype=torch.bool)
    for epoch in range(_EPOCHS):
        part = slice(None) if count == len(texts) else torch.randperm(len(texts), generator=generator)[:count]
        loss = icis_loss(networks, inputs[part], targets[part], is_seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress("Train the mapper", epoch + 1, _EPOCHS)
    return _unfold(networks.eval(), basis, scale)


def _unfold(networks: IcisNetworks, basis: Tensor, scale: float) -> IcisNetworks:
    """The same networks with the projection and the scale of their texts folded into the weights."""
    state = {key: tensor.detach() for key, tensor in networks.state_dict().items()}
    return IcisNetworks.from_state(
        state
        | {
            "descriptor_encoder.weight": state["descriptor_encoder.weight"] @ basis * scale,
            "descriptor_decoder.weight": basis.T @ state["descriptor_decoder.weight"] / scale,
            "descriptor_decoder.bias": basis.T @ state["descriptor_decoder.bias"] / scale,
        }
    )
