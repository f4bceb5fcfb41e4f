"""Gaussian kernels of several widths, on several powers of the descriptors, added up.

With few classes many widths predict hidden rows about equally well, and which is the very best is chance. Their sum, each with a
share that falls exponentially with what it predicts worse, is better than any of them; with many classes one or two are left.
Source of the shares: exponential weights, Dalalyan and Tsybakov, "Aggregation by Exponential Weighting, Sharp PAC-Bayesian Bounds
and Sparsity", Machine Learning, 2008. Source of summed kernels: Gönen and Alpaydin, "Multiple Kernel Learning Algorithms", JMLR,
2011, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.mappers.base import normalize
from timm_inject.mappers.kernel_ridge import RIDGES, KernelScores, climb, mean_cosine

__all__ = ["KernelBlend", "Texts", "choose_blend"]

# A kernel's share is exp(3 n cosine), n the classes it was tried on, 2000 at most. Chosen on CUB-100's seen classes alone (heads
# for 12 to 55 of 73, 18 others in the part of new ones, eleven draws; 2 to 4 did alike) and by hidden rows of three ImageNet
# heads, where it changes next to nothing. At 55 classes the area under the seen-unseen curve is 66.5 there, and 66.0 with the best
# kernel alone.
_SHARPNESS = 3.0
_MIN_SHARE = 0.01  # kernels with less are left out
_CHUNK = 512  # rows of a kernel at a time


@dataclass(frozen=True, slots=True)
class Texts:
    """Descriptors of seen classes as a kernel sees them.

    Attributes:
        power: Every entry is raised to it, its sign kept.
        vectors: (num_seen, descriptor_dim), of length 1.
        mean: (descriptor_dim,), their mean.
        centred: (num_seen, descriptor_dim), without the mean and of length 1 again.
    """

    power: float
    vectors: Tensor
    mean: Tensor
    centred: Tensor

    @staticmethod
    def of(descriptors: Tensor, power: float) -> Texts:
        """From (num_seen, descriptor_dim) descriptors as they come."""
        vectors = _raise(descriptors, power)
        mean = vectors.mean(0)
        return Texts(power, vectors, mean, normalize(vectors - mean))

    def vectors_of(self, descriptors: Tensor) -> Tensor:
        """Other descriptors, made like `vectors`."""
        return _raise(descriptors, self.power)

    def centred_of(self, descriptors: Tensor) -> Tensor:
        """Other descriptors, made like `centred`."""
        return normalize(_raise(descriptors, self.power) - self.mean)


@dataclass(frozen=True, slots=True)
class KernelBlend:
    """A sum of Gaussian kernels; the diagonal is 1.

    Attributes:
        powers: (num_kernels,), of the descriptors that each sees.
        widths: (num_kernels,), distances between such descriptors.
        shares: (num_kernels,), with sum 1.
    """

    powers: Tensor
    widths: Tensor
    shares: Tensor

    @property
    def main_power(self) -> float:
        """The power with the largest share."""
        return max(self.powers.unique().tolist(), key=lambda power: self.shares[self.powers == power].sum().item())

    def texts_of(self, seen_descriptors: Tensor) -> dict[float, Texts]:
        """What the kernels see of (num_seen, descriptor_dim) descriptors, by power; made once for many names."""
        return {power: Texts.of(seen_descriptors, power) for power in self.powers.unique().tolist()}

    def kernel(self, descriptors: Tensor, texts: Mapping[float, Texts], *, upper_only: bool = False) -> Tensor:
        """(n, descriptor_dim) descriptors as they come, and `texts_of` the seen ones -> (n, num_seen).

        With `upper_only`, for seen classes with themselves, half of it stays zero, below the diagonal: enough for `solve_ridge`.
        """
        kernel = torch.zeros(len(descriptors), len(texts[self.main_power].centred), dtype=torch.float32)
        for power, seen in texts.items():
            self._add_kernels(kernel, seen.centred_of(descriptors), seen.centred, power, upper_only=upper_only)
        return kernel

    def _add_kernels(self, kernel: Tensor, placed: Tensor, centred: Tensor, power: float, *, upper_only: bool) -> None:
        """Add the kernels that see this power, a few rows at a time; with `upper_only`, from the diagonal's block on."""
        chosen = self.powers == power
        terms = list(zip(self.widths[chosen].tolist(), self.shares[chosen].tolist(), strict=True))
        lengths = centred.square().sum(1)
        # Two buffers for all parts: to allocate and free them anew takes longer than to fill them.
        buffers = torch.empty(2, min(_CHUNK, len(placed)) * len(centred), dtype=torch.float32)
        for start in range(0, len(placed), _CHUNK):
            rows, first = placed[start : start + _CHUNK], start if upper_only else 0
            shape = (len(rows), len(centred) - first)
            squared, bell = (buffer[: shape[0] * shape[1]].view(shape) for buffer in buffers)
            torch.addmm(lengths[first:], rows, centred[first:].T, alpha=-2, out=squared)
            squared.add_(rows.square().sum(1)[:, None]).clamp_min_(0)
            for width, share in terms:
                torch.mul(squared, -1 / (2 * width**2), out=bell)
                kernel[start : start + _CHUNK, first:].add_(bell.exp_(), alpha=share)


def choose_blend(
    descriptors: Tensor, coordinates: Tensor, powers: Sequence[float], *, only_best: bool = False
) -> tuple[KernelBlend, float]:
    """Choose kernels, their shares and one ridge by the mean cosine between leave-one-out rows and true rows.

    The widths are those that `choose_kernel` tries on its way, for every power that starts near enough to the best one.

    Args:
        descriptors: (num_seen, descriptor_dim).
        coordinates: (num_seen, rank), centred rows, or their coordinates in an orthonormal basis of their span.
        powers: To try on the descriptors.
        only_best: One kernel, with all of the share.

    Returns:
        The kernels and the ridge.
    """
    scores = {power: KernelScores.of(Texts.of(descriptors, power).centred, coordinates) for power in powers}
    any_scores = scores[powers[0]]  # of the same classes whatever the power
    sharpness = _SHARPNESS * len(any_scores.centred_rows)
    best_start = max(of.start_cosine() for of in scores.values())
    tried: list[tuple[float, float, float]] = []
    for power, of in scores.items():
        if sharpness * (best_start - of.start_cosine()) <= -math.log(_MIN_SHARE):
            of.best_width()
            tried += [(power, width, cosine) for (width, _), cosine in of.cosines.items()]
    cosines = torch.tensor([cosine for _, _, cosine in tried], dtype=torch.float64)
    shares = torch.softmax(sharpness * cosines, 0)
    if only_best:
        shares = (torch.arange(len(tried)) == cosines.argmax()).double()
    kept = (shares >= _MIN_SHARE).nonzero()[:, 0].tolist()
    chosen = [tried[index] for index in kept]
    blend = KernelBlend(
        powers=torch.tensor([power for power, _, _ in chosen], dtype=torch.float64),
        widths=torch.tensor([width * scores[power].spread for power, width, _ in chosen], dtype=torch.float64),
        shares=shares[kept] / shares[kept].sum(),
    )
    known = descriptors[:: any_scores.step]
    kernel = blend.kernel(known, blend.texts_of(known))
    return blend, climb(RIDGES, lambda ridge: mean_cosine(kernel, any_scores.centred_rows, ridge))


def _raise(descriptors: Tensor, power: float) -> Tensor:
    return normalize(descriptors if power == 1 else descriptors.sign() * descriptors.abs() ** power)
