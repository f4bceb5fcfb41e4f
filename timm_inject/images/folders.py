"""Folders of labelled images: which files are images, and which class of the model a folder's name means."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from timm_inject.errors import ClassNameError, ImageError, InjectionWarning, list_some
from timm_inject.images.classification import model_class_names
from timm_inject.images.loading import check_image, image_suffixes, image_transform, load_image
from timm_inject.text import ClassName, match_key

__all__ = ["ClassFinder", "FolderDataset", "folder_dataset"]

# What systems and programs leave in folders, beside names that begin with a dot; lower case.
_LEFT_BY_SYSTEMS = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
        "icon\r",
    }
)
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_WNID_FIRST = re.compile(r"(n\d{8})[\s._-]+(.+)")  # "n02085620-Chihuahua"
_NUMBER_FIRST = re.compile(r"\d+[\s._-]+(.+)")  # "001.Black_footed_Albatross"
_NUMBER = re.compile(r"[0-9]+")
_NOT_IN_FILE_NAMES = re.compile(r"""[\\/:*?"<>|]""")  # such a name is written with something else in a folder's name


class FolderDataset(Dataset[tuple[Tensor, int]]):
    """A folder with one sub-folder a class as (image, logit index). Can be sent to loader processes however they are started.

    Attributes:
        classes: Names of the sub-folders.
        samples: (file, position of its sub-folder in `classes`), in order.
        transform: From an RGB image to a tensor.
        target_transform: From a position in `classes` to a logit index.
    """

    def __init__(self, classes: Sequence[str], samples: Sequence[tuple[str, int]], transform: Any, indices: Sequence[int]) -> None:
        self.classes = list(classes)
        self.samples = list(samples)
        self.transform = transform
        self.target_transform = list(indices).__getitem__

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, position = self.samples[index]
        return self.transform(load_image(path)), self.target_transform(position)


def folder_dataset(model: nn.Module, folder: Path, names: Sequence[ClassName] | None = None) -> FolderDataset:
    """A folder with one sub-folder a class as a Dataset of (image, logit index), transformed for the model.

    Files that are hidden or left by systems are not looked at. What Pillow opens is an image, whatever its suffix; other files are
    counted in one warning.

    Args:
        model: What the images are for.
        folder: As in `evaluate`.
        names: Of the model's classes; None looks them up.

    Raises:
        ImageError: There is no such folder, or no image in it.
        ClassNameError: A sub-folder's name means none or several of the model's classes.
    """
    names = model_class_names(model) if names is None else names
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise ImageError(f"The image folder '{folder}' {problem}. Pass a folder with one sub-folder a class.")
    entries = [entry for entry in _entries(folder) if not _is_left_out(entry.name)]
    classes = [entry.name for entry in entries if entry.is_dir()]
    if not classes:
        raise ImageError(f"The folder '{folder}' holds no sub-folders. Put the images of each class into one.")
    suffixes, samples, skipped = image_suffixes(), [], []
    for position, name in enumerate(classes):
        for path in _files(folder / name, {os.path.realpath(folder)}):
            if _is_image(path, suffixes):
                samples.append((str(path), position))
            else:
                skipped.append(path)
    notes = _notes(skipped, [entry for entry in entries if entry.suffix.lower() in suffixes and entry.is_file()])
    if not samples:
        problem = f"The folder '{folder}' holds no images in its sub-folders. Put each class's images into its own."
        raise ImageError(" ".join([problem, *notes]))
    indices = ClassFinder(names).indices(classes, "sub-folders")
    if notes:
        warnings.warn(f"In '{folder}': {' '.join(notes)}", InjectionWarning, stacklevel=2)
    return FolderDataset(classes, samples, image_transform(model), indices)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ImageError(f"The folder '{folder}' could not be read: {error.strerror or error}. Check its permissions.") from error


