"""What timm's config says of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["config_of"]


def config_of(model: nn.Module) -> dict[str, Any]:
    """Copy the model's `pretrained_cfg`, be it a mapping, a `PretrainedCfg` or missing; an array of labels becomes a list."""
    found = getattr(model, "pretrained_cfg", None)
    config = dict(found) if isinstance(found, Mapping) else dict(getattr(found, "__dict__", {}))
    labels: Any = config.get("label_names")
    if hasattr(labels, "tolist"):
        config["label_names"] = labels.tolist()
    return config
