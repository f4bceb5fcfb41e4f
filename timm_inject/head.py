"""The model's final layer: find it, read its rows, widen it.

A row is what decides one class: the weights of that class with the bias as last column. This file and `inject.py` are
the only ones that touch the user's model. `_LEAF_KINDS` is the one place that says which layer types can be widened.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.linear import Linear as TimmLinear
from timm.models import get_pretrained_cfg, list_pretrained
from torch import Tensor, nn
from torch.nn.utils import parametrize

from timm_inject.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    HeadWeightsError,
    UnsupportedHeadError,
    list_some,
)

__all__ = ["Head", "HeadState", "find_head", "read_rows", "unwrap_model", "widen_head"]

_RECORD_ATTRIBUTE = "timm_inject_record"
_FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_EXAMPLE_TAG = "vit_base_patch16_224.augreg_in1k"
_CLASSIFIER_TAGS = ("in1k", "in12k", "in21k", "in22k")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Head:
    """The final layer of a classifier, one row a class.

    The counts are read from the layer, so a `Head` stays right after `widen_head`.

    Attributes:
        name: Dotted path inside the (unwrapped) model, for example "head.fc".
        layer: The layer itself, the very object that `model.get_classifier()` returns.
    """

    name: str
    layer: nn.Linear

    @property
    def num_classes(self) -> int:
        """Number of rows, which is the number of logits."""
        return self.layer.out_features

    @property
    def feature_dim(self) -> int:
        """Length of the image feature that the layer takes."""
        return self.layer.in_features

    @property
    def has_bias(self) -> bool:
        """Whether a row ends with a bias."""
        return self.layer.bias is not None

    @property
    def row_dim(self) -> int:
        """Length of a row: `feature_dim`, plus one for the bias where there is one."""
        return self.feature_dim + int(self.has_bias)


@dataclass(frozen=True, slots=True)
class _LeafKind:
    """How one layer type keeps its rows.

    Attributes:
        width: The layer's attribute that states the number of classes.
        read: Layer -> rows (num_classes, row_dim), in the layer's own dtype and device.
        split: (layer, rows) -> the part of the rows that belongs to each parameter, by parameter name.
    """

    width: str
    read: Callable[[nn.Linear], Tensor]
    split: Callable[[nn.Linear, Tensor], dict[str, Tensor]]


def _read_linear(layer: nn.Linear) -> Tensor:
    if layer.bias is None:
        return layer.weight
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1)


def _split_linear(layer: nn.Linear, rows: Tensor) -> dict[str, Tensor]:
    parts = {"weight": rows[:, : layer.in_features]}
    if layer.bias is not None:
        parts["bias"] = rows[:, layer.in_features]
    return parts


_LINEAR = _LeafKind(width="out_features", read=_read_linear, split=_split_linear)
# By exact type: a subclass (quantised, LoRA, cosine, ...) may compute something else from the same tensors.
# timm's own Linear (MobileNetV3, GhostNet and others) differs from nn.Linear only in TorchScript under autocast.
_LEAF_KINDS: Mapping[type[nn.Module], _LeafKind] = {nn.Linear: _LINEAR, TimmLinear: _LINEAR}


@dataclass(frozen=True, slots=True)
class HeadState:
    """Everything that a change of the class count touches on a model, kept so that it can be put back.

    The saved values are the objects themselves (parameters included), not copies: `restore` gives back the same
    `Parameter` objects, so an optimizer that holds them still works.
    """

    saved: tuple[tuple[dict[str, Any], str, object], ...]

    @classmethod
    def capture(cls, model: nn.Module, head: Head) -> "HeadState":
        """Remember the current state of `model`, whose head is `head`."""
        saved: list[tuple[dict[str, Any], str, object]] = []
        for owner, name in _touched_attributes(unwrap_model(model), head):
            store: dict[str, Any] = owner._parameters if name in owner._parameters else vars(owner)
            saved.append((store, name, store.get(name, _MISSING)))
        return cls(tuple(saved))

    def restore(self) -> None:
        """Put the model back as it was.

        Writes to the modules' own dictionaries, as `setattr` may be the very thing that failed.
        """
        for store, name, value in self.saved:
            if value is _MISSING:
                store.pop(name, None)
            else:
                store[name] = value


def unwrap_model(model: nn.Module) -> nn.Module:
    """Give the model inside `torch.compile`, `DataParallel` and `DistributedDataParallel`, or `model` itself."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # torch.compile's OptimizedModule
            model = inner
        else:
            return model


