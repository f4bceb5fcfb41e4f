"""What one visitor does on the page, without the page: names to meanings, to a patched model, to photos and a download.

Nothing here knows of Gradio, so that all of it can be tested without a browser. Every mistake of the visitor's comes out as a
`TimmInjectError`, whose text the page shows as it is.
"""

from __future__ import annotations

import copy
import functools
import re
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import timm
import torch
from PIL import Image, ImageOps
from torch import nn

import timm_inject
from timm_inject import (
    ArgumentValueError,
    ClassNameError,
    ClassText,
    Explanation,
    HubTokenError,
    ImageError,
    InjectionRecord,
    InjectionWarning,
    Prediction,
    TextEncoder,
    UnsupportedHeadError,
)
from timm_inject.images import load_image, model_class_names
from timm_inject.offline import PACKAGED_MODELS, create_packaged_model, load_model
from timm_inject.text import ProgressCallback, names_to_mapping, parse_names

__all__ = ["CALIBRATIONS", "DEFAULT_MODEL", "LIMITS", "Added", "Checked", "Comparison", "Limits", "Session", "model_choices"]

DEFAULT_MODEL = next(iter(PACKAGED_MODELS))
Calibration = Literal["balanced", "harmonic", "keep-seen"] | None
CALIBRATIONS: dict[str, Calibration] = {
    "Balance seen and new classes": "balanced",
    "Let new classes win as often as does both good": "harmonic",
    "Hardly touch the seen classes": "keep-seen",
    "Leave the rows as predicted": None,
}

# A name of timm's, or a repository on the Hub. No folder: this machine's are not the visitor's to read.
_MODEL_NAME = re.compile(r"(hf[-_]hub:[\w.-]+/[\w.-]+(@[\w.-]+)?)|[\w.-]+", re.ASCII)
_THUMBNAIL = (480, 480)

