"""Scores of a patched model on labelled images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from timm_inject.errors import ArgumentTypeError, ClassNameError, ImageError, list_some
from timm_inject.head import unwrap_model
from timm_inject.images.classification import image_transform, inference, load_image, model_class_names
from timm_inject.images.metrics import accuracy_by_class, harmonic_mean, mean_accuracy
from timm_inject.injected import find_record
from timm_inject.text import ClassName, ProgressCallback, match_key

__all__ = ["GzslScores", "evaluate", "folder_dataset", "gzsl_scores"]


@dataclass(frozen=True, slots=True)
class GzslScores:
    """Scores of generalised zero-shot classification; fractions in [0, 1], means over classes.

    Attributes:
        zsl_accuracy: T1: images of new classes, predicted among the new classes only. None without such images.
        seen_accuracy: Images of seen classes, predicted over all classes. None without such images.
        unseen_accuracy: Images of new classes, predicted over all classes. None without such images.
        harmonic_mean: Of seen and unseen accuracy; None where one of them is None.
        moved_share: Share of the images of seen classes that are predicted as a new class. None without such images.
        accuracy_of_class: Class name -> accuracy over all classes, for every class with an image.
        num_images: How many images were scored.
    """

    zsl_accuracy: float | None
    seen_accuracy: float | None
    unseen_accuracy: float | None
    harmonic_mean: float | None
    moved_share: float | None
    accuracy_of_class: dict[str, float]
    num_images: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return asdict(self)


def evaluate(
    model: nn.Module,
    images: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any],
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: ProgressCallback | None = None,
) -> GzslScores:
    """Score a model on labelled images. The model is left as it is, its train/eval flags included; it runs where its weights are.

    Args:
        model: A patched model; one without injected classes gets its seen accuracy only.
        images: A folder with one sub-folder a class, named by the class's name, synonym, label or logit index; or a Dataset
            or DataLoader of (image, logit index) with images transformed for the model.
        batch_size: For folders and datasets.
        num_workers: Loader processes, for folders and datasets.
        progress: Called with the step's name, how many batches are done and how many there are.

    Raises:
        ArgumentTypeError: `images` is none of these.
        ImageError: There are no images, or one does not open.
        ClassNameError: A sub-folder is named like none of the model's classes.
    """
    model = unwrap_model(model)
    names = model_class_names(model)
    loader = _loader(model, names, images, batch_size, num_workers)
    record = find_record(model)
    num_seen = record.num_seen if record else len(names)
    predictions = _classify(model, loader, num_seen, progress)
    return gzsl_scores(*predictions, names=[name.name for name in names], num_seen=num_seen)


def gzsl_scores(predicted: Tensor, predicted_new: Tensor, target: Tensor, *, names: list[str], num_seen: int) -> GzslScores:
    """Score the predictions of a model whose classes from `num_seen` on are new.

    Args:
        predicted: (num_images,) logit index, over all classes.
        predicted_new: (num_images,) logit index, among the new classes only; not read where there are none.
        target: (num_images,) logit index of the true class.
        names: Class names in logit order.
        num_seen: How many of the classes are seen.
    """
    is_seen = target < num_seen
    by_class = accuracy_by_class(predicted, target)
    seen = mean_accuracy({index: value for index, value in by_class.items() if index < num_seen})
    unseen = mean_accuracy({index: value for index, value in by_class.items() if index >= num_seen})
    zsl = mean_accuracy(accuracy_by_class(predicted_new[~is_seen], target[~is_seen]))
    moved = (predicted[is_seen] >= num_seen).double().mean().item() if is_seen.any() else None
    return GzslScores(
        zsl_accuracy=zsl,
        seen_accuracy=seen,
        unseen_accuracy=unseen,
        harmonic_mean=None if seen is None or unseen is None else harmonic_mean(seen, unseen),
        moved_share=moved,
        accuracy_of_class=_by_name(by_class, names),
        num_images=len(target),
    )


def _by_name(by_class: dict[int, float], names: list[str]) -> dict[str, float]:
    """Two classes may share a name (ImageNet has two cranes); the later one is told apart by its index."""
    result: dict[str, float] = {}
    for index, value in by_class.items():
        result[f"{names[index]} (class {index})" if names[index] in result else names[index]] = value
    return result


def _loader(model: nn.Module, names: list[ClassName], images: Any, batch_size: int, num_workers: int) -> DataLoader[Any]:
    if isinstance(images, DataLoader):
        return images
    if isinstance(images, str | os.PathLike):
        images = folder_dataset(model, Path(images), names)
    if not hasattr(images, "__getitem__") and not isinstance(images, Iterable):
        raise ArgumentTypeError(
            f"`images` must be a folder with a sub-folder a class, a Dataset or a DataLoader, got {type(images).__name__}."
        )
    on_gpu = next(model.parameters()).device.type == "cuda"
    return DataLoader(images, batch_size=batch_size, num_workers=num_workers, pin_memory=on_gpu)


def folder_dataset(model: nn.Module, folder: Path, names: list[ClassName] | None = None) -> Dataset[Any]:
    """A folder with one sub-folder a class as a Dataset of (image, logit index), transformed for the model.

    Args:
        model: What the images are for.
        folder: As in `evaluate`.
        names: Of the model's classes; None looks them up.
    """
    names = model_class_names(model) if names is None else names
    if not folder.is_dir():
        raise ImageError(f"The image folder '{folder}' does not exist. Pass a folder with one sub-folder a class.")
    try:
        dataset = ImageFolder(str(folder), transform=image_transform(model), loader=load_image, allow_empty=True)
    except FileNotFoundError as error:
        raise ImageError(f"The folder '{folder}' holds no sub-folders. Put the images of each class into one.") from error
    if not dataset.samples:
        raise ImageError(f"The folder '{folder}' holds no images in its sub-folders. Put each class's images into its own.")
    index_of = _index_folders(dataset.classes, names)
    dataset.target_transform = lambda position: index_of[position]
    return dataset


def _index_folders(folders: list[str], names: list[ClassName]) -> list[int]:
    index_of_key: dict[str, int] = {}
    # Names and labels (WordNet ids, for ImageNet) first: a class's own name wins over another's synonym.
    for index, name in enumerate(names):
        index_of_key.setdefault(match_key(name.name), index)
        if name.label is not None:
            index_of_key.setdefault(match_key(name.label), index)
    for index, name in enumerate(names):
        for synonym in name.synonyms:
            index_of_key.setdefault(match_key(synonym), index)
    found = [_folder_index(folder, index_of_key, len(names)) for folder in folders]
    unknown = [repr(folder) for folder, index in zip(folders, found, strict=True) if index is None]
    if unknown:
        raise ClassNameError(
            f"{len(unknown)} of {len(folders)} sub-folders are named like no class of the model: {list_some(unknown)}. Name "
            f"each by its class's name, synonym, label or logit index (0 to {len(names) - 1})."
        )
    return [index for index in found if index is not None]


def _folder_index(folder: str, index_of_key: dict[str, int], num_classes: int) -> int | None:
    if folder.isascii() and folder.isdigit() and int(folder) < num_classes:
        return int(folder)
    return index_of_key.get(match_key(folder))


def _classify(
    model: nn.Module, loader: DataLoader[Any], num_seen: int, progress: ProgressCallback | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted class, predicted class among the new ones, and true class of every image."""
    parameter = next(model.parameters())
    batches: list[tuple[Tensor, Tensor, Tensor]] = []
    with inference(model):
        for images, labels in loader:
            logits = model(images.to(parameter.device, parameter.dtype, non_blocking=True))
            target = torch.as_tensor(labels)
            new = logits[:, num_seen:]
            predicted_new = new.argmax(1) + num_seen if new.shape[1] else torch.full_like(target, -1)
            # Indices stay where the model is until the end: to fetch them is to wait for it.
            batches.append((logits.argmax(1), predicted_new, target))
            if progress is not None:
                progress("Classify the images", len(batches), len(loader))
    if not batches:
        raise ImageError("There are no images to evaluate.")
    predicted, predicted_new, target = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    return predicted, predicted_new, target
