"""Pictures in every mode and format that Pillow writes here, and ways to damage them."""

import io
import random

import numpy as np
from PIL import Image

MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "RGBa", "La", "I;16", "I;16B")


def noise(mode="RGB", size=(48, 40)):
    """A picture in the mode, with every band different."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    rgba = Image.fromarray(values)
    if mode.startswith("I;16"):
        return Image.frombytes(mode, size, values[..., :2].tobytes())
    if mode == "La":
        return rgba.convert("LA").convert(mode)
    return rgba.convert("RGB").convert(mode) if mode in ("LAB", "HSV") else rgba.convert(mode)


def every_format():
    """(format, mode) -> the bytes of a picture, for all that Pillow writes."""
    Image.init()
    written = {}
    for form in sorted(Image.SAVE):
        for mode in MODES:
            stream = io.BytesIO()
            try:
                noise(mode).save(stream, form)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # the format has no such mode, or its writer is not built in
            written[form, mode] = stream.getvalue()
    return written


def damaged(content, chance: random.Random):
    """Cut off, bytes changed anywhere or in the header, a run zeroed, or bytes put in."""
    data = bytearray(content)
    where = chance.randrange(len(data))
    kind = chance.choice(["cut", "change", "header", "zero", "insert"])
    if kind == "cut":
        return bytes(data[:where])
    if kind == "zero":
        data[where : where + 32] = bytes(len(data[where : where + 32]))
    elif kind == "insert":
        data[where:where] = chance.randbytes(chance.randint(1, 40))
    else:
        for _ in range(chance.randint(1, 20)):
            data[chance.randrange(len(data) if kind == "change" else min(64, len(data)))] = chance.randrange(256)
    return bytes(data)
