"""The two encoder-decoders of ICIS and their objective.

Source: Christensen et al., "Image-free Classifier Injection for Zero-Shot Classification", ICCV 2023, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

__all__ = ["IcisNetworks", "icis_loss"]


class IcisNetworks(nn.Module):
    """One encoder-decoder for descriptors, one for rows, with a shared latent space.

    Each is Linear-ReLU-Linear; the ReLU's output is the latent, so either decoder can read what either encoder writes.

    Args:
        descriptor_dim: Width of a descriptor.
        row_dim: Width of a row.
        latent_dim: Width of the latent; 2048 in the paper.
        init_std: Standard deviation of the initial weights; biases start at zero. 0.02 in the paper.
        dropout: Share of the latent that is dropped in training; 0 in the paper.
        generator: Draws the initial weights and, in training, the dropout.
    """

    def __init__(
        self,
        descriptor_dim: int,
        row_dim: int,
        *,
        latent_dim: int = 2048,
        init_std: float = 0.02,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self._generator = generator
        self.descriptor_encoder = _linear(descriptor_dim, latent_dim, init_std, generator)
        self.descriptor_decoder = _linear(latent_dim, descriptor_dim, init_std, generator)
        self.row_encoder = _linear(row_dim, latent_dim, init_std, generator)
        self.row_decoder = _linear(latent_dim, row_dim, init_std, generator)

    @staticmethod
    def from_state(state: dict[str, Tensor]) -> IcisNetworks:
        """Rebuild trained networks, in eval mode, from their `state_dict`."""
        latent_dim, descriptor_dim = state["descriptor_encoder.weight"].shape
        row_dim = state["row_decoder.weight"].shape[0]
        networks = IcisNetworks(descriptor_dim, row_dim, latent_dim=latent_dim, generator=torch.Generator())
        networks.load_state_dict(state)
        return networks.eval()

    def row_from_descriptor(self, descriptors: Tensor) -> Tensor:
        """The prediction for new classes: (n, descriptor_dim) -> (n, row_dim)."""
        return self.row_decoder(self.encode_descriptors(descriptors))

    def row_from_row(self, rows: Tensor) -> Tensor:
        """Reconstruction: (n, row_dim) -> (n, row_dim)."""
        return self.row_decoder(self.encode_rows(rows))

    def descriptor_from_row(self, rows: Tensor) -> Tensor:
        """Cross-reconstruction: (n, row_dim) -> (n, descriptor_dim)."""
        return self.descriptor_decoder(self.encode_rows(rows))

    def descriptor_from_descriptor(self, descriptors: Tensor) -> Tensor:
        """Reconstruction: (n, descriptor_dim) -> (n, descriptor_dim)."""
        return self.descriptor_decoder(self.encode_descriptors(descriptors))

    def encode_descriptors(self, descriptors: Tensor) -> Tensor:
        """Latents: (n, descriptor_dim) -> (n, latent_dim)."""
        return self._encode(self.descriptor_encoder, descriptors)

    def encode_rows(self, rows: Tensor) -> Tensor:
        """Latents: (n, row_dim) -> (n, latent_dim)."""
        return self._encode(self.row_encoder, rows)

    def _encode(self, encoder: nn.Linear, inputs: Tensor) -> Tensor:
        latent = torch.relu(encoder(inputs))
        if self.training and self.dropout:
            # torch's own dropout draws from the global random state, which is the caller's.
            keep = torch.rand(latent.shape, generator=self._generator, dtype=torch.float32) >= self.dropout
            latent = latent * keep / (1 - self.dropout)
        return latent


def icis_loss(networks: IcisNetworks, descriptors: Tensor, rows: Tensor, is_seen: Tensor) -> Tensor:
    """Sum the four cosine terms, with equal weight.

    Args:
        networks: The networks in training.
        descriptors: (n, descriptor_dim), of seen and unseen classes.
        rows: (num_seen_in_batch, row_dim), the rows of the seen ones, in the same order.
        is_seen: (n,) bool; unseen classes take part in descriptor -> descriptor alone.

    Returns:
        A scalar between 0 and 8; each term is the mean of 1 - cos over its classes.

    Source: section 3.2 of the paper.
    """
    # Either decoder reads the same latents, so each side is encoded once.
    of_descriptors = networks.encode_descriptors(descriptors)
    loss = _cosine_loss(networks.descriptor_decoder(of_descriptors), descriptors)
    if not is_seen.any():
        return loss
    of_rows = networks.encode_rows(rows)
    return (
        loss
        + _cosine_loss(networks.row_decoder(of_rows), rows)
        + _cosine_loss(networks.descriptor_decoder(of_rows), descriptors[is_seen])
        + _cosine_loss(networks.row_decoder(of_descriptors[is_seen]), rows)
    )


def _cosine_loss(predicted: Tensor, target: Tensor) -> Tensor:
    return (1 - cosine_similarity(predicted, target, dim=1)).mean()


def _linear(in_features: int, out_features: int, init_std: float, generator: torch.Generator) -> nn.Linear:
    # skip_init: torch's default initialisation would draw from the global random state.
    layer = nn.utils.skip_init(nn.Linear, in_features, out_features, dtype=torch.float32, device="cpu")
    with torch.no_grad():
        layer.weight.normal_(0.0, init_std, generator=generator)
        layer.bias.zero_()
    return layer
