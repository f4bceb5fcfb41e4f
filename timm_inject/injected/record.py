"""What was injected into a model, as data that JSON can hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from torch import nn

from timm_inject.errors import ArgumentValueError
from timm_inject.head import config_of

__all__ = ["CONFIG_KEY", "LABEL_KEYS", "InjectedClass", "InjectionRecord", "base_of", "start_record"]

# Unknown top-level keys of timm's config.json are kept by timm's writer and ignored by its reader.
CONFIG_KEY = "timm_inject"
LABEL_KEYS = ("label_names", "label_descriptions")
_FORMAT = 1
_DATASETS = {"in1k": "imagenet-1k", "in12k": "imagenet-12k", "in21k": "imagenet-21k", "in22k": "imagenet-22k"}
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class InjectedClass:
    """One synthetic row and where it came from.

    Attributes:
        name: As the user gave it.
        index: Its logit.
        descriptions: The texts that stood beside the name, but for the definition; empty for a name alone.
        description_source: "user", "lexicon", "timm" (its synset definitions), "config" or "none".
        synset: WordNet id of the sense that was taken, or None.
        encoder: Id of the text encoder.
        mapper: Registry name of the mapper.
        calibration: "balanced", "harmonic", "keep-seen", a share, or None.
        seed: Seed of the training.
        lemmas: The names that were embedded, first the one that was given at the injection; empty in records of older versions.
        settings: Hash of everything but the name that decides the row; a key of `InjectionRecord.probes`.
        row_hash: Hash of the row as it was written, to tell whether it was changed since.
        rounded_hashes: The same of the row in float16 and in bfloat16; empty in records of older versions.
        changed: Whether the row is known to be another than was written: it was trained further, or edited.
        leans_on: (seen class, share) of the seen classes that decide the row most, strongest first.
        confidence: Share of its own images that the class is expected to win over all classes, estimated without images, a
            fraction in [0, 1]; None where it was not estimated.
        warning: What is doubtful about the class, in words, or None.
        activation: "softmax", "sigmoid" or "sigmoid-top1", as in `inject`; "softmax" in records of older versions.
        definition: What the class is in words, or None.
        sentence: What photos of it show, as the lexicon said, or None.
        kind: Path in the lexicon's tree of kinds, or None.
        sense: Tells the sense that was taken from all others, or None.
    """

    name: str
    index: int
    descriptions: tuple[str, ...]
    description_source: str
    synset: str | None
    encoder: str
    mapper: str
    calibration: str | float | None
    seed: int
    lemmas: tuple[str, ...] = ()
    settings: str | None = None
    row_hash: str | None = None
    leans_on: tuple[tuple[str, float], ...] = ()
    confidence: float | None = None
    warning: str | None = None
    activation: str = "softmax"
    definition: str | None = None
    sentence: str | None = None
    kind: str | None = None
    sense: str | None = None
    rounded_hashes: tuple[str, ...] = ()
    changed: bool = False


_CLASS_FIELDS = tuple(item.name for item in fields(InjectedClass))


@dataclass(frozen=True, slots=True)
class InjectionRecord:
    """Everything that was injected into one model.

    Attributes:
        num_seen: How many classes the model was trained on; logits from there on are synthetic.
        classes: The injected classes, in logit order.
        versions: Package -> version at the last injection.
        self_score: Image-free estimates at the last injection, fractions in [0, 1]: `zsl_accuracy`, `seen_accuracy`,
            `unseen_accuracy` and `harmonic_mean` of hidden seen classes in the part of new ones. Empty where there were too few
            to hide.
        probes: Settings -> a few numbers of the seen descriptors, to tell encoders of one id apart.
        base_model: Hub id of the model before the first injection, or None where its config names none.
        datasets: Hub ids of the datasets that the base model was trained on, as its tag states them.
        original_labels: The label keys of the config before the first injection; what was missing is None.
        seen_labels: The label of each seen class as the model came, where some are WordNet ids: the config shows readable ones
            since the injection. Empty where none is an id.
        seen_hash: Hash of the seen rows at the last injection, or None in records of older versions.
    """

    num_seen: int
    classes: tuple[InjectedClass, ...]
    versions: dict[str, str]
    self_score: dict[str, float]
    probes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    original_labels: dict[str, Any] | None = None
    seen_labels: tuple[str, ...] = ()
    seen_hash: str | None = None

    @property
    def num_classes(self) -> int:
        """How many outputs the model has with them."""
        return self.num_seen + len(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy, as it is written under the config key `timm_inject`."""
        # Not `asdict`, which copies deeply: a record may hold 100,000 classes. What they are made of cannot be changed.
        classes = tuple({name: getattr(entry, name) for name in _CLASS_FIELDS} for entry in self.classes)
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"format": _FORMAT} | {key: classes if key == "classes" else copy.deepcopy(value) for key, value in own.items()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> InjectionRecord:
        """Read what `to_dict` wrote, from this version or a newer one that kept the format.

        Raises:
            ArgumentValueError: The data is of another format.
        """
        if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
            data = data if isinstance(data, Mapping) else {}
            raise ArgumentValueError(
                f"The model's injection record has format {data.get('format')!r}; this version of timm_inject reads {_FORMAT}. "
                f"Update timm_inject."
            )
        try:
            return _read_record(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArgumentValueError(
                f"The model's injection record is damaged: {type(error).__name__}: {error!s:.200}. Save the model again with the "
                f"version of timm_inject that wrote it, or take the key {CONFIG_KEY!r} out of its config.json."
            ) from error


def _read_record(data: Mapping[str, Any]) -> InjectionRecord:
    """Read a record that may come from anyone: every field has the type that is written, or the read fails."""
    num_seen = _number(data["num_seen"], int)
    classes = tuple(_read_class(entry) for entry in data["classes"])
    if num_seen < 1 or [entry.index for entry in classes] != list(range(num_seen, num_seen + len(classes))):
        raise ValueError("the logits of the injected classes do not follow those of the seen ones")
    labels = data.get("original_labels")
    return InjectionRecord(
        num_seen=num_seen,
        classes=classes,
        versions={_text(key): _text(value) for key, value in data["versions"].items()},
        self_score={_text(key): _number(value, float) for key, value in data["self_score"].items()},
        probes={_text(key): tuple(_number(number, float) for number in value) for key, value in data.get("probes", {}).items()},
        base_model=_text_or_none(data.get("base_model")),
        datasets=tuple(_text(value) for value in data.get("datasets", ())),
        # `remove` writes them into the model's config, where no other key of a stranger's may go.
        original_labels=None if labels is None else {key: labels.get(key) for key in LABEL_KEYS},
        seen_labels=_seen_labels(data.get("seen_labels", ()), num_seen),
        seen_hash=_text_or_none(data.get("seen_hash")),
    )


def _read_class(entry: Mapping[str, Any]) -> InjectedClass:
    confidence = entry.get("confidence")
    return InjectedClass(
        name=_text(entry["name"]),
        index=_number(entry["index"], int),
        descriptions=_texts(entry["descriptions"]),
        description_source=_text(entry["description_source"]),
        synset=_text_or_none(entry["synset"]),
        encoder=_text(entry["encoder"]),
        mapper=_text(entry["mapper"]),
        calibration=_text_or_share(entry["calibration"]),
        seed=_number(entry["seed"], int),
        lemmas=_texts(entry.get("lemmas", ())),
        settings=_text_or_none(entry.get("settings")),
        row_hash=_text_or_none(entry.get("row_hash")),
        leans_on=tuple((_text(name), _number(share, float)) for name, share in entry.get("leans_on", ())),
        confidence=None if confidence is None else _number(confidence, float),
        warning=_text_or_none(entry.get("warning")),
        activation=_text(entry.get("activation", "softmax")),
        definition=_text_or_none(entry.get("definition")),
        sentence=_text_or_none(entry.get("sentence")),
        kind=_text_or_none(entry.get("kind")),
        sense=_text_or_none(entry.get("sense")),
        rounded_hashes=_texts(entry.get("rounded_hashes", ())),
        changed=_flag(entry.get("changed", False)),
    )


def _seen_labels(values: Any, num_seen: int) -> tuple[str, ...]:
    labels = _texts(values)
    if labels and len(labels) != num_seen:
        raise ValueError(f"{len(labels)} labels of {num_seen} seen classes")
    return labels


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r:.80}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r:.80}")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _text_or_share(value: object) -> str | float | None:
    return _number(value, float) if isinstance(value, int | float) else _text_or_none(value)


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"expected a list of texts, got {values!r:.80}")
    return tuple(_text(value) for value in values)


