"""Read one image as the model is to see it: upright, eight bits a channel, on white, of the model's own size and channels."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import timm.models
from PIL import Image, ImageFile, UnidentifiedImageError
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, ImageError, TimmInjectError

__all__ = ["ModelTransform", "Picture", "as_pictures", "check_image", "image_suffixes", "image_transform", "load_image"]

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | IO[bytes]

# EXIF tag 274, Orientation: what undoes how the camera was held. Source: Exif 2.32, 4.6.4 A.
_ORIENTATION = 274
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_KEYED_MODES = frozenset({"1", "L", "P", "RGB"})  # may name one colour as transparent
_SIXTEEN_BIT_FORMATS = frozenset({"PNG", "PPM"})  # formats whose 16 bits Pillow may give as 32
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)
# More than this many times longer than wide, only the middle is resized: the centre crop drops the rest, and all of it at the
# model's size might not fit into memory.
_MAX_ASPECT = 16
_MAX_REASON = 200


def load_image(source: Picture, name: str | None = None) -> Image.Image:
    """Read an image as RGB, as a viewer shows it.

    It is turned as its EXIF orientation says. 16 bits a channel are scaled to 8. Whole numbers of 32 bits are taken for 8 or 16
    bits if they fit, floats for 0 to 1 or 0 to 255 if they fit; any other range is stretched. What is transparent is laid on
    white. Of several frames the first is taken.

    Args:
        source: A file, a picture of Pillow, or a file that is open for binary reading, which is read from its start and left at
            the position where it was.
        name: How errors name it; None takes the path.

    Raises:
        ImageError: It does not exist, is not an image, is damaged, or is larger than Pillow takes.
    """
    with _reading(source, name) as image:
        image.load()
        if 0 in image.size:
            raise ImageError(f"The image {_name_of(source, name)} has no pixels: its size is {image.width}x{image.height}.")
        rgb = _rgb(image)
        turn = _TURNS.get(_orientation(image))
        rgb.info = {}  # no orientation is left that a second reader could apply again
        return rgb if turn is None else rgb.transpose(turn)


def check_image(source: Picture, name: str | None = None) -> None:
    """See whether an image can be read, without keeping its pixels. A picture of Pillow is taken as it is.

    Raises:
        ImageError: As `load_image`. Some damage shows only when the pixels are decoded.
    """
    if isinstance(source, Image.Image):
        return
    try:
        with _reading(source, name) as image:
            if not _is_stub(image.format):
                image.verify()
                return
    except ImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError | FileNotFoundError | Image.DecompressionBombError):
            raise
    load_image(source, name)  # `verify` is stricter than reading is


def as_pictures(images: object) -> list[tuple[Picture, str | None]]:
    """Check that `images` is a list of things that may be images, and name those that have no path, for errors.

    Raises:
        ArgumentTypeError: It is a single image, or holds something else.
    """
    must_be = "`images` must be a sequence of files or PIL images, got"
    if _is_numbers(images):
        raise ArgumentTypeError(f"{must_be} {_kind(images)}. {_advice(images)}")
    if isinstance(images, Mapping | set | frozenset):
        raise ArgumentTypeError(f"{must_be} a {type(images).__name__}. Make a list of it.")
    is_single = isinstance(images, str | bytes | bytearray | os.PathLike | Image.Image) or hasattr(images, "read")
    if is_single or not isinstance(images, Iterable):
        raise ArgumentTypeError(f"{must_be} one {_kind(images)}. Put it in a list: `[image]`. {_advice(images)}".rstrip())
    return [_as_picture(image, position) for position, image in enumerate(images)]


def _as_picture(image: Any, position: int) -> tuple[Picture, str | None]:
    if isinstance(image, str | os.PathLike) and isinstance(os.fspath(image), str):
        return image, None
    name = f"at position {position} ({_kind(image)})"
    if isinstance(image, Image.Image):
        path = getattr(image, "filename", "")
        return image, f"'{path}'" if path else name
    if hasattr(image, "read") and not isinstance(image, io.TextIOBase):
        with _told(name, None):
            # What can be read once only, such as the answer of a web server, is kept, for it is read a second time.
            can_seek = hasattr(image, "seekable") and image.seekable()
            return (image if can_seek else io.BytesIO(image.read())), name
    raise ArgumentTypeError(
        f"`images` must hold files or PIL images, got {_kind(image)} at position {position}. {_advice(image) or 'Pass its path.'}"
    )


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of shape {tuple(value.shape)}" if _is_numbers(value) else type(value).__name__


def _is_numbers(value: object) -> bool:
    """Arrays and tensors, not arrays of paths."""
    kind = getattr(getattr(value, "dtype", None), "kind", "f")  # torch's types have no kind
    return hasattr(value, "shape") and hasattr(value, "dtype") and kind in "biufc"


def _advice(value: Any) -> str:
    """How to make a picture of what is none."""
    if isinstance(value, Tensor):
        return "Make a picture of a tensor that is not normalised yet: `torchvision.transforms.functional.to_pil_image(tensor)`."
    if _is_numbers(value):
        shape = tuple(value.shape)[-3:]
        channels_first = len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
        array = "array.transpose(1, 2, 0)" if channels_first else "array"
        if value.dtype.kind == "f":
            return f"Make a picture of values from 0 to 1: `PIL.Image.fromarray(({array} * 255).astype('uint8'))`."
        return f"Make a picture of it: `PIL.Image.fromarray({array})`."
    if isinstance(value, bytes | bytearray | memoryview):
        return "Wrap the content of a file: `io.BytesIO(content)`."
    return "Open a file in binary mode: `open(path, 'rb')`." if isinstance(value, io.TextIOBase) else ""


# ---- Reading --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reading(source: Picture, name: str | None) -> Iterator[Image.Image]:
    """Open without decoding. Whatever goes wrong inside is an ImageError: Pillow's readers raise nearly everything."""
    with _told(_name_of(source, name), source), contextlib.ExitStack() as stack:
        if isinstance(source, Image.Image):
            yield source
            return
        if not isinstance(source, str | os.PathLike):
            stack.callback(source.seek, source.tell())
        yield stack.enter_context(Image.open(source))


