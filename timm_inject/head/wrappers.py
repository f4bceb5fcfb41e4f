"""What people wrap around a model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from timm.utils.model_ema import ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["as_attribute", "inner_classifiers", "unwrap_model"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, ModelEmaV2, ModelEmaV3, AveragedModel)


def unwrap_model(model: nn.Module) -> nn.Module:
    """Give the model inside wrappers, or `model` itself.

    Looked through are `torch.compile`, `DataParallel` and `DistributedDataParallel`, the averaged copies that timm's
    `ModelEmaV2` and `ModelEmaV3` and torch's `AveragedModel` hold (such a copy is another model than the one it averages), PEFT's
    models, and whatever hands the attributes of the model inside through, as the wrappers of Fabric, DeepSpeed and FSDP do.
    """
    while True:
        if isinstance(model, _WRAPPERS):
            model = model.module
        elif (inner := _inside_compiled(model) or _inside_peft(model) or _handed_through(model)) is not None:
            model = inner
        else:
            return model


def inner_classifiers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of the timm models that a module holds at any depth; not of those inside one that was given."""
    found: list[str] = []
    for path, module in model.named_modules():
        is_inside = any(path.startswith(f"{outer}.") for outer in found)
        if path and not is_inside and callable(getattr(module, "get_classifier", None)):
            found.append(path)
            yield path, module


def as_attribute(owner: str, path: str) -> str:
    """Write a module's path as Python does: "0.body" of `model` is "model[0].body"."""
    text = owner
    for part in path.split("."):
        text += f"[{part}]" if part.isdigit() else f".{part}" if part.isidentifier() else f".get_submodule({part!r})"
    return text


def _inside_compiled(model: nn.Module) -> nn.Module | None:
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def _inside_peft(model: nn.Module) -> nn.Module | None:
    """The model that PEFT put its adapters into; by name, as PEFT need not be installed."""
    if type(model).__module__.partition(".")[0] != "peft":
        return None
    ask = getattr(model, "get_base_model", None)  # a PeftModel; a tuner alone, such as LoraModel, has the attribute only
    inner = ask() if callable(ask) else getattr(model, "model", None)
    return inner if isinstance(inner, nn.Module) and inner is not model else None


def _handed_through(model: nn.Module) -> nn.Module | None:
    """The module inside whose own method answers for the wrapper; some wrappers put a function around the method."""
    found = getattr(model, "get_classifier", None)
    if not isinstance(model, nn.Module) or not callable(found):
        return None
    owner = getattr(inspect.unwrap(found), "__self__", None)
    if owner is model or not isinstance(owner, nn.Module):
        return None
    return owner if any(owner is module for module in model.modules()) else None
