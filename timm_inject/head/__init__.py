"""The model's classifier: find its layers, read their rows, give it others.

This package and `inject.py` are the only places that touch the user's model.
"""

from timm_inject.head.config import config_of
from timm_inject.head.finding import check_not_projection, find_head
from timm_inject.head.growth import tensor_names
from timm_inject.head.leaf import Head, Leaf, raw_rows, read_rows
from timm_inject.head.optimizer import refresh_optimizer
from timm_inject.head.resizing import HeadState, describe_model, resize_head
from timm_inject.head.wrappers import as_attribute, inner_classifiers, unwrap_model

__all__ = [
    "Head",
    "HeadState",
    "Leaf",
    "as_attribute",
    "check_not_projection",
    "config_of",
    "describe_model",
    "find_head",
    "inner_classifiers",
    "raw_rows",
    "read_rows",
    "refresh_optimizer",
    "resize_head",
    "tensor_names",
    "unwrap_model",
]