@contextlib.contextmanager
def _told(name: str, source: object) -> Iterator[None]:
    try:
        yield
    except TimmInjectError:
        raise
    except Exception as error:
        raise ImageError(f"The image {name} could not be opened: {_reason(source, error)}.") from error


def _name_of(source: Picture, name: str | None) -> str:
    return name or (f"'{os.fspath(source)}'" if isinstance(source, str | os.PathLike) else f"({type(source).__name__})")


def _reason(source: object, error: Exception) -> str:
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if path is not None and Path(path).is_dir():
        return "it is a folder. Name the images in it"
    if isinstance(error, FileNotFoundError) and path is not None:
        # `Path` makes one slash of two.
        return (
            "it is an address, and only files are read. Download it first"
            if _ADDRESS.match(path)
            else "no such file. Check the path"
        )
    if isinstance(error, PermissionError):
        return "it may not be read. Check the file's permissions"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        pixels = re.search(r"\d+", str(error))
        return (
            f"it has {pixels[0] if pixels else 'too many'} pixels, more than Pillow takes (`Image.MAX_IMAGE_PIXELS` is "
            f"{Image.MAX_IMAGE_PIXELS}; the double is refused). Make it smaller, or raise that limit if you trust the file"
        )
    if isinstance(error, MemoryError):
        return "it does not fit into memory. Make it smaller"
    told = " ".join(str(error).split())[:_MAX_REASON].rstrip(".")
    pillow = f" (Pillow: {told})" if told and not isinstance(error, UnidentifiedImageError) else ""
    return f"not an image, damaged, or not readable{pillow}. Remove it or save it again"


