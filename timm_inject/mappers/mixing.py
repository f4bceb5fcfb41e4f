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
# Up to so many seen classes for each that can take part, one table of all similarities is quicker than one a name.
_DENSE_FACTOR = 5
_MANY = 1024  # names at a time then


def solve_shares(gram: Tensor, target: Tensor, steps: int, *, allowed: Tensor | None = None) -> Tensor:
    """Shares, at least 0 with sum 1, whose mix of the candidates is near each target.

    Args:
        gram: (num_candidates, num_candidates) inner products of the candidates, or one such table a target.
        target: (n, num_candidates) inner products of the targets with the candidates; all vectors have length 1.
        steps: From equal shares towards the nearest mix. Few steps leave the shares more even.
        allowed: (n, num_candidates) bool: who can take part, where not all can.

    Returns:
        (n, num_candidates).
    """
    # Shares are kept as logarithms. The squared distance has a gradient of at most 4, so a step of 1 cannot diverge.
    logarithms = torch.zeros_like(target) if allowed is None else torch.zeros_like(target).masked_fill(~allowed, -torch.inf)
    for _ in range(steps):
        shares = torch.softmax(logarithms, dim=1)
        slope = torch.matmul(shares[:, None], gram)[:, 0] if gram.ndim == 3 else shares @ gram
        logarithms -= 2 * (slope - target)
    return torch.softmax(logarithms, dim=1)


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
    is_small = len(seen_descriptors) <= _DENSE_FACTOR * count
    gram = seen_descriptors @ seen_descriptors.T if is_small else None
    shares = torch.zeros(len(descriptors), len(seen_descriptors), dtype=torch.float32)
    for positions in torch.arange(len(descriptors)).split(_MANY if is_small else _CHUNK):
        similarity = descriptors[positions] @ seen_descriptors.T
        if itself is not None:
            similarity.scatter_(1, itself[positions, None], -torch.inf)
        nearest = similarity.topk(count, dim=1)
        if gram is not None:
            allowed = torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, nearest.indices, True)
            shares[positions] = solve_shares(gram, similarity, steps, allowed=allowed)
            continue
        candidates = seen_descriptors[nearest.indices]
        solved = solve_shares(candidates @ candidates.transpose(1, 2), nearest.values, steps)
        shares[positions] = torch.zeros_like(similarity).scatter(1, nearest.indices, solved)
    return shares
