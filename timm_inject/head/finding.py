"""Find the layers of a timm model that have one row a class."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.nn.utils import parametrize

from timm_inject.errors import ArgumentTypeError, HeadWeightsError, UnsupportedHeadError
from timm_inject.head import refusals
from timm_inject.head.growth import growing_tensors
from timm_inject.head.leaf import Head, Leaf, LeafLayer, is_leaf_layer
from timm_inject.head.wrappers import unwrap_model

__all__ = ["check_not_projection", "find_head"]

# Widths of embeddings are multiples of this; of the class counts that timm's tags have, none is.
_EMBEDDING_STEP = 64
_FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def find_head(model: nn.Module) -> Head:
    """Find everything in a timm classifier that has one row a class.

    The layers are those of `model.get_classifier()`, which may be a layer, a tuple or a module that holds some, and those
    that `model.pretrained_cfg["classifier"]` names besides (VOLO's auxiliary head). Where that is more than one plain layer,
    timm is asked which tensors of the architecture grow with `num_classes`, and these must be the layers' own.

    Args:
        model: A timm model, also inside what `unwrap_model` looks through.

    Returns:
        The head; its paths are relative to the unwrapped model.

    Raises:
        ArgumentTypeError: `model` is not a `torch.nn.Module`.
        UnsupportedHeadError: The model has no classifier, or none made of plain layers with parameters of their own;
            the text says what was found and what to load or do instead.
        HeadWeightsError: The head is on the meta device, so it has no values.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(refusals.not_a_model_text(model))
    model = unwrap_model(model)
    found = _ask_classifier(model)
    paths = _paths_by_module(model)
    leaves = _find_leaves(model, found, paths)
    for leaf in leaves:
        _check_plain(model, leaf.layer)
        _check_parameters(model, leaf)
        _check_class_count(model, leaf)
    _check_not_tied(model, leaves)
    return Head(leaves=leaves, module=found)


def check_not_projection(model: nn.Module, head: Head) -> None:
    """Refuse a last layer that maps to an image embedding, as in timm's CLIP, SigLIP and PE tags, unless it has labels.

    Args:
        model: The model that `head` was found in.
        head: As `find_head` returns it.

    Raises:
        UnsupportedHeadError: The model's pretrained tag names no set of classes, the head is the tag's own, and as wide as
            embeddings are.
    """
    model = unwrap_model(model)
    tag, width = refusals.config_value(model, "tag"), refusals.config_value(model, "num_classes")
    labelled = refusals.config_value(model, "label_names") or refusals.states_label_set(tag)
    if tag in (None, "", "untrained") or labelled or width != head.num_classes or width % _EMBEDDING_STEP:
        return
    raise UnsupportedHeadError(refusals.projection_text(model, head.name, head.num_classes))


def _ask_classifier(model: nn.Module) -> Any:
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedHeadError(refusals.scripted_text(model))
    if not callable(getattr(model, "get_classifier", None)):
        raise UnsupportedHeadError(refusals.no_get_classifier_text(model))
    found: Any = model.get_classifier()  # type: ignore[operator]
    roots = list(_flatten(found))
    headless = getattr(model, "num_classes", None) == 0 and not any(map(is_leaf_layer, roots))
    if headless or all(root is None or isinstance(root, nn.Identity) for root in roots):
        raise UnsupportedHeadError(refusals.no_classifier_text(model))
    return found


def _flatten(found: Any) -> Iterator[Any]:
    """Open tuples, lists and their module forms, at any depth."""
    if isinstance(found, tuple | list | nn.ModuleList):
        for item in found:
            yield from _flatten(item)
    elif isinstance(found, dict | nn.ModuleDict):
        yield from _flatten(list(found.values()))
    else:
        yield found


def _paths_by_module(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every path of every module; one that is registered twice has two."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    return paths


def _config_names(model: nn.Module) -> tuple[str, ...]:
    """List the classifier layers that the model's config names; it may name none, one or several."""
    names = refusals.config_value(model, "classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


# --- leaves ----------------------------------------------------------------------------------------------------------


def _find_leaves(model: nn.Module, found: Any, paths: dict[nn.Module, list[str]]) -> tuple[Leaf, ...]:
    roots = [root for root in _flatten(found) if not (root is None or isinstance(root, nn.Identity))]
    parts = [_layers_in(model, root) for root in roots]
    layers = _unique(layer for part in parts for layer in part)
    named = _named_layers(model, paths)
    if any(layer not in paths for layer in layers):
        raise UnsupportedHeadError(refusals.unregistered_text(model))
    if not (layers == roots and len(layers) == 1 and set(named) <= set(layers)):
        likely = [layer for part in parts for layer in ([own for own in part if own in named] or part)]
        # A config can also be the user's own and name what is no classifier.
        likely += [layer for layer in named if Leaf("", layer).num_classes == getattr(model, "num_classes", None)]
        layers = _confirm(model, _unique(likely), _unique([*layers, *named]), paths)
    names = _config_names(model)
    return tuple(Leaf(next((name for name in names if name in paths[layer]), paths[layer][0]), layer) for layer in layers)


def _unique(layers: Iterable[LeafLayer]) -> list[LeafLayer]:
    return list(dict.fromkeys(layers))


def _named_layers(model: nn.Module, paths: dict[nn.Module, list[str]]) -> list[LeafLayer]:
    by_path = {path: module for module, known in paths.items() for path in known}
    layers = [by_path.get(name) for name in _config_names(model)]
    return [layer for layer in layers if is_leaf_layer(layer)]


def _layers_in(model: nn.Module, root: Any) -> list[LeafLayer]:
    """List the layers in one part of the classifier that may have a row a class.

    Raises:
        UnsupportedHeadError: There is none.
    """
    if is_leaf_layer(root):
        return [root]
    if isinstance(root, nn.Module):
        _check_plain(model, root)
    if type(root).__module__.partition(".")[0] == "timm":
        num_classes = getattr(model, "num_classes", None)
        modules: Iterable[object] = root.modules()  # a type guard narrows no subclass of its own argument
        layers = [module for module in modules if is_leaf_layer(module)]
        layers = [layer for layer in layers if Leaf("", layer).num_classes == num_classes] or layers[-1:]
    else:
        layers = _output_layer(root, getattr(model, "num_classes", None))
    if not layers:
        raise UnsupportedHeadError(refusals.no_leaf_text(model, root))
    return layers


def _output_layer(root: Any, num_classes: int | None) -> list[LeafLayer]:
    """The layer that gives the outputs of a user's own head; its path is as deep as it is. Empty where that can't be told.

    Of an `nn.Sequential` that is the last layer with parameters; of a class of the user's own the one layer that is as wide as
    there are classes, if nothing but torch's and timm's layers has parameters there and the layer is used as it is.
    """
    while type(root) is nn.Sequential:
        root = next((module for module in reversed(root) if _own_tensors(module, recurse=True)), None)
    if is_leaf_layer(root):
        return [root]
    if not isinstance(root, nn.Module) or type(root).__module__.startswith("torch."):
        return []
    modules = dict(root.named_modules())
    wide = {path: module for path, module in modules.items() if is_leaf_layer(module)}
    if num_classes is not None:
        wide = {path: module for path, module in wide.items() if Leaf("", module).num_classes == num_classes}
    foreign = [module for module in modules.values() if not type(module).__module__.startswith(("torch.nn.", "timm."))]
    if len(wide) != 1 or any(_own_tensors(module, recurse=False) for module in foreign):
        return []
    path, layer = next(iter(wide.items()))
    return [layer] if _is_called_once(root, path) else []


def _own_tensors(module: nn.Module, *, recurse: bool) -> bool:
    return any(True for _ in (*module.parameters(recurse), *module.buffers(recurse)))


def _is_called_once(root: nn.Module, path: str) -> bool:
    """Whether a head calls a layer, once, and does not reach for its weights; True for a head that can't be traced."""
    try:
        graph = torch.fx.Tracer().trace(copy.deepcopy(root))  # a copy, as a user's forward may count its calls
    except Exception:  # noqa: BLE001 - it runs the user's code on stand-ins for tensors
        return True
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == path]
    reached = [node for node in graph.nodes if node.op == "get_attr" and str(node.target).startswith(f"{path}.")]
    return len(calls) == 1 and not reached


def _confirm(
    model: nn.Module, likely: list[LeafLayer], candidates: list[LeafLayer], paths: dict[nn.Module, list[str]]
) -> list[LeafLayer]:
    """Keep the candidates that grow with the number of classes as timm builds them, or the likely ones where it can't say.

    Raises:
        UnsupportedHeadError: Something else grows too.
    """
    growing = growing_tensors(model)
    own = set(model.state_dict())
    if growing is None or not growing & own:  # no architecture of timm's, or its head was replaced
        return likely
    grown = [layer for layer in candidates if any(f"{path}.weight" in growing for path in paths[layer])]
    if not grown:
        return likely
    covered = {f"{path}.{name}" for layer in grown for path in paths[layer] for name in layer._parameters}
    if missed := (growing & own) - covered:
        raise UnsupportedHeadError(refusals.growing_text(model, missed))
    return grown


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_plain(model: nn.Module, layer: nn.Module) -> None:
    """Refuse a layer whose weight is computed from something else; such a layer often still looks like its type."""
    if type(layer).__module__.partition(".")[0] == "peft":
        raise UnsupportedHeadError(refusals.peft_text(model, layer))
    if refusals.is_quantised(layer):
        raise UnsupportedHeadError(refusals.quantised_text(model, layer))
    computed = {name for name in ("weight", "bias") if parametrize.is_parametrized(layer, name)}
    if is_leaf_layer(layer):  # the older weight_norm, spectral_norm and prune add parameters beside the weight
        computed |= set(layer._parameters) - {"weight", "bias"}
    if computed:
        raise UnsupportedHeadError(refusals.parametrised_text(model, computed))


def _check_parameters(model: nn.Module, leaf: Leaf) -> None:
    """Refuse parameters that are not plain dense tensors of the declared shape."""
    spatial = (1, 1) if isinstance(leaf.layer, nn.Conv2d) else ()
    expected = {"weight": (leaf.num_classes, leaf.feature_dim, *spatial), "bias": (leaf.num_classes,)}
    for name, shape in expected.items():
        parameter = getattr(leaf.layer, name)
        if name == "bias" and parameter is None:
            continue
        where = f"{refusals.label(model)} has a classifier {leaf.name!r} whose {name}"
        if type(parameter) is not nn.Parameter or parameter.dtype not in _FLOAT_DTYPES:
            raise UnsupportedHeadError(refusals.not_plain_text(where, parameter))
        if parameter.is_meta:
            raise HeadWeightsError(
                f"{where} is on the meta device, so it has no values to learn from. Create the model on a real device "
                "and load its weights: timm.create_model(name, pretrained=True)."
            )
        if tuple(parameter.shape) != shape:
            raise UnsupportedHeadError(refusals.shape_text(where, tuple(parameter.shape), shape))


def _check_class_count(model: nn.Module, leaf: Leaf) -> None:
    stated = getattr(model, "num_classes", None)
    if stated is not None and stated != leaf.num_classes:
        raise UnsupportedHeadError(refusals.wrong_count_text(model, leaf.name, stated, leaf.num_classes))


def _check_not_tied(model: nn.Module, leaves: tuple[Leaf, ...]) -> None:
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            users.setdefault(id(parameter), []).append(f"{path}.{name}" if path else name)
    for leaf in leaves:
        own = {f"{leaf.name}.{name}" for name in leaf.layer._parameters}
        shared = [user for parameter in leaf.layer.parameters() for user in users[id(parameter)]]
        # A layer that is registered under two paths is walked under the first one only.
        module_paths = {path for path, module in model.named_modules(remove_duplicate=False) if module is leaf.layer}
        own |= {f"{path}.{name}" for path in module_paths for name in leaf.layer._parameters}
        if others := [user for user in shared if user not in own]:
            raise UnsupportedHeadError(refusals.tied_text(model, leaf.name, others))