def find_head(model: nn.Module) -> Head:
    """Find the final layer of a timm classifier.

    The layer is the one that `model.get_classifier()` returns; its path is the one that
    `model.pretrained_cfg["classifier"]` names where that leads to the same layer, and is looked up otherwise.

    Args:
        model: A timm model, also inside `torch.compile`, `DataParallel` or `DistributedDataParallel`.

    Returns:
        The head; its path is relative to the unwrapped model.

    Raises:
        ArgumentTypeError: `model` is not a `torch.nn.Module`.
        UnsupportedHeadError: The model has no classifier, or not a single plain `nn.Linear` with parameters of its own;
            the text says what was found and what to load or do instead.
        HeadWeightsError: The head is on the meta device, so it has no values.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(_not_a_model_text(model))
    model = unwrap_model(model)
    layer = _find_layer(model)
    head = Head(name=_find_path(model, layer), layer=layer)
    _check_no_other_leaf(model, head)
    _check_parameters(model, head)
    _check_not_tied(model, head)
    _check_class_count(model, head)
    return head


def read_rows(head: Head) -> Tensor:
    """Read the classifier rows as float32 on the CPU.

    A head that was initialised at random and never trained cannot be told from a trained one by its numbers, so it
    is not refused here; zero-initialised heads are.

    Args:
        head: As `find_head` returns it.

    Returns:
        A detached copy, shape (num_classes, feature_dim + 1) with the bias as last column, or
        (num_classes, feature_dim) if the layer has no bias.

    Raises:
        HeadWeightsError: Fewer than two classes, or rows that no training leaves behind: NaN or infinite, all zero,
            or all the same.
    """
    kind = _LEAF_KINDS[type(head.layer)]
    rows = kind.read(head.layer).detach().to(device="cpu", dtype=torch.float32, copy=True)
    _check_trained(rows, head)
    return rows


def widen_head(model: nn.Module, head: Head, new_rows: Tensor, *, config: Mapping[str, Any], record: dict[str, Any]) -> nn.Linear:
    """Append rows to the head, in place, all or nothing.

    The layer stays the same object at the same path, with its hooks and flags; its weight and bias become new, wider
    `Parameter` objects (same dtype, device and `requires_grad`, no gradient yet). Seen rows are copied bit by bit. The
    class counts and the config of the model follow, so it saves and loads as a timm model of that width.

    Two things hold the old parameters and must be made again by their owner: an optimizer, and the gradient buckets of
    `DistributedDataParallel`. Hooks registered on the old parameter tensors (not on the layer) are not carried over.

    Args:
        model: The model that `head` was found in, wrapped or not.
        head: As `find_head` returns it.
        new_rows: Shape (num_new, row_dim), finite, on any device; cast to the head's dtype at the write.
        config: Updates for `model.pretrained_cfg`, for example `label_names`. The config is replaced by an updated
            copy, never changed in place. `num_classes` is set with or without being named here.
        record: What was injected, JSON-able; becomes `model.timm_inject_record`.

    Returns:
        The head's layer, now with `num_classes + num_new` outputs.

    Raises:
        ArgumentTypeError: `new_rows` is not a floating-point tensor.
        ArgumentValueError: `new_rows` has the wrong shape, `head` is not this model's, or `config` states another
            class count.
        HeadWeightsError: A new row is not finite, or no longer is in the head's dtype.
    """
    model = unwrap_model(model)
    _check_same_head(find_head(model), head)
    _check_new_rows(new_rows, head)
    num_classes = head.num_classes + new_rows.shape[0]
    config = copy.deepcopy({"num_classes": num_classes, **config})
    if config["num_classes"] != num_classes:
        raise ArgumentValueError(
            f"`config` states num_classes={config['num_classes']}, but {head.num_classes} rows and {new_rows.shape[0]} "
            f"new ones make {num_classes}. Leave `num_classes` out, or pass {num_classes}."
        )
    # Everything that can fail or takes time comes before the first write.
    changes: list[tuple[nn.Module, str, object]] = [
        *((head.layer, name, parameter) for name, parameter in _wider_parameters(head, new_rows).items()),
        (head.layer, _LEAF_KINDS[type(head.layer)].width, num_classes),
        *((module, "num_classes", num_classes) for module in _counting_modules(model, head)),
        *((model, name, value) for name, value in _updated_config(model, config).items()),
        (model, _RECORD_ATTRIBUTE, copy.deepcopy(record)),
    ]
    state = HeadState.capture(model, head)
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
    except BaseException:  # KeyboardInterrupt too: a half-widened model is worse than none
        state.restore()
        raise
    return head.layer


# --- what widening touches -------------------------------------------------------------------------------------------


def _touched_attributes(model: nn.Module, head: Head) -> Iterator[tuple[nn.Module, str]]:
    for name in head.layer._parameters:
        yield head.layer, name
    yield head.layer, _LEAF_KINDS[type(head.layer)].width
    for module in _counting_modules(model, head):
        yield module, "num_classes"
    for name in ("pretrained_cfg", "default_cfg", "_model_args", _RECORD_ATTRIBUTE):
        yield model, name


def _counting_modules(model: nn.Module, head: Head) -> list[nn.Module]:
    """List the modules on the way from the model to its head that store the head's class count."""
    parts = head.name.split(".")
    ancestors = [model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))]
    return [module for module in ancestors if vars(module).get("num_classes") == head.num_classes]


