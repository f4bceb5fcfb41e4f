"""Why a head can't be resized, and what to load or do instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from timm.models import get_pretrained_cfg, list_pretrained
from torch import nn

from timm_inject.errors import list_some
from timm_inject.head.config import config_of
from timm_inject.head.wrappers import as_attribute, inner_classifiers

__all__ = [
    "config_value",
    "growing_text",
    "is_quantised",
    "label",
    "no_classifier_text",
    "no_get_classifier_text",
    "no_leaf_text",
    "not_a_model_text",
    "not_plain_text",
    "parametrised_text",
    "peft_text",
    "projection_text",
    "quantised_text",
    "scripted_text",
    "shape_text",
    "states_label_set",
    "tied_text",
    "type_name",
    "unregistered_text",
    "wrong_count_text",
]

_EXAMPLE_TAG = "vit_base_patch16_224.augreg_in1k"
_CLASSIFIER_MARKS = ("in1k", "in12k", "in21k", "in22k")
# Parts of the module names that quantised layers come from.
_QUANTISERS = {"quantized", "qat", "bitsandbytes", "torchao"}


def config_value(model: nn.Module, key: str) -> Any:
    """Read a key of the model's pretrained config, be it a mapping, an object or missing."""
    return config_of(model).get(key)


def label(model: nn.Module) -> str:
    """Name a model in a message: its architecture, or its class."""
    return repr(str(config_value(model, "architecture") or type(model).__name__))


def type_name(value: object) -> str:
    """Name a type with its module, torch's own layers as `nn.Linear`."""
    module = type(value).__module__
    module = "nn" if module.startswith(("torch.nn.modules.", "torch.nn.parameter")) else module
    return f"{module}.{type(value).__name__}".removeprefix("builtins.")


def not_a_model_text(model: object) -> str:
    """`model` is no module."""
    if isinstance(model, str):
        return f"`model` must be a model, got the name {model!r}. Write timm.create_model({model!r}, pretrained=True)."
    must_be = f"`model` must be a timm model (a torch.nn.Module), got {type_name(model)}."
    # timm's first ModelEma, a Trainer, a Learner or a pipeline, which are no modules
    held = {name: value for name, value in getattr(model, "__dict__", {}).items() if isinstance(value, nn.Module)}
    for name, value in held.items():
        if callable(getattr(value, "get_classifier", None)):
            return f"{must_be} It holds one: pass its attribute `{name}`."
    for name, value in held.items():
        for path, _ in inner_classifiers(value):
            return f"{must_be} It holds one: pass its attribute `{as_attribute(name, path)}`."
    return f"{must_be} Create one with timm.create_model({_EXAMPLE_TAG!r}, pretrained=True)."


def scripted_text(model: torch.jit.ScriptModule) -> str:
    """The model is TorchScript."""
    return (
        f"The model is a scripted or traced {model.original_name}, whose layers can't be changed. "
        "Inject into the eager model first, then script or trace it."
    )


def no_get_classifier_text(model: nn.Module) -> str:
    """The model does not say what its classifier is: an encoder, a feature extractor, a wrapper, or no timm model."""
    text = f"{label(model)} ({type_name(model)}) has no get_classifier(), which every timm classifier has. "
    held = list(inner_classifiers(model))
    if held:
        return text + _held_text(model, held)
    if config_value(model, "architecture") and not getattr(model, "num_classes", 0):
        text += "It gives features, not classes. "
    return text + _suggest_tag(model)


def _held_text(model: nn.Module, held: Sequence[tuple[str, nn.Module]]) -> str:
    """Name the timm models inside a wrapper, and what the wrapper alone knows about them."""
    classifying = [(path, inner) for path, inner in held if not _is_headless(inner)]
    names = [f"`{as_attribute('model', path)}`" for path, _ in classifying or held]
    if not classifying:
        return (
            f"It wraps a timm model, {names[0]}, that has no classifier (`num_classes=0`), and classifies by layers of its own. "
            "Give the timm model the classifier: create it with `num_classes`, copy or train the weights there, and pass it."
        )
    if len(names) > 1:
        return f"It wraps {len(names)} models that do: pass one of them, {list_some(names)}."
    text = f"It wraps a model that does: pass {names[0]}"
    config = getattr(model, "config", None)
    if _speaks_of_injection(config):
        where = getattr(model, "name_or_path", None) or "FOLDER"
        return f"{text}, after timm_inject.attach_record({names[0][1:-1]}, {where!r}), as classes were injected into it."
    labels = getattr(config, "id2label", None)
    if isinstance(labels, Mapping) and not all(re.fullmatch(r"LABEL_\d+", str(label)) for label in labels.values()):
        text += ", with seen_class_names=list(model.config.id2label.values()), as its labels are there alone"
    return f"{text}."


def _is_headless(model: nn.Module) -> bool:
    found: Any = model.get_classifier()  # type: ignore[operator]
    return found is None or isinstance(found, nn.Identity)


def _speaks_of_injection(config: object) -> bool:
    """Whether transformers' config came from a config.json that says that classes were injected."""
    inner = getattr(config, "pretrained_cfg", None)
    notes = inner.get("notes") if isinstance(inner, Mapping) else None
    noted = isinstance(notes, list | tuple) and any(str(note).startswith("timm_inject: ") for note in notes)
    return bool(getattr(config, "timm_inject", None)) or noted


