"""Mixes of seen classes whose descriptor comes nearest to a new one.

Source: Xu et al., "VGSE: Visually-Grounded Semantic Embeddings for Zero-Shot Learning", CVPR 2022, section 3.2 (SMO, lower bound
0), solved by exponentiated gradient descent: Kivinen and Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear
Predictors", Information and Computation, 1997.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest_shares", "solve_shares"]

_CHUNK = 64  # names at a time: each needs a table of its neighbours' similarities


def solve_shares(gram: Tensor, target: Tensor, steps: int) -> Tensor:
    """Shares, at least 0 with sum 1, whose mix of the candidates is near each target.

    Args:
        gram: (num_candidates, num_candidates) inner products of the candidates, or one such table a target.
        target: (n, num_candidates) inner products of the targets with the candidates; all vectors have length 1.
        steps: From equal shares towards the nearest mix. Few steps leave the shares more even.

    Returns:
        (n, num_candidates).
    """
    # The gradient of the squared distance is at most 4 for unit vectors, so a step of 1 cannot diverge.
    shares = torch.full_like(target, 1 / target.shape[1])
    for _ in range(steps):
        slope = torch.matmul(shares[:, None], gram)[:, 0] if gram.ndim == 3 else shares @ gram
        shares = torch.softmax(shares.clamp_min(1e-30).log() - 2 * (slope - target), dim=1)
    return shares


def nearest_shares(
    descriptors: Tensor, seen_descriptors: Tensor, *, count: int, steps: int, itself: Tensor | None = None
) -> Tensor:
    """`solve_shares` among the nearest seen classes of each descriptor, so that time and memory grow with the names only.

    Args:
        descriptors: (n, descriptor_dim), of length 1.
        seen_descriptors: (num_seen, descriptor_dim), of length 1.
        count: How many seen classes can take part.
        steps: As in `solve_shares`.
        itself: (n,) for each descriptor the seen class that must not take part, where these are seen classes themselves.

    Returns:
        (n, num_seen), zero for classes that take no part.
    """
    count = min(count, len(seen_descriptors) - (itself is not None))
    shares = torch.zeros(len(descriptors), len(seen_descriptors), dtype=torch.float32)
    for positions in torch.arange(len(descriptors)).split(_CHUNK):
        similarity = descriptors[positions] @ seen_descriptors.T
        if itself is not None:
            similarity.scatter_(1, itself[positions, None], -torch.inf)
        nearest = similarity.topk(count, dim=1)
        candidates = seen_descriptors[nearest.indices]
        solved = solve_shares(candidates @ candidates.transpose(1, 2), nearest.values, steps)
        shares[positions] = torch.zeros_like(similarity).scatter(1, nearest.indices, solved)
    return shares