def _wider_parameters(head: Head, new_rows: Tensor) -> dict[str, nn.Parameter]:
    """Build the wider parameters; the model is not touched."""
    parameters: dict[str, nn.Parameter] = {}
    with torch.inference_mode(False), torch.no_grad():  # an inference tensor could never be trained again
        for name, part in _LEAF_KINDS[type(head.layer)].split(head.layer, new_rows).items():
            old: nn.Parameter = getattr(head.layer, name)
            cast = part.to(device=old.device, dtype=old.dtype)
            _check_cast(cast, part, head)
            wide = torch.cat([old, cast]).contiguous()
            parameters[name] = nn.Parameter(wide, requires_grad=old.requires_grad)
    return parameters


def _updated_config(model: nn.Module, updates: Mapping[str, Any]) -> dict[str, object]:
    """Build the new values of the attributes in which timm describes the model."""
    old = getattr(model, "pretrained_cfg", None)
    if old is None or isinstance(old, Mapping):
        new: Any = {**(old or {}), **updates}
    else:  # a PretrainedCfg object
        new = copy.copy(old)
        for key, value in updates.items():
            setattr(new, key, value)
    attributes: dict[str, object] = {"pretrained_cfg": new}
    if hasattr(model, "default_cfg"):
        attributes["default_cfg"] = new  # timm keeps the two as one object
    model_args = getattr(model, "_model_args", None)
    if isinstance(model_args, Mapping) and "num_classes" in model_args:  # what timm would build the model again from
        attributes["_model_args"] = {**model_args, "num_classes": updates["num_classes"]}
    return attributes


# --- finding ---------------------------------------------------------------------------------------------------------


