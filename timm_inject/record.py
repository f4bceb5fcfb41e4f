"""What was injected into a model, kept on the model and in the config.json that it is saved with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import huggingface_hub
from torch import nn

from timm_inject.errors import ArgumentValueError

__all__ = ["CONFIG_KEY", "RECORD_ATTRIBUTE", "InjectedClass", "InjectionRecord", "find_record", "injection_record"]

# The attribute holds a plain dict, so that the model can be copied and unpickled where timm_inject is not installed.
RECORD_ATTRIBUTE = "timm_inject_record"
# Unknown top-level keys of timm's config.json are kept by timm's writer and ignored by its reader.
CONFIG_KEY = "timm_inject"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class InjectedClass:
    """One synthetic row and where it came from.

    Attributes:
        name: As the user gave it.
        index: Its logit.
        descriptions: The texts that stood beside the name; empty for a name alone.
        description_source: "user", "timm" (its synset definitions), "config" or "none".
        synset: WordNet id of the definition that was found, or None.
        encoder: Id of the text encoder.
        mapper: Registry name of the mapper.
        calibration: "harmonic", "keep-seen" or None.
        seed: Seed of the training.
    """

    name: str
    index: int
    descriptions: tuple[str, ...]
    description_source: str
    synset: str | None
    encoder: str
    mapper: str
    calibration: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class InjectionRecord:
    """Everything that was injected into one model.

    Attributes:
        num_seen: How many classes the model was trained on; logits from there on are synthetic.
        classes: The injected classes, in logit order.
        versions: Package -> version at the last injection.
        self_score: Image-free estimates at the last injection, fractions in [0, 1]; see `CalibratedRows`.
    """

    num_seen: int
    classes: tuple[InjectedClass, ...]
    versions: dict[str, str]
    self_score: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy, as it is written under the config key `timm_inject`."""
        return {"format": _FORMAT} | asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> InjectionRecord:
        """Read what `to_dict` wrote, from this version or a newer one that kept the format.

        Raises:
            ArgumentValueError: The data is of another format.
        """
        if data.get("format") != _FORMAT:
            raise ArgumentValueError(
                f"The model's injection record has format {data.get('format')!r}; this version of timm_inject reads {_FORMAT}. "
                f"Update timm_inject."
            )
        known = {field.name for field in fields(InjectedClass)}
        classes = [{key: value for key, value in entry.items() if key in known} for entry in data["classes"]]
        return InjectionRecord(
            num_seen=int(data["num_seen"]),
            classes=tuple(InjectedClass(**entry | {"descriptions": tuple(entry["descriptions"])}) for entry in classes),
            versions=dict(data["versions"]),
            self_score=dict(data["self_score"]),
        )


def injection_record(model: nn.Module) -> InjectionRecord:
    """What was injected into the model, also after saving and loading it.

    Raises:
        ArgumentValueError: Nothing was injected, or the record is of another format.
    """
    record = find_record(model)
    if record is None:
        raise ArgumentValueError(
            "This model holds no injected classes: nothing was injected, or it was saved without its record (timm's own "
            "`save_for_hf`; use `timm_inject.save_for_hf`)."
        )
    return record


def find_record(model: nn.Module) -> InjectionRecord | None:
    """The same, or None where nothing was injected."""
    data = getattr(model, RECORD_ATTRIBUTE, None)
    if data is None:
        data = _read_config(getattr(model, "pretrained_cfg", None)).get(CONFIG_KEY)
    return InjectionRecord.from_dict(data) if data else None


def _read_config(pretrained_cfg: Any) -> dict[str, Any]:
    """The config.json that the model was loaded with: timm keeps none of its unknown keys on the model."""
    source = pretrained_cfg if isinstance(pretrained_cfg, Mapping) else {}
    path: str | None = None
    if source.get("source") == "local-dir" and source.get("file"):
        path = str(Path(source["file"]) / "config.json")
    elif source.get("source") == "hf-hub" and source.get("hf_hub_id"):
        repository, _, revision = str(source["hf_hub_id"]).partition("@")
        # timm downloaded the file to load the model, so the cache has it unless it was cleared since.
        cached = huggingface_hub.try_to_load_from_cache(repository, "config.json", revision=revision or None)
        path = cached if isinstance(cached, str) else None
    if path is not None:
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
    return {}
