"""Read images, classify them, and name the classes of a model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from timm.data import create_transform, resolve_data_config
from torch import nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, ImageError
from timm_inject.head import find_head, unwrap_model
from timm_inject.injected import find_record, known_classes
from timm_inject.text import ClassName

__all__ = ["Prediction", "classify", "image_transform", "inference", "load_image", "model_class_names"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class proposed for an image.

    Attributes:
        name: The class's name.
        index: Its logit.
        probability: Softmax over all classes, in [0, 1].
        is_new: Whether the class was injected.
    """

    name: str
    index: int
    probability: float
    is_new: bool


def classify(model: nn.Module, images: Sequence[str | os.PathLike[str] | Image.Image], *, top: int = 5) -> list[list[Prediction]]:
    """Give each image's likeliest classes, best first. The model is left as it is.

    Args:
        model: A timm classifier whose config names its classes; patched or not.
        images: Files or PIL images.
        top: How many classes an image.

    Raises:
        ArgumentTypeError: `images` is a single one.
        ArgumentValueError: `top` is less than 1.
        ImageError: An image does not open. All are opened before the first is classified.
        UnknownSeenClassesError: The model's config does not name its classes.
    """
    if isinstance(images, str | os.PathLike | Image.Image):
        raise ArgumentTypeError(
            f"`images` must be a sequence of files or PIL images, got one {type(images).__name__}. Put it in a list: `[image]`."
        )
    if top < 1:
        raise ArgumentValueError(f"`top` must be at least 1, got {top}.")
    model = unwrap_model(model)
    names = model_class_names(model)
    record = find_record(model)
    num_seen = record.num_seen if record else len(names)
    transform = image_transform(model)
    pictures = [image.convert("RGB") if isinstance(image, Image.Image) else load_image(image) for image in images]
    results = []
    with inference(model):
        parameter = next(model.parameters())
        for picture in pictures:
            logits = model(transform(picture)[None].to(parameter.device, parameter.dtype))[0].float()
            best = logits.softmax(0).topk(min(top, len(names)))
            results.append(
                [
                    Prediction(names[index].name, index, probability, index >= num_seen)
                    for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
            )
    return results


def model_class_names(model: nn.Module) -> list[ClassName]:
    """Every class of the model, in logit order, injected ones included.

    Raises:
        UnknownSeenClassesError: The config does not name them.
    """
    return known_classes(model, find_record(model), find_head(model).num_classes)


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file as RGB.

    Raises:
        ImageError: It does not exist or is not an image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        if Path(path).is_dir():
            reason = "it is a folder. Name the images in it"
        elif isinstance(error, FileNotFoundError):
            reason = "no such file. Check the path"
        else:
            reason = "not an image, damaged, or not readable. Remove it or save it again"
        raise ImageError(f"The image '{os.fspath(path)}' could not be opened: {reason}.") from error


def image_transform(model: nn.Module) -> Any:
    """The evaluation transform that the model's own config asks for."""
    return create_transform(**resolve_data_config({}, model=model), is_training=False)


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