def no_classifier_text(model: nn.Module) -> str:
    """The classifier is an Identity, or missing."""
    return f"{label(model)} has no classifier (`num_classes=0`); inject needs trained rows to learn from. {_suggest_tag(model)}"


def no_leaf_text(model: nn.Module, found: object) -> str:
    """The classifier holds no layer that we know how to resize."""
    return (
        f"{label(model)} has a classifier of type {type_name(found)}; a plain nn.Linear or 1x1 nn.Conv2d with one row a class is "
        f"expected, alone, last in an nn.Sequential, or inside one of timm's own heads. {_suggest_linear()} A head of your own "
        "will do where the layer is the only one as wide, and nothing but its layers has parameters."
    )


def peft_text(model: nn.Module, found: object) -> str:
    """The classifier is wrapped by PEFT, so its weight is the sum of several."""
    return (
        f"The classifier of {label(model)} is wrapped by PEFT ({type_name(found)}), so its weight is the sum of several. "
        "Merge the adapters first, model = peft_model.merge_and_unload(), and inject into the result."
    )


def is_quantised(layer: nn.Module) -> bool:
    """Say whether a layer's type is one that quantisation puts in the place of a plain one."""
    return not _QUANTISERS.isdisjoint(type(layer).__module__.split("."))


def quantised_text(model: nn.Module, found: object) -> str:
    """The classifier was quantised."""
    return (
        f"The classifier of {label(model)} is quantised ({type_name(found)}), so its rows are no floating-point numbers. "
        "Inject into the model before it is quantised, then quantise the result."
    )


def unregistered_text(model: nn.Module) -> str:
    """`get_classifier()` returns something that would not be saved."""
    return (
        f"get_classifier() of {label(model)} returns a layer that is not one of the model's modules. "
        "Register it as an attribute of the model, so that it is saved with it."
    )


def growing_text(model: nn.Module, names: Iterable[str]) -> str:
    """More tensors follow the class count than the leaves found."""
    return (
        f"{label(model)} has tensors of one entry a class besides its classifier's: {list_some(map(repr, sorted(names)))}. "
        f"They can't be predicted from names. {_suggest_linear()}"
    )


def parametrised_text(model: nn.Module, names: Iterable[str]) -> str:
    """The weight is computed from something else."""
    return (
        f"The classifier of {label(model)} is parametrised ({list_some(sorted(names))}), so its weight is "
        "computed and can't be widened. Make it a plain weight first with "
        "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight'), or, for the older functions, "
        "remove_weight_norm, remove_spectral_norm or prune.remove."
    )


def not_plain_text(where: str, parameter: object) -> str:
    """A parameter is quantised, sharded, complex, or no parameter at all."""
    return (
        f"{where} is a {type_name(parameter)} of {getattr(parameter, 'dtype', 'no dtype')}, such as quantised "
        "or sharded layers have; a plain floating-point nn.Parameter is expected. Inject into the model before "
        "it is quantised or sharded."
    )


def shape_text(where: str, shape: tuple[int, ...], declared: tuple[int, ...]) -> str:
    """A parameter's shape is not the one that its layer declares."""
    return (
        f"{where} has shape {shape} where the layer declares {declared}. Replace the whole layer "
        "by one of the right size instead of its tensors."
    )


def tied_text(model: nn.Module, name: str, shared: Iterable[str]) -> str:
    """Another module uses the same parameter."""
    return (
        f"The classifier {name!r} of {label(model)} shares its parameters with "
        f"{list_some(map(repr, shared))} (tied weights), so it can't grow alone. Give it a copy first: "
        "layer.weight = torch.nn.Parameter(layer.weight.detach().clone())."
    )


def wrong_count_text(model: nn.Module, name: str, stated: object, found: int) -> str:
    """The model's `num_classes` is not the classifier's."""
    return (
        f"{label(model)} states num_classes={stated}, but its classifier {name!r} has {found} "
        f"outputs. If you replaced the layer by hand, set `model.num_classes = {found}`; if its outputs "
        "are not classes (a projection), load a tag with a trained classifier."
    )


def projection_text(model: nn.Module, name: str, width: int) -> str:
    """The outputs are the dimensions of an embedding."""
    tag = f"{config_value(model, 'architecture')}.{config_value(model, 'tag')}"
    return (
        f"The layer {name!r} of {tag!r} is no classifier: its {width} outputs are the dimensions of an image embedding, as "
        f"contrastive training (CLIP, SigLIP, PE) leaves them. {_suggest_tag(model)} If its outputs are classes, because you "
        f"trained it on some, pass `seen_class_names` ({width} names in logit order)."
    )


def states_label_set(tag: object) -> bool:
    """Say whether a pretrained tag ends in a training set of classes ("openai_ft_in1k") or not ("openai")."""
    return any(mark in str(tag) for mark in _CLASSIFIER_MARKS)


def _suggest_linear() -> str:
    return f"Load a model with such a layer, for example timm.create_model({_EXAMPLE_TAG!r}, pretrained=True)."


def _suggest_tag(model: nn.Module) -> str:
    """Name a tag with a classifier: the model's own, else one of the same architecture, else a well-known one."""
    architecture, tag = config_value(model, "architecture"), config_value(model, "tag")
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
    return states_label_set(name) and bool(config and config.num_classes and config.classifier)
