"""Give a model its record where its weights came without it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, TimmInjectError, UnknownSeenClassesError
from timm_inject.head import describe_model, find_head, unwrap_model
from timm_inject.hub.download import download
from timm_inject.injected import (
    InjectionRecord,
    changed_positions,
    fit_record,
    known_classes,
    label_config,
    label_list,
    mark_changed,
    record_in,
    with_note,
)
from timm_inject.io import expand_user, is_folder

__all__ = ["attach_record"]

_CONFIG_NAME = "config.json"
_PREFIXES = ("local-dir:", "local_dir:", "hf-hub:", "hf_hub:")  # as `timm.create_model` takes them


def attach_record(
    model: nn.Module,
    folder_or_repo: str | os.PathLike[str] | InjectionRecord | Mapping[str, Any] | None,
    *,
    rows_changed: bool = False,
) -> InjectionRecord | None:
    """Give a model the record of what was injected into it, where its weights came without one.

    That is so for a bare state dict, for `checkpoint_path`, for the model inside a LightningModule or transformers' TimmWrapper.
    The labels come along where the folder has them. No row changes.

    Args:
        model: A timm model with the injected rows.
        folder_or_repo: Where the model was saved: a folder or a repository on the Hub ("user/name", "user/name@revision"), also as
            `timm.create_model` takes it ("local-dir:…"). Or a record: an `InjectionRecord`, its `to_dict()`, or a config that holds
            it. None says that nothing in the head is a prediction, as every row was trained on images: all count as seen then.
        rows_changed: Whether the record is to be kept though rows are not as they were written, because they were trained
            further. Such classes are marked as changed.

    Returns:
        The record as the model holds it now, or None.

    Raises:
        ArgumentTypeError: `folder_or_repo` is none of these.
        ArgumentValueError: There is no record, or it is of other rows or another number of classes; the model is as it was.
        HubConnectionError: The Hub cannot be reached.
        HubServerError: The Hub fails, or takes no more requests for now.
    """
    head, plain = find_head(model), unwrap_model(model)
    if folder_or_repo is None:
        # An empty record, so that the folder that the model came from is not asked again.
        describe_model(plain, config=with_note(plain, None), record={})
        return None
    record, config = _read(folder_or_repo)
    labels = config.get("label_names")
    labels = labels if isinstance(labels, list | tuple) and len(labels) == record.num_classes else None
    if record.num_classes == head.num_classes and rows_changed:
        record = mark_changed(record, changed_positions(plain, record))
    fit = fit_record(plain, record, labels)
    if fit.record is None:
        problem = fit.problem or f"it is of {record.num_classes} classes, the head has {head.num_classes}."
        further = "" if rows_changed else " Pass `rows_changed=True` if the rows were trained further and the record still holds."
        raise ArgumentValueError(f"The injection record does not fit this model: {problem}{further}")
    describe_model(plain, config=_labels(plain, fit.record, config) | with_note(plain, fit.record), record=fit.record.to_dict())
    return fit.record


def _read(source: Any) -> tuple[InjectionRecord, Mapping[str, Any]]:
    """The record, and the config that it stands in."""
    if isinstance(source, InjectionRecord):
        return source, {}
    if isinstance(source, Mapping):
        data, where, config = (source, "", {}) if "num_seen" in source else (record_in(source), "the config", source)
    elif isinstance(source, str | os.PathLike):
        where, config = _read_config(source)
        data = record_in(config)
    else:
        raise ArgumentTypeError(
            f"`folder_or_repo` must be a folder, a Hub id, a record or None, got {type(source).__name__}. Name the folder that the "
            "model was saved to."
        )
    if not data:
        raise ArgumentValueError(
            f"There is no injection record in {where}: the model there holds no injected classes. If every row was trained on "
            "images, pass None."
        )
    return InjectionRecord.from_dict(data), config


def _read_config(source: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    given = os.fspath(source)
    name = next((given.removeprefix(prefix) for prefix in _PREFIXES if given.startswith(prefix)), given)
    folder = expand_user(name)
    if is_folder(folder):
        path, where = folder / _CONFIG_NAME, f"'{folder / _CONFIG_NAME}'"
    elif isinstance(source, os.PathLike) or given.startswith(("local", ".", "/", "~")):
        raise ArgumentValueError(f"The folder '{folder}' does not exist. Give the one that the model was saved to.")
    else:
        path, where = _download_config(name), f"{name!r} on the Hub"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentValueError(f"The {_CONFIG_NAME} of {where} could not be read: {error}. Give another folder.") from error
    return where, config if isinstance(config, dict) else {}


def _download_config(name: str) -> Path:
    repo_id, _, revision = name.partition("@")

    def missing(said: str) -> TimmInjectError:
        return ArgumentValueError(
            f"There is no model {name!r}: it is neither a folder nor a repository with {_CONFIG_NAME} that you may see on the Hub "
            f"({said})."
        )

    return download(repo_id, [_CONFIG_NAME], what=f"The model {name!r}", missing=missing, revision=revision or None)[0]


def _labels(model: nn.Module, record: InjectionRecord, config: Mapping[str, Any]) -> dict[str, Any]:
    """The labels of the config that the record stands in, else the model's own, else such as `inject` would write."""
    labels, shown = config.get("label_names"), config.get("label_descriptions")
    if isinstance(labels, list | tuple) and len(labels) == record.num_classes:
        told = dict(shown) if isinstance(shown, Mapping) else None
        return {"num_classes": record.num_classes, "label_names": list(labels), "label_descriptions": told}
    if len(label_list(model) or ()) == record.num_classes:
        return {}
    try:
        known = known_classes(model, record, record.num_classes)
    except UnknownSeenClassesError:  # the record stands without them; a call that needs the names says so
        return {}
    return {"num_classes": record.num_classes} | label_config(model, known)
