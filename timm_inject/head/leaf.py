"""The layers that turn features into logits, and how they keep their rows.

A row is what decides one class in one layer: the weights of that class with the bias as last column. `LEAF_KINDS` is the one
place that says which layer types can be resized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

import torch
from timm.layers.linear import Linear as TimmLinear
from torch import Tensor, nn

from timm_inject.errors import HeadWeightsError, list_some

__all__ = [
    "LEAF_KINDS",
    "Head",
    "Leaf",
    "LeafKind",
    "LeafLayer",
    "count_rows",
    "is_leaf_layer",
    "raw_rows",
    "read_rows",
    "split_rows",
]


LeafLayer: TypeAlias = nn.Linear | nn.Conv2d
# No training leaves such a bias behind: it is minus infinity, or a large number that stands for it.
_SWITCHED_OFF = -1e4


@dataclass(frozen=True, slots=True)
class LeafKind:
    """How one layer type counts its inputs and outputs.

    Attributes:
        width: The attribute that states the number of classes.
        inputs: The attribute that states the length of a feature.
    """

    width: str
    inputs: str


_LINEAR = LeafKind(width="out_features", inputs="in_features")
_CONV = LeafKind(width="out_channels", inputs="in_channels")
# By exact type: a subclass (quantised, LoRA, cosine, ...) may compute something else from the same tensors.
# timm's own Linear (MobileNetV3, GhostNet and others) differs from nn.Linear only in TorchScript under autocast.
LEAF_KINDS: Mapping[type[LeafLayer], LeafKind] = {nn.Linear: _LINEAR, TimmLinear: _LINEAR, nn.Conv2d: _CONV}


def is_leaf_layer(module: object) -> TypeGuard[LeafLayer]:
    """Say whether a module maps one feature to one logit a class by plain rows: a Linear, or a 1x1 convolution."""
    if type(module) not in LEAF_KINDS:
        return False
    if isinstance(module, nn.Conv2d):
        plain = module.stride == (1, 1) and module.padding in ((0, 0), "valid", "same")
        return plain and module.kernel_size == (1, 1) and module.groups == 1
    return True


@dataclass(frozen=True, slots=True)
class Leaf:
    """One layer of the head, with one row a class.

    The counts are read from the layer, so a `Leaf` stays right after `resize_head`.

    Attributes:
        name: Dotted path inside the (unwrapped) model, for example "head.fc".
        layer: A Linear or a 1x1 Conv2d.
    """

    name: str
    layer: LeafLayer

    @property
    def kind(self) -> LeafKind:
        """How the layer counts."""
        return LEAF_KINDS[type(self.layer)]

    @property
    def num_classes(self) -> int:
        """Number of rows, which is the number of logits."""
        return int(getattr(self.layer, self.kind.width))

    @property
    def feature_dim(self) -> int:
        """Length of the image feature that the layer takes."""
        return int(getattr(self.layer, self.kind.inputs))

    @property
    def has_bias(self) -> bool:
        """Whether a row ends with a bias."""
        return self.layer.bias is not None

    @property
    def row_dim(self) -> int:
        """Length of a row: `feature_dim`, plus one for the bias where there is one."""
        return self.feature_dim + int(self.has_bias)


@dataclass(frozen=True, slots=True)
class Head:
    """Everything in a classifier that has one row a class.

    Most models have one leaf. Distilled ones have two, averaged; CrossViT and EfficientViM one for each of their branches;
    VOLO adds the maximum over the patches of an auxiliary one.

    Attributes:
        leaves: In the order of `get_classifier()`, further ones that the config names after them.
        module: What `model.get_classifier()` returned: a layer, a container, or a tuple of either.
    """

    leaves: tuple[Leaf, ...]
    module: Any

    @property
    def name(self) -> str:
        """Path of the first leaf."""
        return self.leaves[0].name

    @property
    def num_classes(self) -> int:
        """Number of logits; every leaf has a row for each."""
        return self.leaves[0].num_classes


def read_rows(leaf: Leaf) -> Tensor:
    """Read the classifier rows as float32 on the CPU.

    A head that was initialised at random and never trained cannot be told from a trained one by its numbers, so it
    is not refused here; zero-initialised heads are.

    Args:
        leaf: One of a head that `find_head` returned.

    Returns:
        A detached copy, shape (num_classes, feature_dim + 1) with the bias as last column, or
        (num_classes, feature_dim) if the layer has no bias.

    Raises:
        HeadWeightsError: Fewer than two classes, or rows that no training leaves behind: NaN or infinite, all zero,
            or all the same.
    """
    weight = leaf.layer.weight.detach().flatten(1)
    bias = leaf.layer.bias
    rows = weight if bias is None else torch.cat([weight, bias.detach()[:, None]], dim=1)
    rows = rows.to(device="cpu", dtype=torch.float32, copy=True)
    _check_trained(rows, leaf)
    return rows


def raw_rows(leaf: Leaf, start: int = 0, stop: int | None = None) -> Tensor:
    """Copy some rows as they are, unchecked, to the CPU: in float64 where the layer is, else in float32; either holds every bit.

    Args:
        leaf: One of a head that `find_head` returned.
        start: The first row.
        stop: Where the rows end; None takes them all.

    Returns:
        (stop - start, row_dim), with the bias as last column where the layer has one.
    """
    weight = leaf.layer.weight.detach()[start:stop].flatten(1)
    bias = leaf.layer.bias
    rows = weight if bias is None else torch.cat([weight, bias.detach()[start:stop, None]], dim=1)
    return rows.to(device="cpu", dtype=torch.promote_types(rows.dtype, torch.float32), copy=True)


def split_rows(leaf: Leaf, rows: Tensor) -> dict[str, Tensor]:
    """Give the part of `rows` (num_rows, row_dim) that belongs to each parameter of the layer, in that parameter's shape."""
    shape = leaf.layer.weight.shape[1:]
    parts = {"weight": rows[:, : leaf.feature_dim].reshape(-1, *shape)}
    if leaf.has_bias:
        parts["bias"] = rows[:, leaf.feature_dim]
    return parts


