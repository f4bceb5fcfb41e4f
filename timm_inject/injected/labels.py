"""The labels of a patched model: readable wherever they are shown, while the record keeps the ids that they came with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from timm_inject.head import config_of, unwrap_model
from timm_inject.injected.incremental import text_of
from timm_inject.injected.record import InjectedClass, InjectionRecord
from timm_inject.text import (
    ClassName,
    class_from_label,
    classes_from_labels,
    is_wnid,
    label_names_for_config,
    resolve_seen_class_names,
)

__all__ = ["ids_of_seen", "injected_classes", "known_classes", "label_config", "label_list"]


def known_classes(model: nn.Module, record: InjectionRecord | None, num_classes: int) -> list[ClassName]:
    """Every class of the model in logit order, injected ones included, by the labels in its config and the ids in its record.

    Args:
        model: A timm model, wrapped or not.
        record: Of what was injected, as `find_record` gives it.
        num_classes: How many outputs the model has.

    Raises:
        UnknownSeenClassesError: The config does not name its classes.
    """
    model = unwrap_model(model)
    if record is None or not record.classes:
        return resolve_seen_class_names(model, num_classes)
    labels, shown = label_list(model), _descriptions_of(model)
    if labels is None or len(labels) != num_classes:
        return [*_seen_by_record(model, record), *injected_classes(model, record)]
    seen = classes_from_labels(labels[: record.num_seen], shown)
    if record.seen_labels:
        by_id = [class_from_label(own, shown.get(label)) for own, label in zip(record.seen_labels, labels, strict=False)]
        # A label that somebody changed since counts as it stands.
        seen = [own if _shows(label, own) else other for other, own, label in zip(seen, by_id, labels, strict=False)]
    return [*seen, *injected_classes(model, record)]


def _seen_by_record(model: nn.Module, record: InjectionRecord) -> list[ClassName]:
    """The seen classes where the model's config has no labels of all classes."""
    original = record.original_labels or {}
    labels, shown = original.get("label_names"), original.get("label_descriptions")
    labels = record.seen_labels or (labels if isinstance(labels, list | tuple) else ())
    if len(labels) == record.num_seen and all(isinstance(label, str) for label in labels):
        return classes_from_labels(labels, shown if isinstance(shown, Mapping) else {})
    return resolve_seen_class_names(model, record.num_seen)


def injected_classes(model: nn.Module, record: InjectionRecord) -> list[ClassName]:
    """The injected classes, each with the meaning that the record says was taken, so that another sense of its name can be added.

    Args:
        model: The unwrapped timm model.
        record: Of what was injected.
    """
    labels = label_list(model)
    fits = labels is not None and len(labels) == record.num_classes
    given = labels[record.num_seen :] if labels is not None and fits else [entry.name for entry in record.classes]
    return [_class_of(entry, label) for entry, label in zip(record.classes, given, strict=True)]


def label_config(model: nn.Module, known: Sequence[ClassName], new: Sequence[ClassName] = ()) -> dict[str, Any]:
    """The labels for timm's config; transformers shows the labels, timm their descriptions.

    WordNet ids become the words that timm has for them, "tench, Tinca tinca"; two that are the same are told apart. What the config
    says of a label stays.

    Args:
        model: The unwrapped timm model, before the change.
        known: The classes that it has, in logit order.
        new: Those that it gets.
    """
    before = label_list(model) or [entry.label or entry.name for entry in known]
    classes = [*known, *(replace(entry, label=None) for entry in new)]
    labels = _readable_labels(classes, before)
    texts = [_words_of(entry) if entry.label is None or is_wnid(entry.label) else entry.label for entry in classes]
    shown = _descriptions_of(model)
    for position, label in zip(range(len(known)), before, strict=False):
        said = shown.get(label)
        if isinstance(said, str) and said.strip():
            texts[position] = said
    return {"label_names": labels, "label_descriptions": dict(zip(labels, texts, strict=True))}


def ids_of_seen(classes: Sequence[ClassName]) -> tuple[str, ...]:
    """What the record keeps of the seen classes' labels: all of them where one is a WordNet id, else none."""
    labels = tuple(entry.label or entry.name for entry in classes)
    return labels if any(map(is_wnid, labels)) else ()


def label_list(model: nn.Module) -> list[str] | None:
    """The labels in the model's config as a list of texts, or None where they are none."""
    labels = config_of(model).get("label_names")
    return list(labels) if isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels) else None


def _descriptions_of(model: nn.Module) -> Mapping[str, Any]:
    shown = config_of(model).get("label_descriptions")
    return shown if isinstance(shown, Mapping) else {}


def _class_of(entry: InjectedClass, label: str) -> ClassName:
    text = text_of(entry)
    return ClassName(entry.name, sense=text.sense, description=next(iter(text.descriptions), None), label=label)


def _words_of(entry: ClassName) -> str:
    return ", ".join((entry.name, *entry.synonyms))


def _shows(label: str, entry: ClassName) -> bool:
    """Whether a label is the words of a class, with or without what tells it from others of the same words."""
    words = _words_of(entry)
    return label == words or (label.startswith(f"{words} (") and label.endswith(")"))


def _readable_labels(classes: Sequence[ClassName], before: Sequence[str]) -> list[str]:
    """One unique label a class, with words instead of WordNet ids; words that the config has already stay as they are."""
    labels = [entry.label for entry in classes]
    places: dict[str, list[int]] = {}
    for position, entry in enumerate(classes):
        if entry.label is not None and is_wnid(entry.label):
            places.setdefault(_words_of(entry), []).append(position)
    for words, positions in places.items():
        hints = _hints([classes[each] for each in positions]) if len(positions) > 1 else [""]
        for position, hint in zip(positions, hints, strict=True):
            is_there = position < len(before) and _shows(before[position], classes[position])
            labels[position] = before[position] if is_there else f"{words} ({hint})" if hint else words
    return label_names_for_config([replace(entry, label=label) for entry, label in zip(classes, labels, strict=True)])


def _hints(classes: Sequence[ClassName]) -> list[str]:
    """What tells classes of the same words apart: what kind of thing each is, "crane (animal)", or its id."""
    kinds = [entry.sense.top_kind if entry.sense else None for entry in classes]
    unique = None not in kinds and max(Counter(kinds).values()) == 1
    return [str(kind) if unique else str(entry.label) for entry, kind in zip(classes, kinds, strict=True)]
