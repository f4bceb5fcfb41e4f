"""Classify images, and name the classes of a model."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError
from timm_inject.head import find_head, unwrap_model
from timm_inject.images.loading import Picture, as_pictures, check_image, image_transform, load_image
from timm_inject.injected import InjectionRecord, find_record, known_classes
from timm_inject.text import ClassName

__all__ = ["Prediction", "classify", "inference", "model_class_names", "whole_number"]

_BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class proposed for an image.

    Attributes:
        name: The class's name.
        index: Its logit.
        probability: Softmax over all classes, in [0, 1]; of a model whose record says that its head is read by sigmoid, the
            sigmoid of the class's own logit, so that an image's probabilities need not sum to 1.
        is_new: Whether the class was injected.
    """

    name: str
    index: int
    probability: float
    is_new: bool


def classify(model: nn.Module, images: Sequence[Picture], top: int = 5) -> list[list[Prediction]]:
    """Give each image's likeliest classes, best first. The model is left as it is.

    Images are turned upright as their EXIF says, laid on white where they are transparent, and brought to the model's own size
    (timm's test size where its config has one) and channels. They are read 32 at a time, so that many do not fill the memory.

    Args:
        model: A timm classifier whose config names its classes; patched or not.
        images: Files, PIL images, or files open for binary reading.
        top: How many classes an image; all where there are fewer.

    Raises:
        ArgumentTypeError: `images` is a single one, or holds something else, such as arrays.
        ArgumentValueError: `top` is less than 1, or the model takes neither colour nor grey images.
        ImageError: An image does not open. All files are checked before the first is classified; some damage shows only then.
        UnknownSeenClassesError: The model's config does not name its classes.
    """
    top = whole_number("top", top, 1)
    pictures = as_pictures(images)
    model = unwrap_model(model)
    names = model_class_names(model)
    record = find_record(model)
    transform = image_transform(model)
    for source, name in pictures:
        check_image(source, name)
    results: list[list[Prediction]] = []
    with inference(model):
        parameter = next(model.parameters())
        for start in range(0, len(pictures), _BATCH_SIZE):
            batch = torch.stack([transform(load_image(*picture)) for picture in pictures[start : start + _BATCH_SIZE]])
            logits = model(batch.to(parameter.device, parameter.dtype)).float().cpu()
            results += [_likeliest(row, names, record, top) for row in logits]
    return results


def _likeliest(logits: Tensor, names: Sequence[ClassName], record: InjectionRecord | None, top: int) -> list[Prediction]:
    num_seen = record.num_seen if record else len(names)
    is_sigmoid = record is not None and bool(record.classes) and record.classes[-1].activation == "sigmoid"
    probabilities = logits.sigmoid() if is_sigmoid else logits.softmax(0)
    best = logits.topk(min(top, len(names))).indices.tolist()  # of logits: large ones all have the sigmoid 1
    return [Prediction(names[index].name, index, probabilities[index].item(), index >= num_seen) for index in best]


def model_class_names(model: nn.Module) -> list[ClassName]:
    """Every class of the model, in logit order, injected ones included.

    Raises:
        UnknownSeenClassesError: The config does not name them.
    """
    return known_classes(model, find_record(model), find_head(model).num_classes)


def whole_number(argument: str, value: object, least: int) -> int:
    """Check an argument that counts something; NumPy's whole numbers are taken.

    Raises:
        ArgumentTypeError: It is no whole number.
        ArgumentValueError: It is less than `least`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise ArgumentTypeError(f"`{argument}` must be a whole number, got {value!r} ({type(value).__name__}).")
    if number < least:
        raise ArgumentValueError(f"`{argument}` must be at least {least}, got {number}.")
    return number


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Run in eval mode without gradients, then put every module's train/eval flag back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, flag in flags:
            module.training = flag
