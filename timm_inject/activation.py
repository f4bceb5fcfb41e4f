"""Whether a head's classes share their probability (softmax) or have one each (sigmoid, trained with binary cross-entropy)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from timm_inject.errors import ArgumentValueError
from timm_inject.record import InjectionRecord, read_config

__all__ = ["ACTIVATIONS", "Activation", "resolve_activation"]

Activation = Literal["softmax", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = ("softmax", "sigmoid")

# What a config may state, by key. `problem_type` is the key of transformers, which reads and writes timm's config.json too.
_STATED: dict[str, dict[str, Activation]] = {
    "problem_type": {"multi_label_classification": "sigmoid", "single_label_classification": "softmax"},
    "activation": {"sigmoid": "sigmoid", "softmax": "softmax"},
    "loss": {"bce": "sigmoid", "binary_cross_entropy": "sigmoid", "ce": "softmax", "cross_entropy": "softmax"},
}
# Tags of timm that name a recipe with binary cross-entropy. Source: Wightman, Touvron, Jegou, "ResNet strikes back: An improved
# training procedure in timm", 2021, Table 2, for A1, A2 and A3; a1h is A1 with more regularisation, by timm's model cards.
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
            f"`activation` must be one of {names}, None, got {activation!r}. It says how the head was trained: 'sigmoid' for "
            "binary cross-entropy, 'softmax' for cross-entropy, None to have it looked up."
        )
    if record is not None and record.classes:
        return "sigmoid" if record.classes[-1].activation == "sigmoid" else "softmax"
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
    return "sigmoid" if recipe in _BCE_RECIPES and "ft" not in rest.split("_") else None
