"""How a head was trained and is read: by softmax, or by sigmoid (binary cross-entropy), a probability for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from timm_inject.errors import ArgumentValueError
from timm_inject.injected import InjectionRecord, read_config

__all__ = ["ACTIVATIONS", "Activation", "resolve_activation"]

Activation = Literal["softmax", "sigmoid", "sigmoid-top1"]
# "sigmoid": each class is read by itself, against one half. "sigmoid-top1": trained with binary cross-entropy on one class an
# image, and read by the largest logit, as timm's own model cards do.
ACTIVATIONS: tuple[Activation, ...] = ("softmax", "sigmoid", "sigmoid-top1")

# What a config may state, by key. `problem_type` is the key of transformers, which reads and writes timm's config.json too.
_STATED: dict[str, dict[str, Activation]] = {
    "problem_type": {"multi_label_classification": "sigmoid", "single_label_classification": "softmax"},
    "activation": {name: name for name in ACTIVATIONS},
}
# Tags of timm that name a recipe with binary cross-entropy. Source: Wightman, Touvron, Jegou, "ResNet strikes back: An improved
# training procedure in timm", 2021, for A1, A2 and A3; a1h is based on A1 with more regularisation, by timm's model cards.
_BCE_RECIPES = frozenset({"a1", "a2", "a3", "a1h"})


def resolve_activation(model: nn.Module, activation: object, record: InjectionRecord | None, num_seen: int) -> Activation:
    """Take what the user says, else what earlier injections took, else what the config states, else what the tag implies.

    Args:
        model: The unwrapped timm model.
        activation: As in `inject`.
        record: Of the earlier injections, if any.
        num_seen: How many classes the model was trained on.

    Raises:
        ArgumentValueError: `activation` is no known one.
    """
    for known in ACTIVATIONS:
        if activation == known:
            return known
    if activation is not None:
        names = ", ".join(repr(name) for name in ACTIVATIONS)
        raise ArgumentValueError(
            f"`activation` must be one of {names}, None, got {activation!r}. Pass 'sigmoid' for a head that gives "
            "each class a probability of its own, or None to have it looked up in the model's config and tag."
        )
    if record is not None and record.classes:
        return resolve_activation(model, record.classes[-1].activation, None, num_seen)
    config = getattr(model, "pretrained_cfg", None)
    file = read_config(config)
    # What was loaded with another number of classes speaks of a head that was replaced.
    from_file = _stated(file) if file.get("num_classes", num_seen) == num_seen else None
    return _stated(config) or from_file or _implied(config, num_seen) or "softmax"


def _stated(config: Any) -> Activation | None:
    if not isinstance(config, Mapping):
        return None
    for key, meanings in _STATED.items():
        value = config.get(key)
        if isinstance(value, str) and value.lower() in meanings:
            return meanings[value.lower()]
    return None


def _implied(config: Any, num_seen: int) -> Activation | None:
    if not isinstance(config, Mapping) or config.get("num_classes") != num_seen:
        return None
    recipe, _, rest = str(config.get("tag") or "").partition("_")
    # A tag with "ft" names what came before the fine-tuning.
    return "sigmoid-top1" if recipe in _BCE_RECIPES and "ft" not in rest.split("_") else None
