"""Kernel ridge regression from descriptors to classifier rows, in closed form: the default mapper, and its plain form.

Source: Elhoseiny, Elgammal, Saleh, "Write a Classifier", ICCV 2013, regress classifiers on text with kernels. Leave-one-out
predictions in closed form: Rifkin and Lippert, "Notes on Regularized Least Squares", MIT 2007.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from timm_inject.mappers.base import Mapper, normalize
from timm_inject.mappers.span import RowSpan
from timm_inject.text import ProgressCallback

__all__ = ["IcisMapper", "KernelChoice", "KernelRidgeMapper", "cauchy_kernel", "choose_kernel", "leave_one_out_rows", "solve_ridge"]

# The kernel's width as a share of the median distance between seen descriptors, and the ridge beside 1, the kernel's diagonal.
WIDTHS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
# A head of more classes tries them on evenly spaced ones: each pair tried costs the cube of this.
_MAX_TRIED = 2000
_MIN_SINGULAR_SHARE = 0.05  # keeps weak directions from being blown up
_EPSILON = 1e-6
_CHUNK = 4096  # names predicted at a time, which bounds the memory


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """Settings of a kernel ridge.

    Attributes:
        power: Entries of descriptors are raised to it, their sign kept.
        width: Of the kernel, a distance between centred descriptors.
        ridge: Beside 1, the kernel's diagonal.
        cosine: Mean over seen classes between the row predicted without the class and the true one.
    """

    power: float
    width: float
    ridge: float
    cosine: float


class KernelRidgeMapper(Mapper):
    """A Cauchy kernel on centred descriptors; width and ridge are those whose leave-one-out rows point most nearly right.

    Attributes:
        powers: Of descriptors, to choose from.
        equalizer: Power by which weak directions of the rows are strengthened; 0 for not at all.
    """

    name = "kernel-ridge"
    choices: ClassVar[tuple[str, ...]] = ("power", "width", "ridge")
    powers: ClassVar[tuple[float, ...]] = (1.0,)
    equalizer: ClassVar[float] = 0.0

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
        span = RowSpan.of(centred)
        chosen = self.given or self._choose(descriptors, span.coordinates)
        raised = raise_descriptors(descriptors, chosen["power"].item())
        mean = raised.mean(0)
        placed = normalize(raised - mean)
        coefficients = solve_ridge(cauchy_kernel(placed, placed, chosen["width"].item()), chosen["ridge"].item(), span.coordinates)
        share = (span.singular / span.singular[0].clamp_min(_EPSILON)).clamp_min(_MIN_SINGULAR_SHARE)
        return {
            "descriptor_dim": torch.tensor(descriptors.shape[1]),
            **chosen,
            "mean_descriptor": mean,
            "seen_descriptors": placed,
            "mean_row": mean_row,
            "coefficients": coefficients,
            "equalizer": share**-self.equalizer,
            "basis": span.basis,
            "length": centred.norm(dim=1).mean(),
        }

    def _choose(self, descriptors: Tensor, coordinates: Tensor) -> dict[str, Tensor]:
        chosen = choose_kernel(descriptors, coordinates, powers=self.powers)
        return {name: torch.tensor(getattr(chosen, name), dtype=torch.float64) for name in self.choices}

    def _predict(self, descriptors: Tensor) -> Tensor:
        return torch.cat([self._predict_chunk(part, self.tensors) for part in descriptors.split(_CHUNK)])

    def _predict_chunk(self, descriptors: Tensor, learned: Mapping[str, Tensor]) -> Tensor:
        placed = normalize(raise_descriptors(descriptors, learned["power"].item()) - learned["mean_descriptor"])
        coordinates = cauchy_kernel(placed, learned["seen_descriptors"], learned["width"].item()) @ learned["coefficients"]
        # A prediction's length says how sure the mapper is, nothing about the class: all get that of a seen row.
        directions = normalize(normalize(coordinates) * learned["equalizer"]) @ learned["basis"]
        return directions * learned["length"] + learned["mean_row"]


class IcisMapper(KernelRidgeMapper):
    """The default: descriptors by their roots where that helps, as for attributes, and weak directions of the rows strengthened.

    With ICIS it shares what is learned from and what for: descriptors and rows of the classes that the head knows, by the cosine of
    predicted and true rows; a kernel and a linear map stand in the place of its networks, which "icis-networks" and "icis-paper"
    have. How each part was chosen: docs/design.md ("Mapper"). Source of the roots: Perronnin, Sanchez, Mensink, "Improving the
    Fisher Kernel for Large-Scale Image Classification", ECCV 2010, section 3.2.
    """

    name = "icis"
    powers: ClassVar[tuple[float, ...]] = (1.0, 0.5)
    equalizer: ClassVar[float] = 0.3


def cauchy_kernel(one: Tensor, other: Tensor, width: float) -> Tensor:
    """1 / (1 + distance^2 / width^2): (n, dim), (m, dim) -> (n, m)."""
    # In place: for 21,843 classes a copy is 2 GB.
    return torch.cdist(one, other).square_().mul_(1 / width**2).add_(1).reciprocal_()


def raise_descriptors(descriptors: Tensor, power: float) -> Tensor:
    """Every entry raised to a power, its sign kept, and each descriptor of length 1: (n, dim) -> (n, dim)."""
    return normalize(descriptors if power == 1 else descriptors.sign() * descriptors.abs() ** power)


def solve_ridge(kernel: Tensor, ridge: float, targets: Tensor) -> Tensor:
    """(K + ridge I)^-1 Y: (n, n), (n, dim) -> (n, dim). The kernel is overwritten."""
    kernel.diagonal().add_(ridge)
    factor = kernel.mT  # the same matrix in the layout that LAPACK works on in place; `cholesky_solve` would copy it
    torch.linalg.cholesky(factor, out=factor)
    return torch.linalg.solve_triangular(factor.mT, torch.linalg.solve_triangular(factor, targets, upper=False), upper=True)


def leave_one_out_rows(kernel: Tensor, centred_rows: Tensor, ridge: float) -> Tensor:
    """Each row as kernel ridge would predict it from all the others, about their mean: (n, row_dim).

    With A = (K + ridge I)^-1, the prediction of y_i without itself is y_i - (A y)_i / A_ii. The rows are centred on a mean that y_i
    has a part in; without it that mean moves by -y_i / (n - 1), which the prediction follows as far as it is not drawn to its mean,
    by (1 - (A 1)_i / A_ii).
    """
    identity = torch.eye(len(kernel), dtype=torch.float32)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel + ridge * identity))
    diagonal = inverse.diagonal()
    moved = (1 - inverse.sum(1) / diagonal) / (len(kernel) - 1)
    return centred_rows * (1 + moved)[:, None] - (inverse @ centred_rows) / diagonal[:, None]


def choose_kernel(descriptors: Tensor, centred_rows: Tensor, *, powers: Sequence[float] = (1.0,)) -> KernelChoice:
    """Choose power, width and ridge by the mean cosine between leave-one-out rows and true rows.

    From the middle of the widths it goes to where the cosine is better as long as there is such a neighbour, then so among the
    ridges. Of more than 2000 classes, evenly spaced ones are used.

    Args:
        descriptors: (num_seen, descriptor_dim).
        centred_rows: (num_seen, row_dim), or their coordinates in an orthonormal basis of their span.
        powers: Of the descriptors, to choose from.
    """
    step = -(-len(descriptors) // _MAX_TRIED)
    descriptors, centred_rows = descriptors[::step], centred_rows[::step]
    return max((_choose_for_power(descriptors, centred_rows, power) for power in powers), key=lambda chosen: chosen.cosine)


def _choose_for_power(descriptors: Tensor, centred_rows: Tensor, power: float) -> KernelChoice:
    raised = raise_descriptors(descriptors, power)
    placed = normalize(raised - raised.mean(0))
    spread = torch.pdist(placed).median().clamp_min(_EPSILON).item()

    @functools.cache
    def cosine(width: float, ridge: float) -> float:
        predicted = leave_one_out_rows(cauchy_kernel(placed, placed, width * spread), centred_rows, ridge)
        return cosine_similarity(predicted, centred_rows, dim=1).mean().item()

    middle = RIDGES[len(RIDGES) // 2]
    width = _climb(WIDTHS, lambda width: cosine(width, middle))
    ridge = _climb(RIDGES, lambda ridge: cosine(width, ridge))
    return KernelChoice(power, width * spread, ridge, cosine(width, ridge))


def _climb(values: Sequence[float], score: Callable[[float], float]) -> float:
    """From the middle value to the nearest one that scores better than both of its neighbours."""
    place = len(values) // 2
    while True:
        best = max(range(max(place - 1, 0), min(place + 2, len(values))), key=lambda near: (score(values[near]), near == place))
        if best == place:
            return values[place]
        place = best
