"""The record belongs to the model: where it is kept, how it is found again, and whether it is of these rows.

timm keeps of a config.json what its `PretrainedCfg` has a field for, and no key of others. So the record travels in the field for
notes, `pretrained_cfg["notes"]`: a model that was loaded has it whatever becomes of the folder or the working directory. On a model
in memory an attribute holds it too. Models that were saved before there was such a note are looked up in the config.json that they
were loaded from, once, and then have the note.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from torch import nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, HeadWeightsError, UnsupportedHeadError, list_some
from timm_inject.head import Head, config_of, describe_model, find_head, raw_rows, unwrap_model
from timm_inject.injected.hashes import hash_rows, hash_seen_rows
from timm_inject.injected.record import CONFIG_KEY, InjectedClass, InjectionRecord
from timm_inject.text import match_key

__all__ = [
    "RECORD_ATTRIBUTE",
    "Fit",
    "changed_positions",
    "find_record",
    "fit_record",
    "injection_record",
    "mark_changed",
    "own_note",
    "read_config",
    "read_note",
    "record_in",
    "with_note",
]

# The attribute holds a plain dict, so that the model can be copied and unpickled where timm_inject is not installed. An empty one
# says that nothing was injected, whatever the folder says.
RECORD_ATTRIBUTE = "timm_inject_record"
_NOTE = re.compile(r"timm_inject: .*; record (?P<data>\S*)", re.DOTALL)
# What a note may unfold to: enough for the record of 200,000 classes.
_MAX_BYTES = 256 * 1024**2
_NUMBERED = re.compile(r" \(\d+\)$")
_ALL_TRAINED = "If every row was trained on images, say so: timm_inject.attach_record(model, None)."


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of holding a record against a model.

    Attributes:
        record: The record, with rows marked that were changed since; None where it does not fit.
        problem: Why it does not, as a sentence without its subject; None where the head has another number of classes and none of
            the record's rows, so that it speaks of a head that was replaced.
    """

    record: InjectionRecord | None
    problem: str | None = None


def injection_record(model: nn.Module) -> InjectionRecord:
    """What was injected into the model, also after saving and loading it.

    Raises:
        ArgumentValueError: Nothing was injected, the record can't be found or is not of these rows, or it is of another format.
    """
    record = find_record(unwrap_model(model))
    if record is None:
        raise ArgumentValueError(
            "This model holds no injected classes: nothing was injected, or its head was replaced since. If its weights were "
            "loaded without its config (a bare state dict, `checkpoint_path`, Lightning), give it its record: "
            "timm_inject.attach_record(model, FOLDER)."
        )
    return record


def find_record(model: nn.Module) -> InjectionRecord | None:
    """The same, or None where nothing was injected, or where the head was replaced since.

    A record that is found in the model's folder alone is attached to the model.

    Raises:
        ArgumentValueError: The record can't be found, is not of these rows, or is of another format.
    """
    own = getattr(model, RECORD_ATTRIBUTE, None)
    if own is not None:
        return _fitting(model, [InjectionRecord.from_dict(own)], f"model.{RECORD_ATTRIBUTE}") if own else None
    config = config_of(model)
    note, file = own_note(config), read_config(config)
    return _find_in_file(model, config, file) if note is None else _find_by_note(model, config, file, note)


def _find_by_note(model: nn.Module, config: Mapping[str, Any], file: Mapping[str, Any], note: str) -> InjectionRecord | None:
    found = []
    if file.get(CONFIG_KEY) and _is_the_file(file, config):  # what a person can read counts first
        found.append(InjectionRecord.from_dict(file[CONFIG_KEY]))
    if (data := read_note(note)) is not None:
        found.append(InjectionRecord.from_dict(data))
    if not found:
        raise ArgumentValueError(_missing_text(config, note))
    return _fitting(model, found, "model.pretrained_cfg")


def _find_in_file(model: nn.Module, config: Mapping[str, Any], file: Mapping[str, Any]) -> InjectionRecord | None:
    if file.get(CONFIG_KEY):
        found = [InjectionRecord.from_dict(file[CONFIG_KEY])]
        # Of a file with a note the model had it too. It was taken off, on purpose, and the rows need not be the record's any more.
        may_differ = own_note(_inner_config(file)) is not None
        record = _fitting(model, found, repr(_place_of(config)), may_differ=may_differ)
        if record is not None:
            describe_model(model, config=with_note(model, record), record=record.to_dict())
            return record
    if not _is_the_file(file, config) and _looks_injected(model, config):
        raise ArgumentValueError(_missing_text(config, None))
    return None


