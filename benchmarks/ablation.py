"""What each part of a mapper adds: of the paper's objective, trained with the published settings, and of the default mapper.

Source: Christensen et al., ICCV 2023, table 2, and the settings of its published code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from timm_inject.mappers import IcisMapper, IcisNetworks, IcisPaperMapper, KernelRidgeMapper, Mapper
from timm_inject.text import ProgressCallback

# Of the loss, an epoch, as the published code has it.
_MIN_DROP_OF_SQUARED_ERRORS = 2e-6


class _WithRoots(KernelRidgeMapper):
    powers = IcisMapper.powers


# What the default is made of, one after the other; the last is `icis` itself.
PARTS_STEPS: dict[str, type[Mapper]] = {
    "kernel ridge on centred descriptors and rows": KernelRidgeMapper,
    "+ roots of the descriptors where they help": _WithRoots,
    "+ weak directions strengthened: `icis`": IcisMapper,
}


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
        if not step.cosine:
            vars(self).update(min_drop=_MIN_DROP_OF_SQUARED_ERRORS)

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        # Offered to every step; those without it in their objective leave it.
        return super()._fit(descriptors, rows, generator, unseen_descriptors if self.step.unseen else None, progress)

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
