"""Labelled batches: from what people pass to `evaluate` to images and logit indices, with every doubt told."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, default_collate

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, ImageError, TimmInjectError, list_some
from timm_inject.images.folders import ClassFinder
from timm_inject.images.loading import ModelTransform, load_image
from timm_inject.text import ClassName

__all__ = ["LabelReader", "as_loader", "iterate", "length_of"]

_EXPECTED = "Each sample must be (image, logit index)"


def as_loader(images: Any, transform: ModelTransform, batch_size: int, num_workers: int, pin_memory: bool) -> Iterable[Any]:
    """A DataLoader of a dataset; a loader as it is.

    Raises:
        ArgumentTypeError: `images` is neither.
    """
    if isinstance(images, tuple) and all(isinstance(part, Tensor) for part in images):
        raise ArgumentTypeError(
            "`images` is a tuple of tensors. Make a dataset of it: `torch.utils.data.TensorDataset(images, labels)`."
        )
    if isinstance(images, DataLoader):
        return images
    has_items = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    if isinstance(images, str | bytes | Mapping | Tensor) or not (isinstance(images, Dataset | Iterable) or has_items):
        raise ArgumentTypeError(
            f"`images` must be a folder with a sub-folder a class, a Dataset or a DataLoader, got {type(images).__name__}."
        )
    if not has_items and not isinstance(images, IterableDataset):
        return images  # a loader of another make, such as timm's
    # A generator of its own, for a loader draws a seed; collating by a class, as a closure can't be sent to spawned workers.
    return DataLoader(
        images,
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=_Collate(transform),
        generator=torch.Generator(),
    )


class _Collate:
    """Makes a batch; pictures that no transform made tensors of are transformed for the model."""

    def __init__(self, transform: ModelTransform) -> None:
        self._transform = transform

    def __call__(self, samples: list[Any]) -> Any:
        return default_collate([self._transformed(sample) for sample in samples])

    def _transformed(self, sample: Any) -> Any:
        if isinstance(sample, Mapping):
            raise ArgumentTypeError(_not_a_pair(sample))
        if isinstance(sample, tuple | list) and sample and isinstance(sample[0], Image.Image):
            return (self._transform(load_image(sample[0])), *sample[1:])
        return sample


def length_of(loader: Iterable[Any]) -> int | None:
    """How many batches, or None where nobody knows."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def iterate(loader: Iterable[Any]) -> Generator[Any, None, None]:
    """Yield the loader's batches; what goes wrong in reading one is told in a line, in loader processes too.

    Raises:
        ImageError: An image does not open.
        ArgumentTypeError, ArgumentValueError: The samples can't be put into a batch, or the dataset not be sent to workers.
    """
    told: TimmInjectError | None = None
    batches: Iterator[Any] | None = None
    try:
        batches = iter(loader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        if not getattr(loader, "num_workers", 0):
            raise
        told = ArgumentValueError(
            f"The dataset can't be sent to loader processes: {_one_line(error)}. Pass num_workers=0, or a dataset without "
            f"lambdas and local functions."
        )
        _let_go(error)
    while batches is not None:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (TimmInjectError, OSError, SyntaxError, Image.DecompressionBombError, TypeError, RuntimeError) as error:
            told = _in_a_line(error)
            if told is None:
                raise
            told.__cause__ = _let_go(error)
            break
        yield batch
    batches = None
    if told is not None:
        raise told


def _let_go(error: Exception) -> Exception | None:
    """Take the loader's frames off an error. While they are held its processes live, and then they end late and not quietly."""
    error.with_traceback(None)
    return None if isinstance(error, TimmInjectError) else error


def _in_a_line(error: Exception) -> TimmInjectError | None:
    """What an error of a loader says to who passed it; None for errors of his own code, and for ours of this process."""
    text = str(error)
    if isinstance(error, TimmInjectError):
        # A worker's error holds its traceback; the last line names the error and says what was the matter.
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        return type(error)(text.rpartition(name)[2].strip()) if name in text else None
    if isinstance(error, OSError | SyntaxError | Image.DecompressionBombError):
        problem = f"A sample of the dataset could not be read: {_one_line(error)}. Remove it or save it again."
        return ImageError(problem)
    if "default_collate" in text and "found" in text:
        found = text.rpartition("found ")[2].strip()
        problem = f"{_EXPECTED} with a tensor for the image, found {found}. Transform the dataset's images for the model."
        return ArgumentTypeError(problem)
    if "stack expects each tensor to be equal size" in text:
        problem = f"The images of one batch differ in size: {_one_line(error)}. Transform all to the model's size."
        return ArgumentValueError(problem)
    return None


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _not_a_pair(batch: Any) -> str:
    if isinstance(batch, Mapping):
        came = f"a {type(batch).__name__} with the keys {list_some(map(repr, batch))}"
    elif isinstance(batch, list | tuple):
        came = f"{len(batch)} parts"
    else:
        came = type(batch).__name__
    return f"{_EXPECTED}, got {came}. Wrap the dataset in one whose `__getitem__` returns these two."


class LabelReader:
    """Reads images and logit indices from batches of one source."""

    def __init__(self, source: Any, names: Sequence[ClassName], channels: int) -> None:
        self._channels = channels
        table = _translation(source, names)
        self._of = "the model's classes" if table is None else "the dataset's `classes`"
        self._table = torch.arange(len(names)) if table is None else table

    def read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Images (n, channels, height, width) and int64 logit indices (n,).

        Raises:
            ArgumentTypeError: It is no pair of a tensor of images and whole numbers.
            ArgumentValueError: The images do not fit the model's channels, or a label is no logit of the model.
        """
        if isinstance(batch, Mapping) or not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise ArgumentTypeError(_not_a_pair(batch))
        images, labels = batch
        if not isinstance(images, Tensor):
            raise ArgumentTypeError(f"{_EXPECTED} with a tensor for the image, got {type(images).__name__}. Transform the images.")
        if not images.is_floating_point():
            raise ArgumentTypeError(
                f"The images are {images.dtype} tensors, so not transformed for the model. Transform them, or pass a dataset of "
                f"PIL images, which are transformed here."
            )
        if images.ndim != 4 or images.shape[1] != self._channels:
            raise ArgumentValueError(
                f"A batch of images has the shape {tuple(images.shape)}, expected (images, {self._channels}, height, width), as "
                f"the model takes {self._channels} channel{'s' if self._channels > 1 else ''}."
            )
        return images, self._translated(_whole_labels(labels, len(images)))

    def _translated(self, target: Tensor) -> Tensor:
        table, last = self._table.to(target.device), len(self._table) - 1
        logits = table[target.clamp(0, last)]
        wrong = target[(target < 0) | (target > last) | (logits < 0)].unique().tolist()
        if not wrong:
            return logits
        hint = " If they count from 1, subtract 1." if wrong == [last + 1] else ""
        hint = " A negative label often means 'unlabelled': leave such images out." if wrong[0] < 0 else hint
        raise ArgumentValueError(f"Labels must be from 0 to {last}, in the order of {self._of}; got {list_some(wrong)}.{hint}")


def _whole_labels(labels: Any, num_images: int) -> Tensor:
    try:
        target = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        kind = type(labels[0]).__name__ if isinstance(labels, list | tuple) and labels else type(labels).__name__
        raise ArgumentTypeError(
            f"Labels must be logit indices, got {kind}. Translate them to logit indices of the model."
        ) from None
    if target.ndim == 2 and target.shape[1] > 1:
        raise ArgumentValueError(
            f"Labels have the shape {tuple(target.shape)}, so are one-hot or several an image. Pass one logit index an image, such "
            f"as `labels.argmax(1)`."
        )
    if target.shape != (num_images,):
        raise ArgumentValueError(
            f"Labels have the shape {tuple(target.shape)} for {num_images} images. Pass one logit index an image: ({num_images},)."
        )
    if num_images and (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool):
        raise ArgumentTypeError(f"Labels must be logit indices, got {target.dtype}. Pass whole numbers: `labels.long()`.")
    return target.long()


# ---- Datasets with classes of their own -----------------------------------------------------------------------------


def _translation(source: Any, names: Sequence[ClassName]) -> Tensor | None:
    """Logit index of each of a dataset's own labels (-1: no label), or None where its labels are logit indices already.

    Raises:
        ClassNameError: The dataset names its classes, and not all are the model's.
        ArgumentValueError: It is put together of datasets that number different classes.
    """
    given = _own_classes(source)
    if given is None:
        return None
    finder = ClassFinder(names)
    if all(label in finder.find(name) for label, name in given.items()):
        return None
    indices = finder.indices(
        list(given.values()),
        "classes of the dataset",
        "If its labels are logit indices all the same, wrap it in a dataset without `classes`.",
    )
    table = torch.full((max(given) + 1,), -1)
    table[list(given)] = torch.tensor(indices)
    return table


def _own_classes(source: Any) -> dict[int, str] | None:
    """Label -> name, of a dataset that says so and does not map its labels to others."""
    if isinstance(source, ConcatDataset):
        parts = [_own_classes(part) for part in source.datasets]
        if any(part != parts[0] for part in parts):
            raise ArgumentValueError("The datasets of a ConcatDataset number their classes differently. Evaluate each by itself.")
        return parts[0] if parts else None
    if isinstance(source, Subset):
        return _own_classes(source.dataset)
    if getattr(source, "target_transform", None) is not None:
        return None
    for holder in (source, getattr(source, "reader", None)):  # timm's ImageDataset has a reader
        for key in ("wnids", "classes"):
            listed = getattr(holder, key, None)
            if isinstance(listed, list | tuple) and listed:
                return {label: _as_name(name) for label, name in enumerate(listed)}
        numbered = getattr(holder, "class_to_idx", None)
        if isinstance(numbered, Mapping) and numbered:
            return {int(label): str(name) for name, label in numbered.items()}
    return None


def _as_name(name: Any) -> str:
    return ", ".join(map(str, name)) if isinstance(name, list | tuple) else str(name)