def _files(folder: Path, above: set[str]) -> Iterator[Path]:
    """Files at any depth, in order. Links are followed, but not to a folder that this one lies in."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _entries(folder):
        if _is_left_out(entry.name):
            continue
        if entry.is_dir():
            yield from _files(entry, above | {real})
        elif entry.is_file() or entry.is_symlink():  # no pipes and sockets; a link to nothing is told when it is read
            yield entry


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _LEFT_BY_SYSTEMS


def _is_image(path: Path, suffixes: frozenset[str]) -> bool:
    """By the suffix, so that a damaged photo is told and not left out; else by whether Pillow opens it."""
    if path.suffix.lower() in suffixes:
        return True
    try:
        check_image(path)
    except ImageError:
        return False
    return True


def _notes(skipped: list[Path], beside: list[Path]) -> list[str]:
    notes = []
    if skipped:
        counts = Counter(path.suffix.lower() or "no suffix" for path in skipped)
        kinds = list_some(f"{suffix} ({count})" for suffix, count in counts.most_common())
        one = len(skipped) == 1
        which = "1 file is no image" if one else f"{len(skipped)} files are no images"
        notes.append(f"{which} that Pillow reads and {'was' if one else 'were'} left out: {kinds}.")
        if counts.keys() & {".heic", ".heif"}:
            notes.append("For .heic install pillow-heif and call `pillow_heif.register_heif_opener()`.")
    if beside:
        which = "1 image lies" if len(beside) == 1 else f"{len(beside)} images lie"
        notes.append(f"{which} beside the sub-folders, so of no class: {list_some(repr(path.name) for path in beside)}.")
    return notes


# ---- Names ----------------------------------------------------------------------------------------------------------


class ClassFinder:
    """Finds the classes that a name may mean: by label, else by name, else by synonym, else by logit index."""

    def __init__(self, names: Sequence[ClassName]) -> None:
        self._names = names
        # However a class is shown, ids of WordNet are what folders of ImageNet are called.
        labels = [(name.label or "", (name.sense.wnid or "") if name.sense else "") for name in names]
        self._labels = (_index(labels, _exact), _index(labels, _loose))
        own = [(name.name,) for name in names]
        self._levels = (*self._labels, _index(own, _exact), _index(own, _loose), _index([name.synonyms for name in names], _loose))
        # Where classes are called by numbers, a number in a folder's name can't be told from an index.
        self._takes_index = not any(_NUMBER.fullmatch(text) for name in names for text in (name.name, name.label or ""))

    def find(self, text: str) -> list[int]:
        """The logit indices of all classes that fit best; none, one, or several that can't be told apart."""
        if found := _first(self._levels, text):
            return found
        if self._takes_index and _NUMBER.fullmatch(text) and int(text) < len(self._names):
            return [int(text)]
        if match := _WNID_FIRST.fullmatch(text):
            by_id, by_name = _first(self._labels, match[1]), _first(self._levels, match[2])
            # An id that is not the model's may be of another class of that name.
            return by_id and (sorted({*by_id} & {*by_name}) or sorted({*by_id, *by_name}))
        match = _NUMBER_FIRST.fullmatch(text)
        return _first(self._levels, match[1]) if match else []

    def indices(self, texts: Sequence[str], what: str, otherwise: str = "") -> list[int]:
        """The logit index of each name.

        Args:
            texts: The names.
            what: What they are, for the error.
            otherwise: Another way out, for the error.

        Raises:
            ClassNameError: A name means none or several of the classes; all such names at once.
        """
        found = [self.find(text) for text in texts]
        unknown = [text for text, indices in zip(texts, found, strict=True) if not indices]
        several = [f"{text!r} ({self._labels_of(indices)})" for text, indices in zip(texts, found, strict=True) if len(indices) > 1]
        problems = []
        if unknown:
            kinds = (
                f"or logit index (0 to {len(self._names) - 1})"
                if self._takes_index
                else "(numbers are labels here, no logit indices)"
            )
            split = next((text for text in unknown if text.casefold() in _SPLITS), None)
            problems.append(
                f"{len(unknown)} of {len(texts)} {what} are named like no class of the model: {list_some(map(repr, unknown))}. "
                f"Name each by its class's name, synonym, label {kinds}.{f' Or pass the folder {split!r} itself.' if split else ''}"
            )
        if several:
            problems.append(
                f"{len(several)} of {len(texts)} {what} fit several classes: {list_some(several)}. Name each by one of these."
            )
        if problems:
            raise ClassNameError(" ".join(filter(None, [*problems, otherwise])))
        return [indices[0] for indices in found]

    def _labels_of(self, indices: list[int]) -> str:
        labels = [self._names[index].label or self._names[index].name for index in indices]
        told_apart = len(set(labels)) == len(labels)
        return ", ".join(labels if told_apart else map(str, indices))


def _index(texts: Iterable[Sequence[str]], key_of: Any) -> tuple[Any, dict[str, list[int]]]:
    index: dict[str, list[int]] = {}
    for position, own in enumerate(texts):
        for key in {key_of(text) for text in own} - {""}:
            index.setdefault(key, []).append(position)
    return key_of, index


def _first(levels: Iterable[tuple[Any, dict[str, list[int]]]], text: str) -> list[int]:
    return next((found for key_of, index in levels if (found := index.get(key_of(text)))), [])


def _exact(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())  # macOS writes file names decomposed


def _loose(text: str) -> str:
    return match_key(_NOT_IN_FILE_NAMES.sub(" ", text))