def count_rows(mask: Tensor) -> str:
    """Write how many rows a mask picks, and which."""
    positions = mask.nonzero()[:, 0].tolist()
    return f"{len(positions)} of {len(mask)} rows (positions {list_some(positions)})"


def _check_trained(rows: Tensor, leaf: Leaf) -> None:
    fix = "Load trained weights first (`pretrained=True`, or load_state_dict)."
    if len(rows) < 2:
        raise HeadWeightsError(
            f"The classifier {leaf.name!r} has {len(rows)} class; at least 2 are needed to learn how rows follow from "
            "names. Use a model with more classes."
        )
    weights = rows[:, : leaf.feature_dim]
    if leaf.has_bias and (off := (rows[:, -1] <= _SWITCHED_OFF) & weights.isfinite().all(dim=1)).any():
        raise HeadWeightsError(
            f"The classifier {leaf.name!r} has classes that are switched off by a bias of {float(rows[off, -1].max()):.3g}, "
            f"{count_rows(off)}: they can never win, and nothing can be learned from such a bias. Give them their trained bias "
            "back, inject, and switch them off again; or use a model without them."
        )
    broken = (~rows.isfinite()).any(dim=1)
    if broken.any():
        raise HeadWeightsError(f"The classifier {leaf.name!r} has NaN or infinity in {count_rows(broken)}. {fix}")
    if (rows == rows[0]).all():
        raise HeadWeightsError(
            f"The classifier {leaf.name!r} is untrained: all {len(rows)} rows are the same"
            f"{' (zero)' if not rows.any() else ''}. {fix}"
        )
    empty = (weights == 0).all(dim=1)
    if empty.any():
        raise HeadWeightsError(
            f"The classifier {leaf.name!r} has weights that are all zero, as untrained classes have, in {count_rows(empty)}. {fix} "
            "If they were switched off on purpose, inject before that, or use a model without them: they teach nothing."
        )
