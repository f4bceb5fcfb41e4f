"""By what a row is known again: hashes of it as it was written, and as half precision rounds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from timm_inject.cache import content_key
from timm_inject.head import Head

__all__ = ["hash_rounded_rows", "hash_rows", "hash_seen_rows", "written_rows"]

_HALVES = (torch.float16, torch.bfloat16)


def hash_rows(rows: Sequence[Tensor]) -> list[str]:
    """Hash each class's row over all layers, given (num_classes, row_dim) a layer, in the precision of the head."""
    return [content_key(*(part[position].float() for part in rows))[:16] for position in range(len(rows[0]))]


def hash_rounded_rows(rows: Sequence[Tensor]) -> list[tuple[str, ...]]:
    """The same of each row in float16 and in bfloat16, by which it is known after `model.half()` or `model.bfloat16()`."""
    hashes = [hash_rows([part.to(dtype) for part in rows]) for dtype in _HALVES]
    return list(zip(*hashes, strict=True))


def hash_seen_rows(rows: Sequence[Tensor]) -> str:
    """One hash of all rows, (num_seen, row_dim) a layer."""
    return content_key(*(part.float() for part in rows))[:16]


def written_rows(head: Head, rows: Sequence[Tensor]) -> list[Tensor]:
    """What `read_rows` will give for rows that are written: the head's precision may be less than theirs."""
    dtypes = [leaf.layer.get_parameter("weight").dtype for leaf in head.leaves]
    return [part.to(dtype).float() for dtype, part in zip(dtypes, rows, strict=True)]
