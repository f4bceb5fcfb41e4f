"""`kernel-ridge`: Gaussian kernel ridge regression from descriptors to centred rows, in closed form."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from timm_inject.mappers.base import Mapper, ProgressCallback
from timm_inject.mappers.span import RowSpan

__all__ = [
    "KernelChoice",
    "KernelRidgeMapper",
    "choose_kernel",
    "gaussian_kernel",
    "leave_one_out_rows",
    "middle_cosine",
    "solve_ridge",
]

# The kernel's width, as a share of the median distance between seen descriptors, and the ridge (the kernel's diagonal
# is 1). First the width is chosen at the middle ridge, then the ridge; each on the seen classes, predicted without themselves.
WIDTHS = (0.2, 0.25, 0.3, 0.35, 0.45, 0.7, 1.0, 1.5)
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
_MIDDLE_RIDGE = 0.1
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
        chosen = KernelChoice(**self.given) if self.given else choose_kernel(descriptors, centred)
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
    """(K + ridge I)^-1 Y: (n, n), (n, dim) -> (n, dim). The kernel is overwritten."""
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
    score = _leave_one_out_score(descriptors, centred_rows)
    width = _climb(WIDTHS, lambda width: score(width, _MIDDLE_RIDGE).cosine)
    return score(width, _climb(RIDGES, lambda ridge: score(width, ridge).cosine))


def middle_cosine(descriptors: Tensor, centred_rows: Tensor) -> float:
    """The mean cosine from where `choose_kernel` starts: tells good descriptors from bad ones at a fraction of its cost."""
    return _leave_one_out_score(descriptors, centred_rows)(_middle(WIDTHS), _MIDDLE_RIDGE).cosine


def _leave_one_out_score(descriptors: Tensor, centred_rows: Tensor) -> Callable[[float, float], KernelChoice]:
    """A function of the width, as a share of the median distance, and the ridge."""
    step = -(-len(descriptors) // _MAX_TRIED)
    descriptors, centred_rows = descriptors[::step], centred_rows[::step]
    spread = torch.pdist(descriptors).median().clamp_min(1e-6).item()
    # The cosines need inner products only, so they are taken in the rows' own span: at most n columns instead of row_dim.
    coordinates = centred_rows if centred_rows.shape[1] <= len(centred_rows) else RowSpan.of(centred_rows).coordinates

    @functools.cache
    def score(width: float, ridge: float) -> KernelChoice:
        kernel = gaussian_kernel(descriptors, descriptors, width * spread)
        predicted = leave_one_out_rows(kernel, coordinates, ridge)
        return KernelChoice(width * spread, ridge, cosine_similarity(predicted, coordinates, dim=1).mean().item())

    return score


def _climb(values: Sequence[float], score: Callable[[float], float]) -> float:
    """From the middle value to the nearest one that scores better than both of its neighbours."""
    place = values.index(_middle(values))
    while True:
        best = max(range(max(place - 1, 0), min(place + 2, len(values))), key=lambda near: (score(values[near]), near == place))
        if best == place:
            return values[place]
        place = best


def _middle(values: Sequence[float]) -> float:
    return values[len(values) // 2]
