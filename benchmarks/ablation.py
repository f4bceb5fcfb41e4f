"""What each part of a mapper adds: of the paper's objective, trained with the published settings, and of the default mapper.

Source: Christensen et al., ICCV 2023, table 2, and the settings of its published code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from timm_inject.mappers import IcisMapper, IcisNetworks, IcisPaperMapper
from timm_inject.mappers.icis_paper import has_converged
from timm_inject.text import ProgressCallback

_LEARNING_RATE = 1e-5
_BATCH_SIZE = 16
# The least fall of the loss an epoch is 2e-3 for cosines and 2e-6 for squared errors, so these are shown to the rule enlarged.
_SCALE_OF_SQUARED_ERRORS = 1e3

# One after the other, as powers of the descriptors to choose from and power of the equaliser; the last is `icis` itself.
PARTS_STEPS: dict[str, tuple[tuple[float, ...], float]] = {
    "kernel ridge on centred descriptors and rows": ((1.0,), 0.0),
    "+ roots of the descriptors where they help": (IcisMapper.powers, 0.0),
    "+ weak directions strengthened: `icis`": (IcisMapper.powers, IcisMapper.equalizer),
}


class PartsMapper(IcisMapper):
    """`icis` with some of its parts."""

    name = "icis-parts"

    def __init__(self, parts: tuple[tuple[float, ...], float]) -> None:
        super().__init__()
        powers, equalizer = parts
        vars(self).update(powers=powers, equalizer=equalizer)  # of this one mapper


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


class AblationMapper(IcisPaperMapper):
    """One step of the ablation. The last one is `icis-paper`."""

    name = "ablation"

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
        # Offered to every step; those without it in their objective leave it.
        takes_unseen = self.step.unseen and unseen_descriptors is not None
        everyone = torch.cat([descriptors, unseen_descriptors]) if takes_unseen and unseen_descriptors is not None else descriptors
        optimizer = torch.optim.Adam(networks.parameters(), lr=_LEARNING_RATE, fused=True)
        scale = 1.0 if self.step.cosine else _SCALE_OF_SQUARED_ERRORS
        losses: list[float] = []
        while len(losses) < self.max_epochs and not has_converged(losses):
            total, batches = 0.0, torch.randperm(len(everyone), generator=generator).split(_BATCH_SIZE)
            for batch in batches:
                is_seen = batch < len(rows)
                loss = self._loss(networks, everyone[batch], rows[batch[is_seen]], is_seen)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            losses.append(scale * total / len(batches))
            if progress is not None:
                progress("Train the ablation's mapper", len(losses), self.max_epochs)
        state = {name: tensor.detach().clone() for name, tensor in networks.state_dict().items()}
        return state | {"descriptor_dim": torch.tensor(descriptors.shape[1]), "num_epochs": torch.tensor(len(losses))}

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
