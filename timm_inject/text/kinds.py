"""What kind of thing a class is, as a part of its descriptor: the path in the lexicon's tree, "food/baked/flat bread".

Classes of one kind look alike or stand before the same background, which short texts often leave out.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from timm_inject.text.senses import load_senses

__all__ = ["KIND_DIM", "encode_kinds", "kind_words"]

# Nodes share these columns by their hash, so that a new node in the tree moves no other. Source: Weinberger et al., "Feature
# Hashing for Large Scale Multitask Learning", ICML 2009.
KIND_DIM = 512


def encode_kinds(kinds: Sequence[str | None]) -> Tensor:
    """Encode kinds: (num_classes, KIND_DIM), of length 1; zeros for None.

    Every node on the path counts with log(lines of the lexicon / lines below the node): the rarer a kind, the more two classes of
    it have in common. Source of the weights: Sparck Jones, "A Statistical Interpretation of Term Specificity and Its Application in
    Retrieval", Journal of Documentation, 1972.
    """
    encoded = torch.zeros(len(kinds), KIND_DIM, dtype=torch.float32, device="cpu")
    for row, kind in zip(encoded, kinds, strict=True):
        for column, weight in _features(kind) if kind else ():
            row[column] += weight
    return normalize(encoded)


def kind_words(kind: str) -> str:
    """The path as words, the nearest kind first: "food/baked/flat bread" -> "flat bread baked food"."""
    return " ".join(reversed(kind.split("/")))


@functools.cache
def _features(kind: str) -> tuple[tuple[int, float], ...]:
    counts = load_senses().kind_counts
    steps = kind.split("/")
    nodes = ["/".join(steps[:depth]) for depth in range(1, len(steps) + 1)]
    return tuple(
        (column, sign * math.log(max(counts[""], 2) / max(counts[node], 1))) for node in nodes for column, sign in (_place(node),)
    )


def _place(node: str) -> tuple[int, int]:
    """The column that a node counts in, and its sign there."""
    digest = hashlib.blake2b(node.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big") % KIND_DIM, 1 if digest[4] % 2 else -1
