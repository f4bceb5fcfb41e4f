"""Take injected classes out again, or call them something else; neither needs the encoder or touches another row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, ClassNameError, list_some
from timm_inject.head import describe_model, find_head, resize_head, unwrap_model
from timm_inject.injected.attachment import injection_record, with_note
from timm_inject.injected.labels import known_classes, label_list
from timm_inject.injected.record import InjectionRecord
from timm_inject.text import ClassName, label_names_for_config, match_key, resolve_unseen_class_names

__all__ = ["remove", "rename"]


def remove(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Take injected classes out of the model again.

    The other rows keep every bit. Once the last injected class is out, the model is what it was before the first `inject`:
    the rows' bits, the labels in its config, and no record. The classes that stay keep the rows that they have; a later
    `inject` with the same settings calibrates them together with its own.

    Args:
        model: A model that `inject` patched, also one that was saved and loaded since.
        names: Which classes, by their names in `injection_record(model)`.

    Returns:
        The narrower head, the object that `model.get_classifier()` returns.

    Raises:
        ArgumentTypeError: `names` is no list of strings.
        ArgumentValueError: `names` is empty, or the model holds no injected classes.
        ClassNameError: A name is not one of the injected classes; the model is then as it was.
    """
    head = find_head(model)
    record = injection_record(unwrap_model(model))
    gone = set(_positions(record, _as_list("names", names), "removed"))
    stay = [entry for position, entry in enumerate(record.classes) if position not in gone]
    kept = [*range(record.num_seen), *(entry.index for entry in stay)]
    config = _labels_of_kept(unwrap_model(model), record, kept) if stay else _original_labels(unwrap_model(model), record)
    classes = tuple(replace(entry, index=record.num_seen + position) for position, entry in enumerate(stay))
    left = {entry.settings for entry in classes}
    probes = {key: probe for key, probe in record.probes.items() if key in left}
    changed = replace(record, classes=classes, probes=probes) if stay else None
    config |= with_note(unwrap_model(model), changed)
    none = [torch.zeros(0, leaf.row_dim) for leaf in head.leaves]
    resized: nn.Module = resize_head(model, head, none, kept=kept, config=config, record=changed.to_dict() if changed else None)
    return resized


def rename(model: nn.Module, names: Mapping[str, str]) -> nn.Module:
    """Call injected classes something else, in the record and in the labels; no row changes.

    The text that a row was predicted from stays as it was. For a row from another text, remove the class and inject it again.

    Args:
        model: A model that `inject` patched, also one that was saved and loaded since.
        names: Old name -> new name.

    Returns:
        The head, as it was.

    Raises:
        ArgumentTypeError: `names` is no mapping of strings.
        ArgumentValueError: `names` is empty, or the model holds no injected classes.
        ClassNameError: An old name is not one of the injected classes, or a new one is unusable, taken or given twice; the
            model is then as it was.
    """
    if not isinstance(names, Mapping):
        raise ArgumentTypeError(f"`names` must be a mapping old name -> new name, got {type(names).__name__}.")
    head = find_head(model)
    plain = unwrap_model(model)
    record = injection_record(plain)
    positions = _positions(record, _as_list("names", names), "renamed")
    known = known_classes(plain, record, record.num_classes)
    logits = [record.num_seen + position for position in positions]
    # A name that is given up may be taken; its place stays, as the error names logits.
    others = [ClassName("") if logit in set(logits) else entry for logit, entry in enumerate(known)]
    renamed = resolve_unseen_class_names(list(names.values()), others, num_seen=record.num_seen, what="new names cannot be given")
    classes = list(record.classes)
    for position, entry in zip(positions, renamed, strict=True):
        classes[position] = replace(classes[position], name=entry.name)
    changed = replace(record, classes=tuple(classes))
    config = _renamed_labels(plain, known, dict(zip(logits, renamed, strict=True)))
    describe_model(plain, config=config | with_note(plain, changed), record=changed.to_dict())
    same: nn.Module = head.module
    return same


def _renamed_labels(model: nn.Module, known: Sequence[ClassName], renamed: Mapping[int, ClassName]) -> dict[str, Any]:
    """The labels with other names at some logits; the others stay as they are."""
    config = getattr(model, "pretrained_cfg", None) or {}
    before = label_list(model) or label_names_for_config(known)
    entries = [replace(renamed[i], label=None) if i in renamed else ClassName(label) for i, label in enumerate(before)]
    labels = label_names_for_config(entries)
    shown = {label: text for label, text in (config.get("label_descriptions") or {}).items() if label in set(labels)}
    shown |= {labels[logit]: ", ".join((entry.name, *entry.synonyms)) for logit, entry in renamed.items()}
    return {"label_names": labels, "label_descriptions": shown}


def _as_list(argument: str, names: Iterable[str]) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        fix = f" Write [{names!r}] for a single class." if isinstance(names, str) else ""
        raise ArgumentTypeError(f"`{argument}` must be a list of names, got {type(names).__name__}.{fix}")
    given = list(names)
    wrong = [name for name in given if not isinstance(name, str)]
    if wrong:
        raise ArgumentTypeError(f"`{argument}` must hold strings only, got {list_some(repr(name) for name in wrong)}.")
    if not given:
        raise ArgumentValueError(f"`{argument}` is empty. The record, `injection_record(model)`, has the names to choose from.")
    return given


def _positions(record: InjectionRecord, names: Sequence[str], what: str) -> list[int]:
    """Positions among the injected classes; names are compared as `inject` compares them."""
    by_key = {match_key(entry.name): position for position, entry in enumerate(record.classes)}
    unknown = [name for name in names if match_key(name) not in by_key]
    if unknown:
        near = get_close_matches(match_key(unknown[0]), by_key, n=1)
        hint = f" Did you mean {record.classes[by_key[near[0]]].name!r}?" if near else ""
        raise ClassNameError(
            f"{len(unknown)} of {len(names)} classes cannot be {what}, as they were not injected: "
            f"{list_some(repr(name) for name in unknown)}.{hint} Injected: {list_some(repr(e.name) for e in record.classes)}. "
            "Original classes stay as they are."
        )
    positions = [by_key[match_key(name)] for name in names]
    if len(set(positions)) < len(positions):
        twice = [name for name, position in zip(names, positions, strict=True) if positions.count(position) > 1]
        raise ClassNameError(f"Classes are named twice: {list_some(repr(name) for name in twice)}. Name each once.")
    return positions


def _labels_of_kept(model: nn.Module, record: InjectionRecord, kept: Sequence[int]) -> dict[str, Any]:
    config = getattr(model, "pretrained_cfg", None) or {}
    labels = config.get("label_names")
    if not isinstance(labels, Sequence) or len(labels) != record.num_classes:
        return {}
    shown = config.get("label_descriptions") or {}
    left = [labels[logit] for logit in kept]
    return {"label_names": left, "label_descriptions": {label: shown[label] for label in left if label in shown}}


def _original_labels(model: nn.Module, record: InjectionRecord) -> dict[str, Any]:
    if record.original_labels is not None:
        return dict(record.original_labels)
    return _labels_of_kept(model, record, range(record.num_seen))  # records of older versions do not have them