def fit_record(model: nn.Module, record: InjectionRecord, labels: Sequence[Any] | None = None) -> Fit:
    """Hold a record against the model's number of classes, its labels and its rows.

    Rows count as the record's in the precision that they were written in and in half precision. A record fits also where some of
    its rows were changed, as long as others, or the seen ones, were not: the changed ones are marked.

    Args:
        model: The unwrapped timm model.
        record: What is said of it.
        labels: Of all classes; None takes the config's.
    """
    head = _readable_head(model)
    num_classes = head.num_classes if head else getattr(model, "num_classes", record.num_classes)
    if num_classes != record.num_classes:
        left = _rows_left(head, record) if head else []
        return Fit(None, _other_count_text(record, num_classes, left) if left else None)
    if labels is None:
        labels = _labels_of(config_of(model))
    other_names = _named_otherwise(record, labels)
    changed, known = _changed_rows(head, record) if head else ([], [])
    if known and len(changed) == len(known) and not _has_seen_rows(head, record):
        return Fit(None, _other_rows_text(record, other_names))
    if other_names:
        return Fit(None, _other_names_text(other_names))
    return Fit(mark_changed(record, changed))


def mark_changed(record: InjectionRecord, positions: Sequence[int]) -> InjectionRecord:
    """Say of some of the injected classes that their rows are others than were written."""
    if not positions:
        return record
    classes = list(record.classes)
    for position in positions:
        classes[position] = replace(classes[position], row_hash=None, rounded_hashes=(), changed=True)
    return replace(record, classes=tuple(classes))


def changed_positions(model: nn.Module, record: InjectionRecord) -> list[int]:
    """Positions among the injected classes whose rows are not those that were written."""
    head = _readable_head(model)
    return _changed_rows(head, record)[0] if head else []


# --- notes -----------------------------------------------------------------------------------------------------------


def with_note(model: nn.Module, record: InjectionRecord | None) -> dict[str, Any]:
    """The update of the model's config that puts the record among its notes, or takes it out.

    Returns:
        For `resize_head`: a value of None takes the key out.
    """
    config = config_of(model)
    notes = [note for note in _notes_of(config) if not _is_own(note)]
    if record is not None:
        notes.append(_write_note(record))
    return {"notes": (notes if isinstance(config.get("notes"), list) else tuple(notes)) or None}


def own_note(config: Mapping[str, Any]) -> str | None:
    """The note that timm_inject left in a config, or None."""
    return next((note for note in _notes_of(config) if _is_own(note)), None)


def _notes_of(config: Mapping[str, Any]) -> list[Any]:
    """The notes as a list; timm wants a tuple of texts, but takes anything."""
    notes = config.get("notes")
    return list(notes) if isinstance(notes, list | tuple) else [] if notes is None else [notes]


def _is_own(note: object) -> bool:
    return isinstance(note, str) and _NOTE.fullmatch(note) is not None


def read_note(note: str) -> Any:
    """What the record in a note unfolds to, or None where it is damaged or was left out."""
    found = _NOTE.fullmatch(note)
    if found is None or not found["data"]:
        return None
    try:
        unfolding = zlib.decompressobj()
        text = unfolding.decompress(base64.b64decode(found["data"], validate=True), _MAX_BYTES)
        return json.loads(text) if unfolding.eof else None
    except (ValueError, zlib.error, RecursionError):
        return None


def record_in(config: Mapping[str, Any]) -> Any:
    """The data of the record in a config.json or in a model's config, or None where there is none that can be read."""
    if config.get(CONFIG_KEY):
        return config[CONFIG_KEY]
    note = own_note(config) or own_note(_inner_config(config))
    return None if note is None else read_note(note)


def _write_note(record: InjectionRecord) -> str:
    text = json.dumps(record.to_dict(), separators=(",", ":")).encode()
    data = base64.b64encode(zlib.compress(text)).decode() if len(text) <= _MAX_BYTES else ""
    first, last = record.num_seen, record.num_classes - 1
    return f"timm_inject: classes {first} to {last} were injected from their names alone; record {data}"


# --- places ----------------------------------------------------------------------------------------------------------


def read_config(pretrained_cfg: Any) -> dict[str, Any]:
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
        with contextlib.suppress(OSError, ValueError, RecursionError):
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
    return {}


