"""What the command's arguments mean: names, files, devices and language models, each checked before anything slow begins."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from huggingface_hub import get_token

from timm_inject.errors import ArgumentValueError, SaveError
from timm_inject.text import Descriptions, LanguageModel, names_to_mapping, read_label_file, read_name_file, split_name

__all__ = [
    "check_output",
    "find_device",
    "mapper_arguments",
    "read_calibration",
    "read_folder",
    "read_names",
    "seen_class_names",
    "text_arguments",
]

_KEY_VARIABLE = "OPENAI_API_KEY"
# Spaces and endpoints are other people's.
_HUB_HOST = ".huggingface.co"
_LOCAL_PREFIX = "local-dir:"


def read_calibration(text: str) -> str | float | None:
    """Read `--calibration`: a name, a share, or none."""
    if text.lower() == "none":
        return None
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def read_folder(text: str) -> Path:
    """Read a folder, which people also write as they write a MODEL.

    Raises:
        argparse.ArgumentTypeError: It is empty, or nobody's home.
    """
    where = text.removeprefix(_LOCAL_PREFIX)
    try:
        if where:
            return Path(where).expanduser()
    except RuntimeError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no folder")


def read_names(options: argparse.Namespace) -> dict[str, str | None]:
    """The names on the command line, then those of the file.

    Raises:
        ArgumentValueError: The file is none of names.
        ClassNameError: A name is given twice.
    """
    names = [split_name(text) for text in options.names]
    if options.names_file is not None:
        names += read_name_file(options.names_file)
    return names_to_mapping(names)


def text_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """`seen_class_names` and `descriptions` of `inject`, `look_up` and `self_score`."""
    return {"seen_class_names": seen_class_names(options.seen_classes), "descriptions": _descriptions(options)}


def mapper_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Everything else that `inject` and `self_score` have in common."""
    names = ("encoder", "mapper", "calibration", "activation", "seed")
    return text_arguments(options) | {name: getattr(options, name) for name in names}


def seen_class_names(text: str | None) -> str | list[str] | None:
    """Read `--seen-classes`: the name of a label set, or the labels in a file.

    Raises:
        ArgumentValueError: The file can't be read, or is none of labels.
    """
    if text is None:
        return None
    looks_like_a_path = os.sep in text or "/" in text or Path(text).suffix.lower() in (".csv", ".json", ".tsv", ".txt")
    # Path.exists raises where the text is too long for a path.
    return read_label_file(text) if looks_like_a_path or os.path.exists(text) else text  # noqa: PTH110


def _descriptions(options: argparse.Namespace) -> Descriptions:
    if options.describe_with is None:
        if options.describe_model is not None:
            raise ArgumentValueError("--describe-model names a model of --describe-with, which is missing. Give both.")
        return None if options.no_descriptions else "auto"
    if options.no_descriptions:
        raise ArgumentValueError("--no-descriptions and --describe-with exclude each other. Leave one out.")
    where = options.describe_with
    written: Descriptions = LanguageModel(where, options.describe_model, token=_token_for(where))
    return written


def _token_for(where: str) -> str | None:
    """The key to send to a server; the user's token for the Hub goes to the Hub's own servers alone. None for a provider."""
    try:
        address = urlsplit(where)
    except ValueError as error:
        raise ArgumentValueError(f"--describe-with {where!r} is no address: {error}. Write http://localhost:11434/v1.") from error
    if not address.hostname:
        return None
    is_hub = address.scheme == "https" and address.hostname.endswith(_HUB_HOST)
    return get_token() if is_hub else os.environ.get(_KEY_VARIABLE)


def find_device(text: str | None) -> torch.device:
    """Find the device to run on; None takes a GPU where there is one.

    Raises:
        ArgumentValueError: It is not there.
    """
    if text is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # each kind of device has an error of its own
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        reason = " ".join(str(error).split("\n")[0].split()).rstrip(".")[:150]
        raise ArgumentValueError(f"There is no device {text!r} here ({reason}). There is: {', '.join(there)}.") from error
    return device


def check_output(folder: Path) -> None:
    """Refuse a folder that can't be written, before the training rather than after it.

    Raises:
        SaveError: It is a file, or lies where nothing may be written.
    """
    # Path.exists raises where a name is too long; making the folder will then tell.
    places = (folder.absolute(), *folder.absolute().parents)
    there = next(path for path in places if os.path.exists(path))  # noqa: PTH110
    if not there.is_dir():
        raise SaveError(f"The model could not be saved to '{folder}': '{there}' is a file. Choose another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SaveError(f"The model could not be saved to '{folder}': '{there}' is not yours to write. Choose another folder.")