def _number(value: object, kind: type[_Number]) -> _Number:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or kind(value) != value:
        raise TypeError(f"expected a finite {kind.__name__}, got {value!r:.80}")
    return kind(value)


def start_record(model: nn.Module, num_seen: int) -> InjectionRecord:
    """The record of a model that holds no injected class yet: what is needed to undo, and where the model comes from."""
    config = config_of(model)
    base_model, datasets = base_of(model)
    labels = {key: config.get(key) for key in LABEL_KEYS}
    return InjectionRecord(num_seen, (), {}, {}, base_model=base_model, datasets=datasets, original_labels=labels)


def base_of(model: nn.Module) -> tuple[str | None, tuple[str, ...]]:
    """Say which model on the Hub this one comes from, and the datasets that its tag states, both for the card's metadata.

    Source of the tags' meaning: timm's naming of pretrained tags, such as "sw_in12k_ft_in1k".
    """
    config = getattr(model, "pretrained_cfg", None)
    if not isinstance(config, Mapping):
        return None, ()
    hub_id = config.get("hf_hub_id")
    parts = str(config.get("tag") or "").split("_")
    datasets = tuple(dict.fromkeys(_DATASETS[part] for part in reversed(parts) if part in _DATASETS))
    return (hub_id if isinstance(hub_id, str) and hub_id else None), datasets
