"""Save a patched model in timm's own format, with its labels and its injection record."""

import os
import tempfile
from pathlib import Path
from typing import Any

import timm.models
from safetensors import SafetensorError
from torch import nn

from timm_inject.errors import SaveError
from timm_inject.head import unwrap_model
from timm_inject.model_card import CARD_NAME, render_model_card
from timm_inject.record import CONFIG_KEY, find_record

__all__ = ["save_for_hf"]


def save_for_hf(model: nn.Module, directory: str | os.PathLike[str], model_config: dict[str, Any] | None = None) -> Path:
    """Save the model so that `timm.create_model("local-dir:DIRECTORY", pretrained=True)` loads it, timm_inject or not.

    Writes model.safetensors, config.json (labels in timm's keys, the injection record under `timm_inject`) and a model card.
    An existing README.md is kept.

    Args:
        model: A patched timm model; one that was never injected is saved as timm would save it.
        directory: Made if it does not exist. Files of the same names are replaced only when all new ones are complete.
        model_config: Further keys for config.json, as timm's `model_config`; it is not changed.

    Returns:
        The directory.

    Raises:
        SaveError: The folder cannot be made or written.
    """
    target = Path(directory).expanduser()
    model = unwrap_model(model)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as temporary:
            timm.models.save_for_hf(model, temporary, model_config=_config(model) | (model_config or {}), safe_serialization=True)
            record = find_record(model)
            if record is not None and not (target / CARD_NAME).exists():
                (Path(temporary) / CARD_NAME).write_text(render_model_card(model, record), encoding="utf-8")
            mode = (Path(temporary) / "config.json").stat().st_mode
            for path in sorted(Path(temporary).iterdir()):
                path.chmod(mode)  # safetensors makes its file private
                path.replace(target / path.name)
    except (OSError, SafetensorError) as error:
        raise SaveError(f"The model could not be saved to '{target}': {error}. Choose a folder that you can write to.") from error
    return target


def _config(model: nn.Module) -> dict[str, Any]:
    """The config keys that timm's writer does not take from the model itself."""
    labels: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    config = {key: labels[key] for key in ("label_names", "label_descriptions") if labels.get(key)}
    record = find_record(model)
    if record is not None:
        config[CONFIG_KEY] = record.to_dict()
    return config
