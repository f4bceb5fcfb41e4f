"""`kernel-ridge`: Gaussian kernel ridge regression from descriptors to centred rows, in closed form."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from timm_inject.mappers.base import Mapper
from timm_inject.mappers.span import RowSpan
from timm_inject.text import ProgressCallback

__all__ = [
    "MIDDLE_RIDGE",
    "RIDGES",
    "KernelChoice",
    "KernelRidgeMapper",
    "KernelScores",
    "choose_kernel",
    "climb",
    "gaussian_kernel",
    "leave_one_out_rows",
    "mean_cosine",
    "solve_ridge",
]

# The kernel's width, as a share of the median distance between seen descriptors, and the ridge (the kernel's diagonal
# is 1). First the width is chosen at the middle ridge, then the ridge; each on the seen classes, predicted without themselves.
WIDTHS = (0.2, 0.25, 0.3, 0.35, 0.45, 0.7, 1.0, 1.5)
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
MIDDLE_RIDGE = 0.1
# Each pair tried costs the cube of this, so heads of 12,000 or 21,000 classes try them on every sixth or eleventh class.
_MAX_TRIED = 2000


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """Settings of a Gaussian kernel ridge.

    Attributes:
        width: Of the kernel, a distance between descriptors.
        ridge: Beside 1, the kernel's diagonal.
        cosine: Mean over seen classes between the row predicted without the class and the true one; NaN where it was not measured.
    """

    width: float
    ridge: float
    cosine: float = math.nan


class KernelRidgeMapper(Mapper):
    """The kernel's width and the ridge are those whose leave-one-out rows point most nearly where the true ones do.

    Source: Elhoseiny, Elgammal, Saleh, "Write a Classifier", ICCV 2013, regress classifiers on text with kernels;
    leave-one-out in closed form: Rifkin and Lippert, "Notes on Regularized Least Squares", MIT 2007.
    """

    name = "kernel-ridge"
    choices: ClassVar[tuple[str, ...]] = ("width", "ridge")

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        mean_row = rows.mean(0)
        centred = rows - mean_row
        given = {name: choice.item() for name, choice in self.given.items()}
        chosen = KernelChoice(**given) if given else choose_kernel(descriptors, centred)
        return {
            "descriptor_dim": torch.tensor(descriptors.shape[1]),
            "seen_descriptors": descriptors,
            "mean_row": mean_row,
            "width": torch.tensor(chosen.width, dtype=torch.float64),
            "ridge": torch.tensor(chosen.ridge, dtype=torch.float64),
            "coefficients": solve_ridge(gaussian_kernel(descriptors, descriptors, chosen.width), chosen.ridge, centred),
        }

    def _predict(self, descriptors: Tensor) -> Tensor:
        kernel = gaussian_kernel(descriptors, self.tensors["seen_descriptors"], self.tensors["width"].item())
        return kernel @ self.tensors["coefficients"] + self.tensors["mean_row"]


def gaussian_kernel(one: Tensor, other: Tensor, width: float) -> Tensor:
    """exp(-distance^2 / (2 width^2)): (n, dim), (m, dim) -> (n, m)."""
    # In place: for 21,843 classes a copy is 2 GB.
    return torch.cdist(one, other).square_().mul_(-1 / (2 * width**2)).exp_()


def solve_ridge(kernel: Tensor, ridge: float, targets: Tensor) -> Tensor:
    """(K + ridge I)^-1 Y: (n, n), (n, dim) -> (n, dim). Of the kernel the upper triangle is read, and all is overwritten."""
    kernel.diagonal().add_(ridge)
    factor = kernel.mT  # the same matrix in the layout that LAPACK works on in place; `cholesky_solve` would copy it
    torch.linalg.cholesky(factor, out=factor)
    return torch.linalg.solve_triangular(factor.mT, torch.linalg.solve_triangular(factor, targets, upper=False), upper=True)


def leave_one_out_rows(kernel: Tensor, centred_rows: Tensor, ridge: float) -> Tensor:
    """Each row as kernel ridge would predict it from all the others: (n, row_dim).

    With A = (K + ridge I)^-1, the prediction of row i without itself is y_i - (A y)_i / A_ii.
    """
    identity = torch.eye(len(kernel), dtype=torch.float32)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel + ridge * identity))
    return centred_rows - (inverse @ centred_rows) / inverse.diagonal()[:, None]


def choose_kernel(descriptors: Tensor, centred_rows: Tensor) -> KernelChoice:
    """Choose width and ridge by the mean cosine between leave-one-out rows and true rows.

    From the middle of the widths it goes to where the cosine is better as long as there is such a neighbour, then so among the
    ridges. Of more than 2000 classes, evenly spaced ones are used.
    """
    scores = KernelScores.of(descriptors, centred_rows)
    width = scores.best_width()
    ridge = climb(RIDGES, lambda ridge: scores.cosine(width, ridge))
    return KernelChoice(width * scores.spread, ridge, scores.cosine(width, ridge))


@dataclass(frozen=True, slots=True)
class KernelScores:
    """How well widths and ridges predict hidden rows; each pair is tried once.

    Attributes:
        step: Every step-th class takes part.
        descriptors: (n, descriptor_dim), of these.
        centred_rows: (n, at most n), their rows, or coordinates in their span where the rows are wider.
        spread: The median distance between the descriptors, the unit of widths here.
        cosines: (width, ridge) -> mean cosine, of the pairs tried.
    """

    step: int
    descriptors: Tensor
    centred_rows: Tensor
    spread: float
    cosines: dict[tuple[float, float], float] = field(default_factory=dict)

    @staticmethod
    def of(descriptors: Tensor, centred_rows: Tensor) -> KernelScores:
        """From (num_seen, descriptor_dim) descriptors and (num_seen, row_dim) rows; nothing is tried yet."""
        step = -(-len(descriptors) // _MAX_TRIED)
        descriptors, centred_rows = descriptors[::step], centred_rows[::step]
        spread = torch.pdist(descriptors).median().clamp_min(1e-6).item()
        # The cosines need inner products only, so they are taken in the rows' own span: at most n columns instead of row_dim.
        if centred_rows.shape[1] > len(centred_rows):
            centred_rows = RowSpan.of(centred_rows).coordinates
        return KernelScores(step, descriptors, centred_rows, spread)

    def cosine(self, width: float, ridge: float) -> float:
        """Mean over classes between the leave-one-out row and the true one; the width is a share of `spread`."""
        if (width, ridge) not in self.cosines:
            kernel = gaussian_kernel(self.descriptors, self.descriptors, width * self.spread)
            self.cosines[width, ridge] = mean_cosine(kernel, self.centred_rows, ridge)
        return self.cosines[width, ridge]

    def start_cosine(self) -> float:
        """At the width where `best_width` starts: tells good descriptors from bad ones at a fraction of its cost."""
        return self.cosine(_middle(WIDTHS), MIDDLE_RIDGE)

    def best_width(self) -> float:
        """The width that `climb` finds at the middle ridge; what it tried on its way is in `cosines`."""
        return climb(WIDTHS, lambda width: self.cosine(width, MIDDLE_RIDGE))


def mean_cosine(kernel: Tensor, centred_rows: Tensor, ridge: float) -> float:
    """Mean cosine between the rows and `leave_one_out_rows`."""
    return cosine_similarity(leave_one_out_rows(kernel, centred_rows, ridge), centred_rows, dim=1).mean().item()


def climb(values: Sequence[float], score: Callable[[float], float]) -> float:
    """From the middle value to the nearest one that scores better than both of its neighbours; each is scored once."""
    score = functools.cache(score)
    place = values.index(_middle(values))
    while True:
        best = max(range(max(place - 1, 0), min(place + 2, len(values))), key=lambda near: (score(values[near]), near == place))
        if best == place:
            return values[place]
        place = best


def _middle(values: Sequence[float]) -> float:
    return values[len(values) // 2]
