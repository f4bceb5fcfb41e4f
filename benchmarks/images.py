"""ImageNet heads, and what they see of labelled photos."""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks import BenchmarkDataError, BenchmarkFileError
from timm_inject.cache import content_key
from timm_inject.errors import ArgumentValueError, ImageError, list_some
from timm_inject.head import Leaf, find_head, read_rows
from timm_inject.images import folder_dataset, image_transform, inference, load_image
from timm_inject.offline import load_model
from timm_inject.text import ClassName, ProgressCallback, resolve_seen_class_names

_HEADS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
_LABELS_FILE = "labels.csv"
_BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class ImageHead:
    """A trained head and images that it classifies.

    Attributes:
        name: Of the timm model.
        rows: (num_classes, row_dim).
        names: In logit order.
        features: (num_images, feature_dim), the head's input.
        labels: (num_images,) logit index.
    """

    name: str
    rows: Tensor
    names: Sequence[ClassName]
    features: Tensor
    labels: Tensor


def add_head_options(command: argparse.ArgumentParser) -> None:
    """Which heads, and the photos."""
    text = f"one sub-folder a class, or {_LABELS_FILE} (file, label) and images"
    command.add_argument("--images", type=Path, metavar="DIR", help=text)
    text = f"timm models (default: {' '.join(_HEADS)})"
    command.add_argument("--heads", nargs="+", default=list(_HEADS), metavar="MODEL", help=text)


def load_heads(options: argparse.Namespace, progress: ProgressCallback) -> list[ImageHead]:
    """The heads that the options name."""
    if options.images is None:
        raise ArgumentValueError("Pass `--images`, a folder with one sub-folder a class.")
    return [load_head(name, options.images, options.output, progress) for name in options.heads]


def load_head(name: str, folder: Path | None, output: Path, progress: ProgressCallback) -> ImageHead:
    """Load a head and what it sees of labelled images.

    Args:
        name: A timm model; or, without images, the path of an `.npz` with the arrays `weight` and `bias` of ImageNet-1k.
        folder: Labelled images, as `read_labelled_images` takes them; None for none.
        output: Where features are kept.
        progress: Called while images are read.

    Raises:
        ArgumentValueError: The file cannot be read, or the head has several layers.
    """
    no_labels = torch.zeros(0, dtype=torch.int64)
    if folder is None and Path(name).suffix == ".npz":
        rows = _read_rows(Path(name))
        names = resolve_seen_class_names(None, len(rows), "imagenet-1k")
        return ImageHead(Path(name).name, rows, names, torch.zeros(0, rows.shape[1] - 1), no_labels)
    model = load_model(name)
    head = find_head(model)
    if len(head.leaves) != 1:
        raise ArgumentValueError(f"The head of {name!r} has {len(head.leaves)} layers; this benchmark measures heads of one.")
    leaf, names = head.leaves[0], resolve_seen_class_names(model, head.num_classes)
    if folder is None:
        return ImageHead(name, read_rows(leaf), names, torch.zeros(0, leaf.feature_dim), no_labels)
    files, labels = read_labelled_images(model, folder)
    return ImageHead(name, read_rows(leaf), names, image_features(model, leaf, files, output, progress), labels)


def _read_rows(path: Path) -> Tensor:
    try:
        arrays = np.load(path, allow_pickle=False)
        weight, bias = torch.from_numpy(arrays["weight"]).float(), torch.from_numpy(arrays["bias"]).float()
        return torch.cat([weight, bias[:, None]], dim=1)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ArgumentValueError(
            f"The head '{path}' could not be read: {error}. Write it with numpy.savez(path, weight=(1000, dim), bias=(1000,))."
        ) from error


def read_labelled_images(model: nn.Module, folder: Path) -> tuple[list[Path], Tensor]:
    """Find images and their labels, (num_images,) int64, as logit indices of the model.

    Args:
        model: Names the classes.
        folder: Either one sub-folder a class, as `timm_inject.evaluate` takes it; or a file `labels.csv` with the columns
            `file` and `label` (logit index) beside the images or a folder `images` of them.

    Raises:
        BenchmarkFileError: An image that `labels.csv` names does not exist.
        BenchmarkDataError: A line of `labels.csv` is not a file and a label.
        ImageError, ClassNameError: The folder holds no images, or a sub-folder that is named like none of the classes.
    """
    if (folder / _LABELS_FILE).is_file():
        pairs = _from_csv(folder, find_head(model).num_classes)
    else:
        dataset = folder_dataset(model, folder)
        pairs = [(Path(file), dataset.target_transform(position)) for file, position in dataset.samples]
    return [file for file, _ in pairs], torch.tensor([label for _, label in pairs], dtype=torch.int64)


def image_features(
    model: nn.Module, leaf: Leaf, files: Sequence[Path], cache: Path, progress: ProgressCallback | None = None
) -> Tensor:
    """What a layer of the model gets as input for each image: (num_images, feature_dim), float32 on the CPU.

    The folder `cache` keeps features under a name made of the files' sizes and the model's weights. The model is left as it is.

    Raises:
        ImageError: An image does not open, or the layer's input is not one vector an image.
    """
    weights = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    key = content_key(*(f"{file.name}:{file.stat().st_size}" for file in files), *weights[:2], *weights[-2:])[:16]
    path = cache / f"features-{key}.safetensors"
    if path.is_file():
        try:
            return load_file(path)["features"]
        except (OSError, KeyError, SafetensorError):
            path.unlink()  # Cut off by a kill; made again below.
    features = _extract(model, leaf, files, progress)
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


def _from_csv(folder: Path, num_classes: int) -> list[tuple[Path, int]]:
    path = folder / _LABELS_FILE
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))

    def is_label(text: str | None) -> bool:
        return text is not None and text.isdigit() and int(text) < num_classes

    wrong = [number for number, line in enumerate(lines, start=2) if not (line.get("file") and is_label(line.get("label")))]
    if wrong:
        raise BenchmarkDataError(
            f"{len(wrong)} lines of '{path}' are not a file and a label from 0 to {num_classes - 1}: {list_some(wrong)}. "
            f"Write the columns `file` and `label`."
        )
    if not lines:
        raise BenchmarkDataError(f"'{path}' names no images.")
    images = folder / "images" if (folder / "images").is_dir() else folder
    pairs = [(images / line["file"], int(line["label"])) for line in lines]
    missing = [repr(file.name) for file, _ in pairs if not file.is_file()]
    if missing:
        raise BenchmarkFileError(f"{len(missing)} images of '{path}' are not in '{images}': {list_some(missing)}.")
    return pairs