def _inner_config(file: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config.json says under `pretrained_cfg`, of which timm makes the model's config."""
    inner = file.get("pretrained_cfg")
    return inner if isinstance(inner, Mapping) else {}


def _is_the_file(file: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a config.json is still the one that the model was loaded with, by its labels."""
    return bool(file) and _labels_of(file) == _labels_of(config)


def _place_of(config: Mapping[str, Any]) -> str:
    """Where the model was loaded from, by its config; "" where that is no folder and no repository."""
    key = {"local-dir": "file", "hf-hub": "hf_hub_id"}.get(str(config.get("source")), "")
    return str(config.get(key) or "")


def _labels_of(config: Mapping[str, Any]) -> list[Any] | None:
    """The labels in a config.json or in a model's config."""
    labels = config.get("label_names") or _inner_config(config).get("label_names")
    return list(labels) if isinstance(labels, list | tuple) else None


def _looks_injected(model: nn.Module, config: Mapping[str, Any]) -> bool:
    """Whether a loaded model's labels are such as version 0.4 and older left: each described, the last, a new one, by itself."""
    labels, shown = _labels_of(config), config.get("label_descriptions")
    if not labels or not isinstance(shown, Mapping) or not _place_of(config) or len(labels) != getattr(model, "num_classes", None):
        return False
    return all(isinstance(label, str) and label in shown for label in labels) and shown[labels[-1]] == labels[-1]


# --- holding a record against a model --------------------------------------------------------------------------------


def _fitting(
    model: nn.Module, records: Sequence[InjectionRecord], keep: str, *, may_differ: bool = False
) -> InjectionRecord | None:
    """The first record that fits; None where they are of a head that was replaced, or may be of other rows.

    Raises:
        ArgumentValueError: None fits, and the first says why.
    """
    fits = [fit_record(model, record) for record in records]
    for fit in fits:
        if fit.record is not None:
            return fit.record
    problem = next((fit.problem for fit in fits if fit.problem), None)
    if problem is None or may_differ:
        return None
    raise ArgumentValueError(
        f"The injection record does not fit this model: {problem} {_ALL_TRAINED} If the record is still true of the classes, keep "
        f"it: timm_inject.attach_record(model, {keep}, rows_changed=True)."
    )


def _readable_head(model: nn.Module) -> Head | None:
    """The head, or None where its rows can't be read: quantised, sharded, or on the meta device."""
    try:
        return find_head(model)
    except (UnsupportedHeadError, HeadWeightsError, ArgumentTypeError):
        return None


def _rows_left(head: Head, record: InjectionRecord) -> list[str]:
    """Names of the classes whose rows are somewhere in a head of another width."""
    rows = set(hash_rows([raw_rows(leaf) for leaf in head.leaves]))
    return [entry.name for entry in record.classes if not rows.isdisjoint(_hashes_of(entry))]


def _hashes_of(entry: InjectedClass) -> set[str]:
    return {digest for digest in (entry.row_hash, *entry.rounded_hashes) if digest}


def _changed_rows(head: Head, record: InjectionRecord) -> tuple[list[int], list[int]]:
    """Positions of the injected classes whose rows are not as written, and of those of which that can be told."""
    rows = hash_rows([raw_rows(leaf, record.num_seen) for leaf in head.leaves])
    halved = any(leaf.layer.weight.dtype in (torch.float16, torch.bfloat16) for leaf in head.leaves)
    changed, known = [], []
    for position, (entry, digest) in enumerate(zip(record.classes, rows, strict=True)):
        hashes = _hashes_of(entry)
        # A record of an older version does not know what its rows look like in half precision.
        if not hashes or (halved and digest not in hashes and not entry.rounded_hashes):
            continue
        known.append(position)
        if digest not in hashes:
            changed.append(position)
    return changed, known


def _has_seen_rows(head: Head | None, record: InjectionRecord) -> bool:
    if head is None or record.seen_hash is None:
        return False
    return hash_seen_rows([raw_rows(leaf, 0, record.num_seen) for leaf in head.leaves]) == record.seen_hash


def _named_otherwise(record: InjectionRecord, labels: Sequence[Any] | None) -> list[tuple[str, Any]]:
    """(name in the record, label) of the injected classes whose label is another's."""
    if labels is None or len(labels) != record.num_classes:
        return []
    pairs = zip(record.classes, labels[record.num_seen :], strict=True)
    return [(entry.name, label) for entry, label in pairs if not _is_label_of(entry, label)]


def _is_label_of(entry: InjectedClass, label: Any) -> bool:
    """Version 0.4 labelled a class that was given by its WordNet id with the id; two of one name are numbered."""
    if not isinstance(label, str):
        return False
    keys = {match_key(label), match_key(_NUMBERED.sub("", label))}
    return match_key(entry.name) in keys or label == entry.synset


# --- texts -----------------------------------------------------------------------------------------------------------


def _other_count_text(record: InjectionRecord, num_classes: int, left: Sequence[str]) -> str:
    return (
        f"it is of {record.num_classes} classes, the head has {num_classes}, and rows that were injected are still among them "
        f"({list_some(map(repr, left))}). Take classes out with `remove`, not by hand; load the model again."
    )


def _other_rows_text(record: InjectionRecord, other_names: Sequence[tuple[str, Any]]) -> str:
    names = list_some(repr(entry.name) for entry in record.classes)
    if other_names:
        return (
            f"neither the rows nor the labels of {names} are there, so it is another model's, or the head was replaced. Load the "
            "weights that belong to it."
        )
    return (
        f"none of the rows of {names} is as it was written. They were trained further, the head was replaced, or the weights are "
        "another model's."
    )


def _other_names_text(other_names: Sequence[tuple[str, Any]]) -> str:
    pairs = list_some(f"{name!r} is labelled {label!r}" for name, label in other_names)
    return f"{pairs}. Call classes something else with `rename`, or put the labels back."


def _missing_text(config: Mapping[str, Any], note: str | None) -> str:
    place = _place_of(config)
    where = f"'{place}', where it was loaded from, does not hold it now" if place else "nothing says where it was saved"
    told = f"its config says so ({note.partition('; record')[0]}), but" if note else "as its labels show, but"
    return (
        f"Classes were injected into this model, {told} the record of them can't be found: {where}. Without it, rows that were "
        "predicted would count as trained. Give it back: timm_inject.attach_record(model, FOLDER), with the folder or the Hub id "
        f"that the model was saved to. {_ALL_TRAINED}"
    )
