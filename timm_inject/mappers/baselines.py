"""Row predictors from the literature, to compare with. Each is a few lines over `Mapper`."""

from __future__ import annotations

import torch
from torch import Tensor

from timm_inject.mappers.base import Mapper, normalize
from timm_inject.text import ProgressCallback

__all__ = [
    "ConseMapper",
    "CostaMapper",
    "MeanRowMapper",
    "RidgeMapper",
    "SmoMapper",
    "WeightedAverageMapper",
]


class _SimilarityMapper(Mapper):
    """A new row is a mix of the seen rows; subclasses say with which shares."""

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        return {
            "descriptor_dim": torch.tensor(descriptors.shape[1]),
            "seen_descriptors": normalize(descriptors),
            "seen_rows": rows,
        }

    def _predict(self, descriptors: Tensor) -> Tensor:
        return self._shares(normalize(descriptors), self.tensors["seen_descriptors"]) @ self.tensors["seen_rows"]

    def _shares(self, descriptors: Tensor, seen_descriptors: Tensor) -> Tensor:
        """(num_unseen, num_seen): how much of each seen row goes into each new one."""
        raise NotImplementedError


class MeanRowMapper(_SimilarityMapper):
    """The mean of the seen rows, for every name alike: what anything must beat."""

    name = "mean-row"

    def _shares(self, descriptors: Tensor, seen_descriptors: Tensor) -> Tensor:
        return torch.full((len(descriptors), len(seen_descriptors)), 1 / len(seen_descriptors), dtype=torch.float32)


class WeightedAverageMapper(_SimilarityMapper):
    """WAvg: all seen rows, weighted by exp(-5 x distance) of their descriptors.

    Source: Xu et al., "VGSE: Visually-Grounded Semantic Embeddings for Zero-Shot Learning", CVPR 2022, section 3.2, with its
    eta = 5; there it predicts class embeddings, here rows, from all seen classes as the ICIS paper uses it. The weights are
    divided by their sum, so that the row keeps the scale of a seen one.
    """

    name = "wavg"

    def _shares(self, descriptors: Tensor, seen_descriptors: Tensor) -> Tensor:
        return torch.softmax(-5.0 * torch.cdist(descriptors, seen_descriptors), dim=1)


class SmoMapper(_SimilarityMapper):
    """SMO: the shares, between 0 and 1 with sum 1, whose mix of seen descriptors comes nearest to the new descriptor.

    Source: Xu et al., VGSE, CVPR 2022, section 3.2 (lower bound 0).
    """

    name = "smo"

    def _shares(self, descriptors: Tensor, seen_descriptors: Tensor) -> Tensor:
        return _solve_shares(seen_descriptors @ seen_descriptors.T, descriptors @ seen_descriptors.T, steps=300)


class CostaMapper(_SimilarityMapper):
    """COSTA: all seen rows, weighted by the similarity of their descriptors.

    Source: Mensink et al., "COSTA: Co-Occurrence Statistics for Zero-Shot Classification", CVPR 2014, equation 3, with the
    cosine of descriptors in place of the co-occurrence counts, which image-free injection does not have; negative
    similarities count as zero and the weights are divided by their sum.
    """

    name = "costa"

    def _shares(self, descriptors: Tensor, seen_descriptors: Tensor) -> Tensor:
        similarity = (descriptors @ seen_descriptors.T).clamp_min(0)
        return similarity / similarity.sum(dim=1, keepdim=True).clamp_min(1e-12)


class ConseMapper(_SimilarityMapper):
    """ConSE turned into rows: the 10 nearest seen rows, weighted by the cosine of their descriptors.

    Source: Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014 (10 classes in the
    mix). ConSE itself mixes descriptors by an image's probabilities and is no linear row; this is the linear counterpart.
    """

    name = "conse"

    def _shares(self, descriptors: Tensor, seen_descriptors: Tensor) -> Tensor:
        return _keep_largest((descriptors @ seen_descriptors.T).clamp_min(0), 10)


class RidgeMapper(Mapper):
    """Linear ridge regression from descriptors to centred rows."""

    name = "ridge"

    def _fit(
        self,
        descriptors: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        unseen_descriptors: Tensor | None,
        progress: ProgressCallback | None,
    ) -> dict[str, Tensor]:
        mean_descriptor, mean_row = descriptors.mean(0), rows.mean(0)
        slope = _ridge_slope(descriptors - mean_descriptor, rows - mean_row)
        return {
            "descriptor_dim": torch.tensor(descriptors.shape[1]),
            "mean_descriptor": mean_descriptor,
            "mean_row": mean_row,
            "slope": slope,
        }

    def _predict(self, descriptors: Tensor) -> Tensor:
        return (descriptors - self.tensors["mean_descriptor"]) @ self.tensors["slope"] + self.tensors["mean_row"]


# The ridge of the linear baselines, as a share of the Gram matrix's mean eigenvalue: fixed, as a baseline's should be.
_RELATIVE_RIDGE = 0.1


def _ridge_slope(inputs: Tensor, targets: Tensor) -> Tensor:
    gram = inputs.T @ inputs
    ridge = _RELATIVE_RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=torch.float32), inputs.T @ targets)


def _keep_largest(weights: Tensor, count: int) -> Tensor:
    """Zero all but the `count` largest weights of each row, then divide by the row's sum."""
    largest = weights.topk(min(count, weights.shape[1]), dim=1)
    kept = torch.zeros_like(weights).scatter(1, largest.indices, largest.values)
    return kept / kept.sum(dim=1, keepdim=True).clamp_min(1e-12)


def _solve_shares(gram: Tensor, target: Tensor, steps: int) -> Tensor:
    """Shares, at least 0 with sum 1, whose mix of the candidates is near each target.

    Args:
        gram: (num_candidates, num_candidates) inner products of the candidates.
        target: (n, num_candidates) inner products of the targets with the candidates; all vectors have length 1.
        steps: From equal shares towards the nearest mix. Few steps leave the shares more even.

    Returns:
        (n, num_candidates).

    Source: exponentiated gradient descent: Kivinen and Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear
    Predictors", Information and Computation, 1997.
    """
    # Shares are kept as logarithms. The squared distance has a gradient of at most 4, so a step of 1 cannot diverge.
    logarithms = torch.zeros_like(target)
    for _ in range(steps):
        shares = torch.softmax(logarithms, dim=1)
        logarithms -= 2 * (shares @ gram - target)
    return torch.softmax(logarithms, dim=1)
