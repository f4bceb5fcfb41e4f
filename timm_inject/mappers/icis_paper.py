"""`icis-paper`: the ICIS mapper as it was published, for comparison. Slow: minutes for 100 classes."""

from __future__ import annotations

from statistics import mean
from typing import ClassVar

import torch
from torch import Tensor

from timm_inject.mappers.base import Mapper
from timm_inject.mappers.networks import IcisNetworks, icis_loss
from timm_inject.text import ProgressCallback

__all__ = ["IcisPaperMapper", "has_converged"]

# Source of all figures: Christensen et al., ICCV 2023, section 4 and the published code's settings.
_LEARNING_RATE = 1e-5
_BATCH_SIZE = 16
_MAX_EPOCHS = 1000
_WINDOW = 10
_MIN_DROP_PER_EPOCH = 2e-3
_PATIENCE = 5
_FIRST_CHECK = 21


class IcisPaperMapper(Mapper):
    """Rows as they are, cosine losses, Adam at 1e-5 in batches of 16, until the training loss levels off.

    The cosine loss leaves the length of a predicted row to chance: it is what the decoder happens to give, as published.

    Attributes:
        max_epochs: Where training ends at the latest.
        min_drop: The least fall of the loss an epoch that keeps training going.
    """

    name = "icis-paper"
    uses_unseen_descriptors = True
    knows_length = False
    # Its rows are made to stand beside trained ones as they are; docs/design.md ("Calibration") says what an offset does to them.
    is_calibrated = False
    # One fold doubles the time; all five would take six times as long.
    crossfits = 1
    max_epochs: ClassVar[int] = _MAX_EPOCHS
    min_drop: ClassVar[float] = _MIN_DROP_PER_EPOCH

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        networks = IcisNetworks(descriptors.shape[1], rows.shape[1], generator=generator)
        everyone = descriptors if unseen_descriptors is None else torch.cat([descriptors, unseen_descriptors])
        optimizer = torch.optim.Adam(networks.parameters(), lr=_LEARNING_RATE, fused=True)
        losses: list[float] = []
        while len(losses) < self.max_epochs and not has_converged(losses, self.min_drop):
            losses.append(self._train_epoch(networks, optimizer, everyone, rows, generator))
            if progress is not None:
                progress("Train the mapper", len(losses), self.max_epochs)
        if progress is not None:
            progress("Train the mapper", self.max_epochs, self.max_epochs)
        tensors = {name: tensor.detach().clone() for name, tensor in networks.state_dict().items()}
        sizes = {"descriptor_dim": torch.tensor(descriptors.shape[1]), "num_epochs": torch.tensor(len(losses))}
        return tensors | sizes

    def _train_epoch(
        self,
        networks: IcisNetworks,
        optimizer: torch.optim.Optimizer,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
    ) -> float:
        networks.train()
        order = torch.randperm(len(descriptors), generator=generator)
        total = 0.0
        for batch in order.split(_BATCH_SIZE):
            is_seen = batch < len(rows)
            loss = self._loss(networks, descriptors[batch], rows[batch[is_seen]], is_seen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        return total / len(descriptors)

    def _loss(self, networks: IcisNetworks, descriptors: Tensor, rows: Tensor, is_seen: Tensor) -> Tensor:
        return icis_loss(networks, descriptors, rows, is_seen)

    def _predict(self, descriptors: Tensor) -> Tensor:
        return self._networks().row_from_descriptor(descriptors)

    def _networks(self) -> IcisNetworks:
        weights = {name: tensor for name, tensor in self.tensors.items() if "." in name}
        return IcisNetworks.from_state(weights)


def has_converged(losses: list[float], min_drop: float = _MIN_DROP_PER_EPOCH) -> bool:
    """Whether the loss of the last epochs falls by less than `min_drop` an epoch.

    The slope at an epoch is the mean loss of its 10 epochs against the 10 before; it must be under the limit for 5 epochs
    in a row, the first of which is epoch 21.

    Args:
        losses: The training loss of every epoch so far.
        min_drop: The limit.
    """
    latest = range(len(losses) - _PATIENCE + 1, len(losses) + 1)
    return latest[0] >= _FIRST_CHECK and all(_drop_per_epoch(losses[:end]) < min_drop for end in latest)


def _drop_per_epoch(losses: list[float]) -> float:
    return (mean(losses[-2 * _WINDOW : -_WINDOW]) - mean(losses[-_WINDOW:])) / _WINDOW
