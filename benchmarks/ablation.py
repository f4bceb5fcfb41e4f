"""The paper's own ablation: what each part of its objective adds, each step trained with the published settings.

Source: Christensen et al., ICCV 2023, table 2, and the settings of its published code.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from timm_inject.mappers import Mapper, ProgressCallback
from timm_inject.mappers import IcisNetworks

__all__ = ["ABLATION_STEPS", "AblationMapper", "AblationStep"]

_LEARNING_RATE = 1e-5
_BATCH_SIZE = 16
_MAX_EPOCHS = 1000
_WINDOW = 10
_FIRST_CHECK = 21
_PATIENCE = 5
# Least fall of the loss an epoch; the two losses have different scales.
_MIN_DROP = {"cosine": 2e-3, "mse": 2e-6}


@dataclass(frozen=True, slots=True)
class AblationStep:
    """Which terms the objective has; each step adds one to the step before.

    Attributes:
        name: Shown in the table.
        cosine: Whether terms are 1 - cosine, instead of mean squared errors.
        reconstruction: Whether descriptors and rows are reconstructed from themselves.
        cross: Whether descriptors are reconstructed from rows, too.
        unseen: Whether descriptors of the new classes take part in their reconstruction.
    """

    name: str
    cosine: bool = True
    reconstruction: bool = True
    cross: bool = True
    unseen: bool = True


ABLATION_STEPS = (
    AblationStep("MLP, squared error", cosine=False, reconstruction=False, cross=False, unseen=False),
    AblationStep("+ cosine", reconstruction=False, cross=False, unseen=False),
    AblationStep("+ both autoencoders", cross=False, unseen=False),
    AblationStep("+ cross-reconstruction", unseen=False),
    AblationStep("+ unseen descriptors"),
)


class AblationMapper(Mapper):
    """One step of the ablation. The last one is `icis-paper`."""

    name = "ablation"
    # Offered to every step; those without it in their objective leave it.
    uses_unseen_descriptors = True

    def __init__(self, step: AblationStep) -> None:
        super().__init__()
        self.step = step

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        networks = IcisNetworks(descriptors.shape[1], rows.shape[1], generator=generator).train()
        takes_unseen = self.step.unseen and unseen_descriptors is not None
        everyone = torch.cat([descriptors, unseen_descriptors]) if takes_unseen and unseen_descriptors is not None else descriptors
        optimizer = torch.optim.Adam(networks.parameters(), lr=_LEARNING_RATE, fused=True)
        losses: list[float] = []
        while len(losses) < _MAX_EPOCHS and not self._has_converged(losses):
            total, batches = 0.0, torch.randperm(len(everyone), generator=generator).split(_BATCH_SIZE)
            for batch in batches:
                is_seen = batch < len(rows)
                loss = self._loss(networks, everyone[batch], rows[batch[is_seen]], is_seen)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            losses.append(total / len(batches))
            if progress is not None:
                progress("Train the ablation's mapper", len(losses), _MAX_EPOCHS)
        state = {name: tensor.detach().clone() for name, tensor in networks.state_dict().items()}
        return state | {"descriptor_dim": torch.tensor(descriptors.shape[1]), "num_epochs": torch.tensor(len(losses))}

    def _predict(self, descriptors: Tensor) -> Tensor:
        state = {name: tensor for name, tensor in self.tensors.items() if "." in name}
        return IcisNetworks.from_state(state).row_from_descriptor(descriptors)

    def _loss(self, networks: IcisNetworks, descriptors: Tensor, rows: Tensor, is_seen: Tensor) -> Tensor:
        of_descriptors = networks.encode_descriptors(descriptors)
        terms: list[Tensor] = []
        if self.step.reconstruction:
            terms.append(self._distance(networks.descriptor_decoder(of_descriptors), descriptors))
        if len(rows):
            terms.append(self._distance(networks.row_decoder(of_descriptors[is_seen]), rows))
            of_rows = networks.encode_rows(rows) if self.step.reconstruction or self.step.cross else None
            if of_rows is not None and self.step.reconstruction:
                terms.append(self._distance(networks.row_decoder(of_rows), rows))
            if of_rows is not None and self.step.cross:
                terms.append(self._distance(networks.descriptor_decoder(of_rows), descriptors[is_seen]))
        return torch.stack(terms).sum()

    def _distance(self, predicted: Tensor, target: Tensor) -> Tensor:
        if self.step.cosine:
            return (1 - cosine_similarity(predicted, target, dim=1)).mean()
        return nn.functional.mse_loss(predicted, target)

    def _has_converged(self, losses: list[float]) -> bool:
        limit = _MIN_DROP["cosine" if self.step.cosine else "mse"]
        ends = range(len(losses) - _PATIENCE + 1, len(losses) + 1)
        return ends[0] >= _FIRST_CHECK and all(_drop_per_epoch(losses[:end]) < limit for end in ends)


def _drop_per_epoch(losses: list[float]) -> float:
    return (mean(losses[-2 * _WINDOW : -_WINDOW]) - mean(losses[-_WINDOW:])) / _WINDOW