def _orientation(image: Image.Image) -> int:
    """1 (upright) where nothing is stated, or what is stated cannot be read: the pixels are there all the same."""
    with contextlib.suppress(Exception):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def image_suffixes() -> frozenset[str]:
    """Suffixes, lower case and with their dot, of the formats that Pillow decodes here, plugins that were registered included."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, form in known.items() if form in Image.OPEN and not _is_stub(form))


def _is_stub(form: str | None) -> bool:
    """Whether Pillow knows a format without decoding it: containers that need a handler, and MPEG films."""
    factory = Image.OPEN.get(form or "", (None,))[0]
    return form == "MPEG" or (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))


# ---- Pixels ---------------------------------------------------------------------------------------------------------


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    palette = getattr(image, "palette", None)
    keyed = image.mode in _KEYED_MODES and "transparency" in image.info
    if image.mode in _ALPHA_MODES or keyed or (image.mode == "P" and palette is not None and palette.mode.endswith("A")):
        # Pillow converts premultiplied grey to plain grey only.
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Scale grey values of more than 8 bits: (height, width)."""
    values = np.asarray(image).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BIT_FORMATS):
        low, high = 0.0, 65535.0
    else:
        tops = (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0)
        fitting = [top for top in tops if low >= 0 and high <= top]
        low, high = (0.0, fitting[0]) if fitting else (low, high)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low) if high > low else 0)
    return scaled.round().clip(0, 255).astype(np.uint8)


# ---- The model's input ----------------------------------------------------------------------------------------------


def image_transform(model: nn.Module) -> ModelTransform:
    """The evaluation transform that the model's own config asks for.

    The size is the one that the model was made for where it takes no other, or was made for another than its config states;
    else the config's `test_input_size` where it has one, with the crop that goes with it; else its `input_size`. A model with
    one input channel gets grey images.
    """
    return ModelTransform(model)


class ModelTransform:
    """From an RGB image to a tensor (channels, height, width) for one model. Can be pickled.

    Attributes:
        input_size: (channels, height, width).
    """

    def __init__(self, model: nn.Module) -> None:
        config = _data_config(model)
        self.input_size: tuple[int, int, int] = config["input_size"]
        self._crops_centre = config["crop_mode"] not in ("squash", "border")
        self._transform = create_transform(**config, is_training=False)

    def __call__(self, image: Image.Image) -> Tensor:
        """Transform one image.

        Raises:
            ArgumentValueError: The model takes neither grey nor colour images.
        """
        channels = self.input_size[0]
        if channels not in (1, 3):
            raise ArgumentValueError(
                f"The model takes images of {channels} channels; image files are read as 3 (colour) or 1 (grey). Pass `evaluate` a "
                f"Dataset of (tensor, logit index) with tensors of {channels} channels."
            )
        if self._crops_centre:
            image = _middle(image)
        mode = "L" if channels == 1 else "RGB"
        tensor: Tensor = self._transform(image if image.mode == mode else image.convert(mode))
        return tensor


def _middle(image: Image.Image) -> Image.Image:
    longest = _MAX_ASPECT * min(image.size)
    width, height = (min(side, longest) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _data_config(model: nn.Module) -> dict[str, Any]:
    """`timm.data.resolve_model_data_config` for the input that the model takes as it is."""
    channels, size = _own_input(model)
    # The crop of the test size goes with that size alone.
    config: dict[str, Any] = resolve_model_data_config(model, use_test_size=size is None)
    config["input_size"] = (channels, *(size or config["input_size"][-2:]))
    for key in ("mean", "std"):
        values = _floats(config[key])
        config[key] = values if len(values) == channels else (sum(values) / len(values),) * channels
    return config


def _own_input(model: nn.Module) -> tuple[int, tuple[int, int] | None]:
    """Channels, and the (height, width) that the model was made for, or None where its config's will do."""
    config = getattr(model, "pretrained_cfg", None)
    stated = (config.get("input_size") if isinstance(config, Mapping) else None) or None
    describe = getattr(timm.models, "get_model_input_config", None)  # timm >= 1.0.31
    if describe is not None and stated is not None:
        own = describe(model)
        channels, *size = own["input_size"]
        is_fixed = own["fixed_input_size"]
    else:
        layer = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
        channels = stated[0] if stated else 3
        # A stem may fold pixels into channels, so more than stated says nothing.
        channels = min(channels, layer.in_channels) if layer is not None else channels
        stem = getattr(model, "patch_embed", None)
        given = getattr(stem, "img_size", None)
        size = [given, given] if isinstance(given, int) else list(given or ())
        is_fixed = bool(getattr(stem, "strict_img_size", True))
    if len(size) != 2 or (not is_fixed and stated is not None and tuple(size) == tuple(stated[-2:])):
        return channels, None
    return channels, (size[0], size[1])


def _floats(values: float | Sequence[float]) -> tuple[float, ...]:
    return (float(values),) if isinstance(values, int | float) else tuple(float(value) for value in values)
