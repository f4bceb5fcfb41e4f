"""Scores of a patched model on labelled images."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from timm_inject.errors import ArgumentValueError, ImageError
from timm_inject.head import unwrap_model
from timm_inject.images.batches import LabelReader, as_loader, iterate, length_of
from timm_inject.images.classification import inference, model_class_names, whole_number
from timm_inject.images.folders import folder_dataset
from timm_inject.images.loading import image_transform
from timm_inject.images.metrics import accuracy_by_class, harmonic_mean, mean_accuracy
from timm_inject.injected import find_record
from timm_inject.text import ProgressCallback

__all__ = ["GzslScores", "evaluate", "gzsl_scores"]


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
        seen_accuracy_before: Images of seen classes, predicted among the seen classes only: what the model reached before the
            injection. None without such images.
        input_size: (channels, height, width) of the images as the model got them; for a folder that is timm's test size where the
            model's config has one and the model takes it. None where the images differ in size.
    """

    zsl_accuracy: float | None
    seen_accuracy: float | None
    unseen_accuracy: float | None
    harmonic_mean: float | None
    moved_share: float | None
    accuracy_of_class: dict[str, float]
    num_images: int
    seen_accuracy_before: float | None = None
    input_size: tuple[int, int, int] | None = None

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

    A folder's images are read as by `classify`: of the model's own size, which is timm's test size where its config has one;
    `GzslScores.input_size` says which.

    Args:
        model: A patched model; one without injected classes gets its seen accuracy only.
        images: A folder with one sub-folder a class, named by the class's label, name, synonym or logit index; or a Dataset
            or DataLoader of (image, logit index) with images transformed for the model, or PIL images, which are transformed
            here. A dataset with `classes` or `class_to_idx` and without a `target_transform`, such as torchvision's
            `ImageFolder`, has labels of its own: they are translated to the model's by the classes' names.
        batch_size: For folders and datasets.
        num_workers: Loader processes, for folders and datasets. Where processes are spawned (macOS, Windows), a script needs
            `if __name__ == "__main__":`.
        progress: Called with the step's name, how many batches are done and how many there are (as many as are done where
            a loader does not know).

    Raises:
        ArgumentTypeError: `images` is none of these, its samples are no such pairs, or a number is none.
        ArgumentValueError: A label is no logit of the model, the model does not take images of that shape, `batch_size` is less
            than 1 or `num_workers` less than 0.
        ImageError: There are no images, or one does not open.
        ClassNameError: A sub-folder, or a class of the dataset, is named like none or several of the model's classes.
    """
    batch_size, num_workers = whole_number("batch_size", batch_size, 1), whole_number("num_workers", num_workers, 0)
    model = unwrap_model(model)
    names = model_class_names(model)
    if isinstance(images, str | os.PathLike):
        images = folder_dataset(model, Path(images), names)
    transform = image_transform(model)
    on_gpu = next(model.parameters()).device.type == "cuda"
    loader = as_loader(images, transform, batch_size, num_workers, on_gpu)
    reader = LabelReader(getattr(loader, "dataset", images), names, transform.input_size[0])
    record = find_record(model)
    num_seen = record.num_seen if record else len(names)
    batches: list[tuple[Tensor, ...]] = []
    sizes: set[tuple[int, ...]] = set()
    total = length_of(loader)
    with inference(model), contextlib.closing(iterate(loader)) as loaded:  # closed, the loader's processes end also after an error
        for batch in loaded:
            pixels, target = reader.read(batch)
            sizes.add(tuple(pixels.shape[1:]))
            logits = _logits(model, pixels, transform.input_size)
            # Indices stay where the model is until the end: to fetch them is to wait for it.
            batches.append((*_predictions(logits, num_seen), target))
            if progress is not None:
                progress("Classify the images", len(batches), max(total or 0, len(batches)))
    if not sum(len(target) for *_, target in batches):
        raise ImageError("There are no images to evaluate.")
    predicted, predicted_seen, predicted_new, target = (
        torch.cat([part.cpu() for part in parts]) for parts in zip(*batches, strict=True)
    )
    return gzsl_scores(
        predicted,
        predicted_new,
        target,
        names=[name.name for name in names],
        num_seen=num_seen,
        predicted_seen=predicted_seen,
        input_size=next(iter(sizes)) if len(sizes) == 1 else None,
    )


def _logits(model: nn.Module, images: Tensor, own_size: tuple[int, int, int]) -> Tensor:
    parameter = next(model.parameters())
    try:
        logits: Tensor = model(images.to(parameter.device, parameter.dtype, non_blocking=True))
    except (RuntimeError, AssertionError, ValueError) as error:
        size = tuple(images.shape[1:])
        if size == own_size or isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        problem = " ".join(str(error).split())[:200].rstrip(".")
        raise ArgumentValueError(
            f"The model does not take images of the shape {size}: {problem}. Transform them to its own, {own_size}."
        ) from error
    return logits


def _predictions(logits: Tensor, num_seen: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted class of each image, among all classes, the seen ones and the new ones (-1 where there are none)."""
    predicted, new = logits.argmax(1), logits[:, num_seen:]
    return predicted, logits[:, :num_seen].argmax(1), new.argmax(1) + num_seen if new.shape[1] else torch.full_like(predicted, -1)


def gzsl_scores(
    predicted: Tensor,
    predicted_new: Tensor,
    target: Tensor,
    *,
    names: list[str],
    num_seen: int,
    predicted_seen: Tensor | None = None,
    input_size: tuple[int, ...] | None = None,
) -> GzslScores:
    """Score the predictions of a model whose classes from `num_seen` on are new.

    Args:
        predicted: (num_images,) logit index, over all classes.
        predicted_new: (num_images,) logit index, among the new classes only; not read where there are none.
        target: (num_images,) logit index of the true class.
        names: Class names in logit order.
        num_seen: How many of the classes are seen.
        predicted_seen: (num_images,) logit index, among the seen classes only; None for no accuracy before the injection.
        input_size: As in `GzslScores`.
    """
    is_seen = target < num_seen
    by_class = accuracy_by_class(predicted, target)
    seen = mean_accuracy({index: value for index, value in by_class.items() if index < num_seen})
    unseen = mean_accuracy({index: value for index, value in by_class.items() if index >= num_seen})
    zsl = mean_accuracy(accuracy_by_class(predicted_new[~is_seen], target[~is_seen]))
    moved = (predicted[is_seen] >= num_seen).double().mean().item() if is_seen.any() else None
    before = None if predicted_seen is None else mean_accuracy(accuracy_by_class(predicted_seen[is_seen], target[is_seen]))
    return GzslScores(
        zsl_accuracy=zsl,
        seen_accuracy=seen,
        unseen_accuracy=unseen,
        harmonic_mean=None if seen is None or unseen is None else harmonic_mean(seen, unseen),
        moved_share=moved,
        accuracy_of_class=_by_name(by_class, names),
        num_images=len(target),
        seen_accuracy_before=before,
        input_size=None if input_size is None else (input_size[0], input_size[1], input_size[2]),
    )


def _by_name(by_class: dict[int, float], names: list[str]) -> dict[str, float]:
    """Two classes may share a name (ImageNet has two cranes); the later one is told apart by its index."""
    result: dict[str, float] = {}
    for index, value in by_class.items():
        result[f"{names[index]} (class {index})" if names[index] in result else names[index]] = value
    return result
