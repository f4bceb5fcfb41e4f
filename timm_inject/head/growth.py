"""Which tensors of a timm architecture grow with the number of classes, asked of timm itself."""

from __future__ import annotations

import functools
import json
from typing import Any

import timm
import torch
from torch import nn

from timm_inject.head.config import config_of

__all__ = ["growing_tensors", "tensor_names"]

# Two class counts that no layer of a model has as its width by chance; only names are kept, so any two would do.
_FEW, _MORE = 7, 11
# What building a model can raise when it does not take the arguments that another release of timm recorded.
_BUILD_ERRORS = (RuntimeError, TypeError, ValueError, KeyError, AttributeError, AssertionError)


def growing_tensors(model: nn.Module) -> frozenset[str] | None:
    """Name the entries of the state dict whose shape follows `num_classes`.

    The architecture is built twice on the meta device, which takes no memory and a fraction of a second; the answer is kept.

    Returns:
        Names as in `model.state_dict()`, or None if timm does not know the model's architecture or can't build it.
    """
    known = _architecture_and_arguments(model)
    return _growing_tensors(*known) if known else None


def tensor_names(model: nn.Module) -> frozenset[str] | None:
    """Name the entries of the state dict that timm's own model of this architecture has; None as in `growing_tensors`."""
    known = _architecture_and_arguments(model)
    return _tensor_names(*known) if known else None


def _architecture_and_arguments(model: nn.Module) -> tuple[str, str] | None:
    architecture = config_of(model).get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        return None
    arguments: Any = getattr(model, "_model_args", None) or {}
    try:
        text = json.dumps({key: value for key, value in arguments.items() if key != "num_classes"}, sort_keys=True)
    except (TypeError, ValueError):
        text = "{}"
    return architecture, text


@functools.lru_cache(maxsize=64)
def _tensor_names(architecture: str, arguments: str) -> frozenset[str] | None:
    try:
        return frozenset(_shapes(architecture, _FEW, json.loads(arguments)))
    except _BUILD_ERRORS:
        return None


@functools.lru_cache(maxsize=64)
def _growing_tensors(architecture: str, arguments: str) -> frozenset[str] | None:
    try:
        few, more = (_shapes(architecture, num_classes, json.loads(arguments)) for num_classes in (_FEW, _MORE))
    except _BUILD_ERRORS:
        return None
    return frozenset(name for name in few.keys() | more.keys() if few.get(name) != more.get(name))


def _shapes(architecture: str, num_classes: int, arguments: dict[str, Any]) -> dict[str, torch.Size]:
    with torch.device("meta"):  # of this thread alone; draws no random numbers
        model = timm.create_model(architecture, num_classes=num_classes, **arguments)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
