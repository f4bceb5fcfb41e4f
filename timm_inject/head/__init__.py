"""The model's classifier: find its layers, read their rows, give it others.

This package and `inject.py` are the only places that touch the user's model.
"""

from timm_inject.head.finding import check_not_projection, find_head
from timm_inject.head.leaf import Head, Leaf, read_rows
from timm_inject.head.optimizer import refresh_optimizer
from timm_inject.head.resizing import HeadState, resize_head
from timm_inject.head.wrappers import unwrap_model

__all__ = [
    "Head",
    "HeadState",
    "Leaf",
    "check_not_projection",
    "find_head",
    "read_rows",
    "refresh_optimizer",
    "resize_head",
    "unwrap_model",
]