def _find_layer(model: nn.Module) -> nn.Linear:
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedHeadError(
            f"The model is a scripted or traced {model.original_name}, whose layers can't be changed. "
            "Inject into the eager model first, then script or trace it."
        )
    if not callable(getattr(model, "get_classifier", None)):
        raise UnsupportedHeadError(_no_get_classifier_text(model))
    found: object = model.get_classifier()  # type: ignore[operator]
    no_classes = getattr(model, "num_classes", None) == 0 and not isinstance(found, nn.Linear)
    if found is None or isinstance(found, nn.Identity) or no_classes:
        raise UnsupportedHeadError(
            f"{_label(model)} has no classifier (`num_classes=0`); inject needs trained rows to learn from. {_suggest_tag(model)}"
        )
    if isinstance(found, tuple | list | dict | nn.ModuleList | nn.ModuleDict):
        leaves = list(found.values() if isinstance(found, dict | nn.ModuleDict) else found)
        raise UnsupportedHeadError(_several_layers_text(model, leaves))
    if isinstance(found, nn.Module):
        _check_plain(model, found)
    if not isinstance(found, nn.Linear) or type(found) not in _LEAF_KINDS:
        raise UnsupportedHeadError(
            f"{_label(model)} has a classifier of type {_type_name(found)}; a plain nn.Linear is expected. {_suggest_linear()}"
        )
    return found


def _find_path(model: nn.Module, layer: nn.Linear) -> str:
    paths = [name for name, module in model.named_modules(remove_duplicate=False) if module is layer]
    if not paths:
        raise UnsupportedHeadError(
            f"get_classifier() of {_label(model)} returns a layer that is not one of the model's modules. "
            "Register it as an attribute of the model, so that it is saved with it."
        )
    return next((name for name in _config_names(model) if name in paths), paths[0])


def _config(model: nn.Module, key: str) -> Any:
    config = getattr(model, "pretrained_cfg", None)
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)


