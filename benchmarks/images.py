"""Labelled photos, and what a head gets to see of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.errors import BenchmarkDataError, BenchmarkFileError
from timm_inject.cache import content_key
from timm_inject.text import ClassName, match_key
from timm_inject.images import image_transform, inference, load_image
from timm_inject.errors import ImageError, list_some
from timm_inject.head import Leaf
from timm_inject.mappers import ProgressCallback

__all__ = ["LABELS_FILE", "image_features", "read_labelled_images"]

LABELS_FILE = "labels.csv"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"}
_BATCH_SIZE = 32


def read_labelled_images(folder: Path, names: Sequence[ClassName]) -> tuple[list[Path], Tensor]:
    """Find images and their classes, as logit indices.

    Args:
        folder: Either one sub-folder a class, named by the class's index, label (WordNet id), name or synonym; or a file
            `labels.csv` with the columns `file` and `label` (logit index) beside the images or a folder `images` of them.
        names: The model's classes, in logit order.

    Returns:
        The files, and their labels: (num_images,) int64.

    Raises:
        BenchmarkFileError: The folder or an image that `labels.csv` names does not exist.
        BenchmarkDataError: There are no images, or a folder or label means no class.
    """
    if not folder.is_dir():
        raise BenchmarkFileError(
            f"The image folder '{folder}' does not exist. Pass a folder with one sub-folder a class, or with {LABELS_FILE}."
        )
    pairs = _from_csv(folder, len(names)) if (folder / LABELS_FILE).is_file() else _from_folders(folder, names)
    if not pairs:
        raise BenchmarkDataError(f"The folder '{folder}' holds no images in sub-folders, and no {LABELS_FILE}.")
    files, labels = zip(*pairs, strict=True)
    return list(files), torch.tensor(labels)


def image_features(
    model: nn.Module, leaf: Leaf, files: Sequence[Path], cache: Path | None = None, progress: ProgressCallback | None = None
) -> Tensor:
    """What the head's layer gets as input for each image: (num_images, feature_dim), float32 on the CPU.

    Args:
        model: In any mode; it is left as it is.
        leaf: The layer, of this model.
        files: Images; each is transformed as the model's own config asks for.
        cache: A folder that keeps features, under a name made of the files' sizes and the model's weights.
        progress: Called with the step's name, how many images are done and how many there are.

    Raises:
        ImageError: An image does not open, or the layer's input is not one vector an image.
    """
    path = cache / f"features-{_features_key(model, files)}.safetensors" if cache is not None else None
    if path is not None and path.is_file():
        try:
            return load_file(path)["features"]
        except (OSError, KeyError, SafetensorError):
            path.unlink()  # Cut off by a kill; made again below.
    features = _extract(model, leaf, files, progress)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"features": features}, path)
    return features


def _extract(model: nn.Module, leaf: Leaf, files: Sequence[Path], progress: ProgressCallback | None) -> Tensor:
    transform = image_transform(model)
    parameter = next(model.parameters())
    seen: list[Tensor] = []
    hook = leaf.layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu().flatten(1)))
    try:
        with inference(model):
            for start in range(0, len(files), _BATCH_SIZE):
                batch = torch.stack([transform(load_image(file)) for file in files[start : start + _BATCH_SIZE]])
                model(batch.to(parameter.device, parameter.dtype))
                if progress is not None:
                    progress("Read the images", min(start + _BATCH_SIZE, len(files)), len(files))
    finally:
        hook.remove()
    features = torch.cat(seen)
    if features.shape != (len(files), leaf.feature_dim):
        raise ImageError(
            f"The layer '{leaf.name}' got {tuple(features.shape)} for {len(files)} images, expected one vector of "
            f"{leaf.feature_dim} an image. Choose a model whose head is a Linear layer on pooled features."
        )
    # A clone: an inference tensor could not be saved or used in training.
    return features.clone()


def _features_key(model: nn.Module, files: Sequence[Path]) -> str:
    weights = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return content_key(*(f"{file.name}:{file.stat().st_size}" for file in files), *weights[:2], *weights[-2:])[:16]


def _from_csv(folder: Path, num_classes: int) -> list[tuple[Path, int]]:
    path = folder / LABELS_FILE
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    wrong = [
        number
        for number, line in enumerate(lines, start=2)
        if not (line.get("file") and (line.get("label") or "").isdigit() and int(line["label"]) < num_classes)
    ]
    if wrong:
        raise BenchmarkDataError(
            f"{len(wrong)} lines of '{path}' are not a file and a label from 0 to {num_classes - 1}: {list_some(wrong)}. "
            f"Write the columns `file` and `label`."
        )
    images = folder / "images" if (folder / "images").is_dir() else folder
    pairs = [(images / line["file"], int(line["label"])) for line in lines]
    missing = [repr(file.name) for file, _ in pairs if not file.is_file()]
    if missing:
        raise BenchmarkFileError(f"{len(missing)} images of '{path}' are not in '{images}': {list_some(missing)}.")
    return pairs


def _from_folders(folder: Path, names: Sequence[ClassName]) -> list[tuple[Path, int]]:
    index_of = _index_by_key(names)
    pairs, unknown = [], []
    for directory in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in directory.rglob("*") if path.suffix.lower() in _SUFFIXES)
        name = directory.name
        is_index = name.isascii() and name.isdigit() and int(name) < len(names)
        index = int(name) if is_index else index_of.get(match_key(name))
        if index is None:
            unknown.append(repr(name))
            continue
        pairs += [(file, index) for file in files]
    if unknown:
        raise BenchmarkDataError(
            f"{len(unknown)} sub-folders of '{folder}' are named like no class of the model: {list_some(unknown)}. Name each by "
            f"its class's index, label (such as a WordNet id), name or synonym."
        )
    return pairs


def _index_by_key(names: Sequence[ClassName]) -> dict[str, int]:
    """Names and labels first: a class's own name wins over another's synonym."""
    index_of: dict[str, int] = {}
    for index, name in enumerate(names):
        for text in filter(None, (name.name, name.label)):
            index_of.setdefault(match_key(text), index)
    for index, name in enumerate(names):
        for text in name.synonyms:
            index_of.setdefault(match_key(text), index)
    return index_of