# The library's warnings are the visitor's to read, and Python keeps one list of them for all threads.
_warnings_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Limits:
    """What the page takes, so that one visitor cannot use up the machine that all share.

    Attributes:
        names: New classes at a time.
        characters: Of one name with its description.
        parameters: Of a model.
        photos: At a time.
        pixels: Of a photo, before it is decoded.
    """

    names: int = 200
    characters: int = 1000
    parameters: int = 100_000_000
    photos: int = 12
    pixels: int = 50_000_000


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found for the names, before anything is trained.

    Attributes:
        model_name: As the visitor gave it.
        num_seen: How many classes the model has.
        texts: Of the new classes, in the given order.
    """

    model_name: str
    num_seen: int
    texts: tuple[ClassText, ...]


@dataclass(frozen=True, slots=True)
class Added:
    """The patched model.

    Attributes:
        record: What was injected, with the self-score and an estimate for each name.
        warnings: What the library warned of, in its words.
        archive: The zip to download.
    """

    record: InjectionRecord
    warnings: tuple[str, ...]
    archive: Path


@dataclass(frozen=True, slots=True, eq=False)  # Gradio hashes what it keeps, and a picture has no hash
class Comparison:
    """One photo, classified by the model as it was and as it is.

    Attributes:
        file_name: As the visitor called it.
        thumbnail: To show.
        before: Likeliest classes of the original model, best first.
        after: The same of the patched model.
    """

    file_name: str
    thumbnail: Image.Image
    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]


class Session:
    """One visitor's work. Two visitors share nothing but original models, which nobody changes.

    Args:
        encoder: As in `timm_inject.inject`.
        load: Makes a model from its name.
        limits: What is taken.
    """

    def __init__(
        self,
        encoder: TextEncoder | None = None,
        load: Callable[[str], nn.Module] | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self._encoder = encoder
        self._load = load or _load_shared
        self._limits = limits
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._original: nn.Module | None = None
        self._patched: nn.Module | None = None
        self._checked: Checked | None = None
        self._typed: dict[str, str] = {}
        self._given: dict[str, str] = {}

    def check_names(self, model_name: str, text: str, progress: ProgressCallback | None = None) -> Checked:
        """Load the model and say what each name is taken to mean. What was made before is dropped.

        Args:
            model_name: What timm calls it, or "hf-hub:user/name".
            text: The names box, as a file of names is written: one "name" or "name: description" a line, a table or JSON.
            progress: As in `timm_inject.inject`.

        Raises:
            TimmInjectError: The model or a name cannot be used.
        """
        self.close()
        pairs = _read_names(text, self._limits)
        _tell(progress, "Load the model", 0, 2)
        model = self._load(_check_model_name(model_name))
        _tell(progress, "Look the names up", 1, 2)
        texts = timm_inject.look_up(model, names_to_mapping(pairs))
        self._typed = {entry.name: typed for entry, (typed, _) in zip(texts, pairs, strict=True)}
        self._given = {typed: description for typed, description in pairs if description}
        self._original = model
        self._checked = Checked(model_name.strip(), len(model_class_names(model)), tuple(texts))
        return self._checked

    def add_classes(
        self, definitions: Mapping[str, str], calibration: Calibration = "balanced", progress: ProgressCallback | None = None
    ) -> Added:
        """Inject the checked names into a copy of the model and pack it for the download.

        Args:
            definitions: Name -> the cell of the table as the visitor left it: the text that was found, another, which stands
                beside the meaning, the WordNet id of another meaning, or nothing to have it looked up. A checked name that is not
                in it is left out.
            calibration: As in `timm_inject.inject`.
            progress: As in `timm_inject.inject`.

        Raises:
            TimmInjectError: As `timm_inject.inject`.
        """
        if self._original is None or self._checked is None:
            raise ArgumentValueError(
                'No names are checked yet, or they were put away after a long pause. Press "Check names" first.'
            )
        self._patched = None
        wanted = [entry for entry in self._checked.texts if entry.name in definitions]
        names = {self._typed[entry.name]: self._description(entry, definitions[entry.name].strip()) for entry in wanted}
        patched = copy.deepcopy(self._original)
        _tell(progress, "Load the text encoder", 0, 1)
        with _warnings_lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InjectionWarning)
            timm_inject.inject(patched, names, encoder=self._encoder, calibration=calibration, progress=progress)
        told = tuple(str(entry.message) for entry in caught if issubclass(entry.category, InjectionWarning))
        _tell(progress, "Pack the download", 0, 1)
        archive = self._pack(patched, self._checked.model_name)
        self._patched = patched
        return Added(timm_inject.injection_record(patched), told, archive)

    def explain(self, name: str) -> Explanation:
        """Say what the new row of that name is made of, and whose images it may take."""
        return timm_inject.explain(self._require_models()[1], name)

    def compare(self, photos: Sequence[Path], progress: ProgressCallback | None = None) -> list[Comparison]:
        """Classify photos with the model as it was and as it is.

        Raises:
            ImageError: A file is no image, or too large.
            ArgumentValueError: There is no patched model, or there are too many photos.
        """
        original, patched = self._require_models()
        if not photos:
            raise ArgumentValueError("No photo was given. Choose one or more.")
        if len(photos) > self._limits.photos:
            raise ArgumentValueError(f"{len(photos)} photos were given; this page takes at most {self._limits.photos} at a time.")
        pictures = [_open_photo(path, self._limits) for path in photos]
        results = []
        for position, (path, picture) in enumerate(zip(photos, pictures, strict=True)):
            _tell(progress, "Classify the photos", position, len(photos))
            before, after = (tuple(timm_inject.classify(model, [picture])[0]) for model in (original, patched))
            picture.thumbnail(_THUMBNAIL)
            results.append(Comparison(path.name, picture, before, after))
        return results

    def push(self, repo_id: str, token: str, *, private: bool) -> tuple[str, tuple[str, ...]]:
        """Push the patched model to the Hub with the visitor's own token, which is kept nowhere.

        Returns:
            The commit's address, and what the library warned of.

        Raises:
            TimmInjectError: As `timm_inject.push_to_hf_hub`; the token is not in its text.
        """
        patched = self._require_models()[1]
        token = token.strip()
        if not token:
            # Without a token the library would take the one of whoever runs this page.
            raise HubTokenError(
                "There is no access token for the Hub, so nothing was sent. Give one that may write "
                "(https://huggingface.co/settings/tokens)."
            )
        try:
            with _warnings_lock, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", InjectionWarning)
                commit = timm_inject.push_to_hf_hub(patched, repo_id.strip(), token=token, private=private)
        except timm_inject.TimmInjectError as error:
            raise type(error)(str(error).replace(token, "(token)")) from None
        return commit.commit_url, tuple(str(entry.message) for entry in caught if issubclass(entry.category, InjectionWarning))

    def close(self) -> None:
        """Drop the models and delete the files."""
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = self._original = self._patched = self._checked = None

    def _require_models(self) -> tuple[nn.Module, nn.Module]:
        """The original and the patched one."""
        if self._original is None or self._patched is None:
            raise ArgumentValueError(
                'No classes are added yet, or they were put away after a long pause. Press "Add classes" first.'
            )
        return self._original, self._patched

    def _description(self, entry: ClassText, text: str) -> str | None:
        """What to pass for a class: None has it looked up, as it was for the table."""
        if len(text) > self._limits.characters:
            raise ClassNameError(
                f"The text of {entry.name!r} has {len(text)} characters; this page takes at most {self._limits.characters}. "
                "Shorten it."
            )
        if text == next(iter(entry.descriptions), ""):
            return self._given.get(self._typed[entry.name])
        return text or None

    def _pack(self, model: nn.Module, model_name: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="timm-inject-")
        name = re.sub(r"[^\w.-]+", "-", model_name.rpartition("/")[2]) + "-plus"
        folder = timm_inject.save_for_hf(model, Path(self._folder.name) / name)
        archive = folder.with_name(f"{name}.zip")
        with zipfile.ZipFile(archive, "w") as packed:  # not compressed: weights hardly shrink
            for path in sorted(folder.iterdir()):
                packed.write(path, f"{name}/{path.name}")
                path.unlink()
        return archive


def model_choices() -> list[str]:
    """The packaged model, then every model that timm has trained weights for."""
    return [DEFAULT_MODEL, *timm.list_pretrained()]


def _read_names(text: str, limits: Limits) -> list[tuple[str, str | None]]:
    if all(line.strip() == "" or line.lstrip().startswith("#") for line in text.splitlines()):
        raise ArgumentValueError("The names box is empty. Write at least one name, such as okapi, one a line.")
    pairs = parse_names(text, where="The names box")
    if len(pairs) > limits.names:
        raise ArgumentValueError(
            f"The names box has {len(pairs)} names; this page takes at most {limits.names} at a time. Remove some, or use "
            "`timm-inject inject --names-file`, which has no such limit."
        )
    lengths = [len(name) + len(description or "") for name, description in pairs]
    if max(lengths) > limits.characters:
        long = next(number for number, length in enumerate(lengths, 1) if length > limits.characters)
        raise ClassNameError(
            f"Name {long} of {len(pairs)} has {lengths[long - 1]} characters with its description; this page takes at most "
            f"{limits.characters}. Shorten it, or start a new line for each name."
        )
    return pairs


def _check_model_name(name: str | None) -> str:
    name = (name or "").strip()
    if _MODEL_NAME.fullmatch(name) is None:
        raise ArgumentValueError(
            f"{name!r} is not a model that this page takes. Give a name of `timm.list_pretrained()`, such as {DEFAULT_MODEL!r}, or "
            "a repository on the Hub, 'hf-hub:user/name'."
        )
    return name


@functools.lru_cache(maxsize=2)
def _load_shared(name: str) -> nn.Module:
    """A model that sessions copy and never change."""
    if name == DEFAULT_MODEL:
        return create_packaged_model(name)
    _check_size(name)
    return load_model(name)


def _check_size(name: str) -> None:
    """Refuse a large model before its weights are downloaded."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except (RuntimeError, OSError, ValueError):
        return  # `load_model` says what is wrong with the name
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > LIMITS.parameters:
        raise UnsupportedHeadError(
            f"{name!r} has {size / 1e6:.0f} million parameters; this page takes models of at most {LIMITS.parameters / 1e6:.0f} "
            "million. Choose a smaller one, or use timm_inject on a machine of your own."
        )


def _open_photo(path: Path, limits: Limits) -> Image.Image:
    """Read a photo the right way up; phones write beside the pixels how they held it."""
    try:
        with Image.open(path) as image:
            num_pixels = image.width * image.height
        if num_pixels > limits.pixels:
            raise ImageError(
                f"The image '{path.name}' has {num_pixels / 1e6:.0f} million pixels; this page takes at most "
                f"{limits.pixels / 1e6:.0f} million. Make it smaller."
            )
    except (OSError, Image.DecompressionBombError):
        pass  # `load_image` says what is wrong with the file
    try:
        return ImageOps.exif_transpose(load_image(path))
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), path.name)) from None


def _tell(progress: ProgressCallback | None, step: str, done: int, total: int) -> None:
    if progress is not None:
        progress(step, done, total)