def _config_names(model: nn.Module) -> tuple[str, ...]:
    """List the classifier layers that the model's config names; it may name none, one or several."""
    names = _config(model, "classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


# --- checks of the head ----------------------------------------------------------------------------------------------


def _check_plain(model: nn.Module, layer: nn.Module) -> None:
    """Refuse a layer whose weight is computed from something else; such a layer often still looks like its type."""
    computed = {name for name in ("weight", "bias") if parametrize.is_parametrized(layer, name)}
    if type(layer) in _LEAF_KINDS:  # the older weight_norm, spectral_norm and prune add parameters beside the weight
        computed |= set(layer._parameters) - {"weight", "bias"}
    if computed:
        raise UnsupportedHeadError(
            f"The classifier of {_label(model)} is parametrised ({list_some(sorted(computed))}), so its weight is "
            "computed and can't be widened. Make it a plain weight first with "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight'), or, for the older functions, "
            "remove_weight_norm, remove_spectral_norm or prune.remove."
        )


def _check_no_other_leaf(model: nn.Module, head: Head) -> None:
    """Refuse a model whose config names further classifier layers, such as VOLO's auxiliary head."""
    modules = dict(model.named_modules(remove_duplicate=False))
    named = [modules[name] for name in _config_names(model) if name in modules]
    others = [module for module in named if module is not head.layer and not isinstance(module, nn.Identity)]
    if len(named) > 1 and others:
        raise UnsupportedHeadError(_several_layers_text(model, [head.layer, *others]))


def _check_parameters(model: nn.Module, head: Head) -> None:
    """Refuse parameters that are not plain dense tensors of the declared shape."""
    expected = {"weight": (head.num_classes, head.feature_dim), "bias": (head.num_classes,)}
    for name, shape in expected.items():
        parameter = getattr(head.layer, name)
        if name == "bias" and parameter is None:
            continue
        where = f"{_label(model)} has a classifier {head.name!r} whose {name}"
        if type(parameter) is not nn.Parameter or parameter.dtype not in _FLOAT_DTYPES:
            raise UnsupportedHeadError(
                f"{where} is a {_type_name(parameter)} of {getattr(parameter, 'dtype', 'no dtype')}, such as quantised "
                "or sharded layers have; a plain floating-point nn.Parameter is expected. Inject into the model before "
                "it is quantised or sharded."
            )
        if parameter.is_meta:
            raise HeadWeightsError(
                f"{where} is on the meta device, so it has no values to learn from. Create the model on a real device "
                "and load its weights: timm.create_model(name, pretrained=True)."
            )
        if tuple(parameter.shape) != shape:
            raise UnsupportedHeadError(
                f"{where} has shape {tuple(parameter.shape)} where the layer declares {shape}. Replace the whole layer "
                "by an nn.Linear of the right size instead of its tensors."
            )


def _check_not_tied(model: nn.Module, head: Head) -> None:
    own = {id(parameter) for parameter in head.layer.parameters()}
    shared = [
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        for name, parameter in module._parameters.items()
        if module is not head.layer and id(parameter) in own
    ]
    if shared:
        raise UnsupportedHeadError(
            f"The classifier {head.name!r} of {_label(model)} shares its parameters with "
            f"{list_some(map(repr, shared))} (tied weights), so it can't grow alone. Give it a copy first: "
            "layer.weight = torch.nn.Parameter(layer.weight.detach().clone())."
        )


def _check_class_count(model: nn.Module, head: Head) -> None:
    stated = getattr(model, "num_classes", None)
    if stated is not None and stated != head.num_classes:
        raise UnsupportedHeadError(
            f"{_label(model)} states num_classes={stated}, but its classifier {head.name!r} has {head.num_classes} "
            f"outputs. If you replaced the layer by hand, set `model.num_classes = {head.num_classes}`; if its outputs "
            "are not classes (a projection), load a tag with a trained classifier."
        )


def _check_trained(rows: Tensor, head: Head) -> None:
    fix = "Load trained weights first (`pretrained=True`, or load_state_dict)."
    if len(rows) < 2:
        raise HeadWeightsError(
            f"The classifier {head.name!r} has {len(rows)} class; at least 2 are needed to learn how rows follow from "
            "names. Use a model with more classes."
        )
    broken = (~rows.isfinite()).any(dim=1)
    if broken.any():
        raise HeadWeightsError(f"The classifier {head.name!r} has NaN or infinity in {_count_rows(broken)}. {fix}")
    if (rows == rows[0]).all():
        raise HeadWeightsError(
            f"The classifier {head.name!r} is untrained: all {len(rows)} rows are the same"
            f"{' (zero)' if not rows.any() else ''}. {fix}"
        )
    empty = (rows[:, : head.feature_dim] == 0).all(dim=1)
    if empty.any():
        raise HeadWeightsError(
            f"The classifier {head.name!r} has weights that are all zero, as untrained classes have, in {_count_rows(empty)}. {fix}"
        )


# --- checks of the new rows ------------------------------------------------------------------------------------------


def _check_same_head(current: Head, head: Head) -> None:
    if current.layer is not head.layer or current.name != head.name:
        raise ArgumentValueError(
            f"`head` ({head.name!r}) is not the classifier that this model has now ({current.name!r}). "
            "Call find_head(model) again: the layer was replaced, or the head is another model's."
        )


def _check_new_rows(new_rows: Tensor, head: Head) -> None:
    if not isinstance(new_rows, Tensor) or not new_rows.is_floating_point():
        what = f"a tensor of {new_rows.dtype}" if isinstance(new_rows, Tensor) else _type_name(new_rows)
        raise ArgumentTypeError(f"`new_rows` must be a float32 tensor, got {what}. Convert it with torch.as_tensor.")
    if new_rows.ndim != 2 or new_rows.shape[1] != head.row_dim or not len(new_rows):
        bias = "the bias as last column" if head.has_bias else "no bias column"
        raise ArgumentValueError(
            f"`new_rows` must have shape (num_new, {head.row_dim}), {bias}, with num_new at least 1; "
            f"got {tuple(new_rows.shape)}. Predict rows of the width that read_rows(head) gives."
        )
    broken = (~new_rows.isfinite()).any(dim=1)
    if broken.any():
        raise HeadWeightsError(
            f"`new_rows` has NaN or infinity in {_count_rows(broken)}; finite numbers are expected. The model is "
            "unchanged; check the descriptors and the mapper."
        )


def _check_cast(cast: Tensor, part: Tensor, head: Head) -> None:
    broken = (~cast.isfinite()).flatten(1).any(dim=1) if cast.ndim > 1 else ~cast.isfinite()
    if broken.any():
        raise HeadWeightsError(
            f"`new_rows` has values up to {float(part.abs().max()):.3g}, but the classifier {head.name!r} is "
            f"{cast.dtype}, which ends at {torch.finfo(cast.dtype).max:.3g}: {_count_rows(broken)} would be infinite. "
            "The model is unchanged; convert it with model.float() first."
        )


# --- texts -----------------------------------------------------------------------------------------------------------


def _count_rows(mask: Tensor) -> str:
    positions = mask.nonzero()[:, 0].tolist()
    return f"{len(positions)} of {len(mask)} rows (positions {list_some(positions)})"


def _type_name(value: object) -> str:
    module = type(value).__module__
    module = "nn" if module.startswith(("torch.nn.modules.", "torch.nn.parameter")) else module
    return f"{module}.{type(value).__name__}".removeprefix("builtins.")


def _label(model: nn.Module) -> str:
    return repr(str(_config(model, "architecture") or type(model).__name__))


def _several_layers_text(model: nn.Module, leaves: list[object]) -> str:
    paths = {id(module): name for name, module in model.named_modules()}
    found = list_some(f"{paths.get(id(leaf), '?')!r}: {_type_name(leaf)}" for leaf in leaves)
    return f"{_label(model)} has a classifier of several layers ({found}); a single nn.Linear is expected. {_suggest_linear()}"


def _not_a_model_text(model: object) -> str:
    if isinstance(model, str):
        return f"`model` must be a model, got the name {model!r}. Write timm.create_model({model!r}, pretrained=True)."
    return (
        f"`model` must be a timm model (a torch.nn.Module), got {_type_name(model)}. "
        f"Create one with timm.create_model({_EXAMPLE_TAG!r}, pretrained=True)."
    )


def _no_get_classifier_text(model: nn.Module) -> str:
    text = f"{_label(model)} ({_type_name(model)}) has no get_classifier(), which every timm classifier has. "
    inner = model._modules.get("module")
    if inner is not None and hasattr(inner, "get_classifier"):
        return text + "It wraps a model that does: pass `model.module`."
    return text + f"{_suggest_tag(model)}"


def _suggest_linear() -> str:
    return f"Load a model with one such layer, such as timm.create_model({_EXAMPLE_TAG!r}, pretrained=True)."


def _suggest_tag(model: nn.Module) -> str:
    """Name a tag with a classifier: the model's own, else one of the same architecture, else a well-known one."""
    architecture, tag = _config(model, "architecture"), _config(model, "tag")
    names = sorted(
        filter(_has_classifier, list_pretrained(f"{architecture}.*") if architecture else []),
        key=lambda name: name != f"{architecture}.{tag}",
    )
    if not names:
        return f"Load a tag with a trained head, such as timm.create_model({_EXAMPLE_TAG!r}, pretrained=True)."
    return (
        f"Load a tag with a trained head, such as timm.create_model({names[0]!r}, pretrained=True), "
        "leaving out `num_classes=0` and `features_only`."
    )


def _has_classifier(name: str) -> bool:
    config = get_pretrained_cfg(name)
    trained_on_classes = any(mark in name for mark in _CLASSIFIER_TAGS)  # a CLIP tag's "classifier" is a projection
    return trained_on_classes and bool(config and config.num_classes and config.classifier)
