import io
import os
import pickle
import struct

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin
from timm.data import create_transform, resolve_model_data_config

from tests.helpers import make_model
from tests.images.pictures import MODES, noise
from timm_inject import ArgumentValueError, ImageError
from timm_inject.images import image_transform, load_image
from timm_inject.images.loading import check_image


def stored(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream


def pixels(source):
    return np.asarray(load_image(source))


# ---- Orientation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_says(form, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    page = Image.new("RGB", (24, 16), "black")
    page.paste("white", (0, 0, 12, 8))
    got = load_image(stored(page, form, exif=exif))
    page.getexif()[274] = orientation
    expected = ImageOps.exif_transpose(page)
    assert got.size == expected.size
    assert np.abs(np.asarray(got).astype(int) - np.asarray(expected).astype(int)).mean() < 30  # JPEG and WebP lose a little
    assert ImageOps.exif_transpose(got).size == got.size  # nobody turns it a second time


def test_a_picture_of_pillow_is_turned_too_and_left_as_it_is():
    exif = Image.Exif()
    exif[274] = 6
    photo = Image.open(stored(Image.new("RGB", (20, 10)), "JPEG", exif=exif))
    assert load_image(photo).size == (10, 20)
    assert photo.size == (20, 10)
    assert photo.getexif()[274] == 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"])
def test_damaged_exif_does_not_keep_a_photo_from_being_read(exif):
    assert load_image(stored(Image.new("RGB", (20, 10)), "JPEG", exif=exif)).size == (20, 10)


# ---- Modes ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(mode=st.sampled_from(MODES), width=st.integers(1, 40), height=st.integers(1, 40), key=st.sampled_from([None, 0, 7]))
def test_every_mode_and_size_becomes_rgb_of_that_size(mode, width, height, key):
    image = noise(mode, (width, height))
    if key is not None and mode in ("1", "L", "P"):
        image.info["transparency"] = key
    before = (image.mode, image.size, image.tobytes(), dict(image.info))
    got = load_image(image)
    assert (got.mode, got.size) == ("RGB", (width, height))
    assert (image.mode, image.size, image.tobytes(), dict(image.info)) == before


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "YCbCr", "HSV", "1", "RGBX"])
def test_opaque_modes_are_what_pillow_makes_of_them(mode):
    image = noise("RGB").convert(mode)
    assert np.array_equal(pixels(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_what_is_transparent_is_white(mode):
    clear = Image.new("RGBA", (4, 4)).convert("LA").convert("La") if mode == "La" else Image.new("RGBA", (4, 4)).convert(mode)
    assert (pixels(clear) == 255).all()


def test_half_transparent_is_half_white_and_opaque_is_kept():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    assert pixels(stored(image)).tolist() == [[[255, 0, 0], [127, 127, 127]]]


@pytest.mark.parametrize(("mode", "key"), [("RGB", (1, 2, 3)), ("L", 1), ("P", 1), ("P", bytes([255, 0])), ("1", 0)])
def test_a_colour_that_stands_for_transparent_is_white(mode, key):
    image = Image.new(mode, (2, 2), key if isinstance(key, int | tuple) else 1)
    if mode == "P":
        image.putpalette([9] * 6)
    assert (pixels(stored(image, transparency=key)) == 255).all()


def test_a_palette_with_alpha_is_laid_on_white():
    image = Image.new("P", (2, 2), 0)
    image.putpalette([255, 0, 0, 0], "RGBA")
    assert (pixels(image) == 255).all()


def ramp(dtype, top):
    return np.linspace(0, top, 10000).reshape(100, 100).astype(dtype)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled(form):
    got = pixels(stored(Image.fromarray(ramp(np.uint16, 65535)), form))
    assert np.abs(got[..., 0].astype(int) - ramp(np.float64, 255)).max() <= 1
    dark = pixels(stored(Image.fromarray(ramp(np.uint16, 255)), form))
    assert dark.max() == 1  # as dark as the file says


@pytest.mark.parametrize(
    ("values", "top"),
    [
        (ramp(np.int32, 255), 255),
        (ramp(np.int32, 65535), 255),
        (ramp(np.int32, 2_000_000), 255),
        (ramp(np.float32, 1), 255),
        (ramp(np.float32, 255), 255),
        (ramp(np.float32, 6000) - 1000, 255),
        (ramp(np.int32, 100), 100),
        (ramp(np.float32, 0.5), 128),
        (np.full((3, 3), 70_000, np.int32), 0),
        (np.full((3, 3), np.nan, np.float32), 0),
    ],
)
def test_wide_numbers_are_scaled_by_what_they_hold(values, top):
    got = pixels(Image.fromarray(values))[..., 0].astype(int)
    assert got.max() == pytest.approx(top, abs=1)
    assert (np.diff(got.ravel()) >= 0).all()


def test_what_is_no_number_is_dark_and_infinity_is_bright():
    values = np.array([[np.nan, 0.5, np.inf, -np.inf, 1, 0]], np.float32)
    assert pixels(Image.fromarray(values))[0, :, 0].tolist() == [0, 128, 255, 0, 255, 0]


# ---- What is told ---------------------------------------------------------------------------------------------------


def told(source):
    with pytest.raises(ImageError) as caught:
        load_image(source)
    with pytest.raises(ImageError):
        check_image(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pngs_whose_errors_are_none_of_pillows_usual_ones_are_told(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a" * 2**21, zip=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "text.png", pnginfo=info)
    noise(size=(200, 200)).save(tmp_path / "chunk.png")
    raw = bytearray((tmp_path / "chunk.png").read_bytes())
    at = raw.find(b"IDAT", 2000)
    raw[at : at + 4] = b"\0\1\2\3"
    (tmp_path / "chunk.png").write_bytes(raw)
    assert told(tmp_path / "text.png") == (
        f"The image '{tmp_path / 'text.png'}' could not be opened: not an image, damaged, or not readable (Pillow: Decompressed "
        f"data too large for PngImagePlugin.MAX_TEXT_CHUNK). Remove it or save it again."
    )
    assert "(Pillow: broken PNG file" in told(tmp_path / "chunk.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000"])
def test_files_that_are_cut_off_are_told(tmp_path, form):
    content = stored(noise(), form).getvalue()
    path = tmp_path / "cut"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=f"'{path}' could not be opened: not an image, damaged, or not readable"):
        load_image(path)


@pytest.mark.parametrize("limit", [1000, 6000])
def test_too_many_pixels_are_told_with_the_limit(tmp_path, monkeypatch, limit):
    Image.new("RGB", (100, 100)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if limit == 6000:  # between the limit and its double Pillow only warns, unless warnings are errors
        with pytest.warns(Image.DecompressionBombWarning):
            assert load_image(tmp_path / "huge.png").size == (100, 100)
        return
    assert told(tmp_path / "huge.png") == (
        f"The image '{tmp_path / 'huge.png'}' could not be opened: it has 10000 pixels, more than Pillow takes "
        f"(`Image.MAX_IMAGE_PIXELS` is 1000; the double is refused). Make it smaller, or raise that limit if you trust the file."
    )


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_warning_of_pillows_that_is_an_error_is_told(tmp_path, monkeypatch):
    Image.new("RGB", (100, 100)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    assert "it has 10000 pixels, more than Pillow takes" in told(tmp_path / "huge.png")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("https://example.org/a.jpg", "it is an address, and only files are read. Download it first."),
        ("data:image/png;base64,AAAA", "it is an address, and only files are read. Download it first."),
        ("nowhere.jpg", "no such file. Check the path."),
        (os.curdir, "it is a folder. Name the images in it."),
        (os.devnull, "not an image, damaged, or not readable. Remove it or save it again."),
        ("a\0b.jpg", "not an image, damaged, or not readable (Pillow: embedded null byte). Remove it or save it again."),
    ],
)
def test_paths_that_are_no_image_are_told(source, reason):
    assert told(source) == f"The image '{source}' could not be opened: {reason}"


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    assert told(tmp_path / "a.png").endswith("could not be opened: it may not be read. Check the file's permissions.")


def test_no_pixels_and_no_memory_are_told(monkeypatch):
    with pytest.raises(ImageError, match="has no pixels: its size is 0x5"):
        load_image(Image.new("RGB", (0, 5)))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(ImageError, match="it does not fit into memory. Make it smaller"):
        load_image(Image.new("L", (5, 5)))


def test_interruptions_are_no_errors_of_images(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", stop)
    with pytest.raises(KeyboardInterrupt):
        load_image("a.png")


def test_a_check_is_not_stricter_than_reading():
    content = stored(noise()).getvalue()
    end = content.rfind(b"IEND") - 4
    with_bad_text = content[:end] + struct.pack(">I", 5) + b"tEXta\0bcd\0\0\0\0" + content[end:]
    for readable in (with_bad_text, content[:-12]):
        with Image.open(io.BytesIO(readable)) as image, pytest.raises((OSError, SyntaxError)):
            image.verify()
        check_image(io.BytesIO(readable))
        assert load_image(io.BytesIO(readable)).size == (48, 40)


def test_open_files_are_read_from_their_start_and_left_where_they_were(tmp_path):
    noise().save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        file.seek(5)
        check_image(file)
        assert load_image(file).size == (48, 40)
        assert file.tell() == 5
    with pytest.raises(ImageError, match=r"\(Pillow: I/O operation on closed file\)"):
        load_image(file)


# ---- The model's input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "options", "size"),
    [
        ("vit_tiny_patch16_224", {"img_size": 96, "depth": 1}, (3, 96, 96)),
        ("vit_tiny_patch16_224", {"img_size": (96, 160), "depth": 1}, (3, 96, 160)),
        ("vit_tiny_patch16_224", {"img_size": 96, "depth": 1, "dynamic_img_size": True}, (3, 96, 96)),
        ("vit_tiny_patch16_224", {"in_chans": 1, "depth": 1}, (1, 224, 224)),
        ("resnet10t", {}, (3, 224, 224)),  # trained at 176, tested at 224
        ("test_resnet", {"in_chans": 1}, (1, 160, 160)),
        ("test_efficientnet", {}, (3, 160, 160)),
    ],
)
@pytest.mark.parametrize("newest", [True, False])
def test_images_are_of_the_models_own_size_and_channels(monkeypatch, architecture, options, size, newest):
    if not newest:  # as before timm 1.0.31
        monkeypatch.delattr(timm.models, "get_model_input_config")
    model = make_model(architecture, **options)
    transform = image_transform(model)
    assert transform.input_size == size
    tensor = pickle.loads(pickle.dumps(transform))(noise("RGB", (70, 50)))
    assert tensor.shape == size
    with torch.inference_mode():
        assert model(tensor[None]).shape == (1, 10)


@pytest.mark.skipif(not hasattr(timm.models, "get_model_input_config"), reason="this timm does not say what size a Mixer takes")
def test_a_mixer_made_for_another_size_gets_it():
    assert image_transform(make_model("mixer_s32_224", img_size=96)).input_size == (3, 96, 96)


@pytest.mark.parametrize("architecture", ["resnet10t", "test_vit"])
def test_for_models_as_they_come_the_transform_is_timms(architecture):
    model = make_model(architecture)
    image = noise("RGB", (300, 200))
    theirs = create_transform(**resolve_model_data_config(model, use_test_size=True), is_training=False)
    assert torch.equal(image_transform(model)(image), theirs(image))


def test_a_grey_models_mean_and_deviation_are_those_of_its_channels_together():
    model = make_model("resnet10t", in_chans=1)
    white = image_transform(model)(Image.new("RGB", (64, 64), "white"))
    config = model.pretrained_cfg
    assert white.unique().item() == pytest.approx((1 - np.mean(config["mean"])) / np.mean(config["std"]), rel=1e-5)


def test_other_numbers_of_channels_are_told():
    transform = image_transform(make_model("test_resnet", in_chans=5))
    with pytest.raises(ArgumentValueError) as caught:
        transform(noise())
    assert str(caught.value) == (
        "The model takes images of 5 channels; image files are read as 3 (colour) or 1 (grey). Pass `evaluate` a Dataset of "
        "(tensor, logit index) with tensors of 5 channels."
    )


def test_a_config_without_a_size_is_taken_for_timms_default():
    model = make_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": None, "test_input_size": None}
    assert image_transform(model)(noise()).shape == (3, 224, 224)


@settings(deadline=None, max_examples=25)
@given(width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_no_proportions_are_too_much(width, height):
    assert TRANSFORM(Image.new("RGB", (width, height))).shape == (3, 160, 160)


def test_long_strips_are_read_in_their_middle_without_filling_the_memory(monkeypatch):
    strip = Image.new("RGB", (100_000, 3), "red")
    strip.paste("blue", (49_900, 0, 50_100, 3))
    assert torch.equal(TRANSFORM(strip), TRANSFORM(Image.new("RGB", (3, 3), "blue")))
    sizes = []
    monkeypatch.setattr(TRANSFORM, "_transform", lambda image: sizes.append(image.size))
    for size in ((100_000, 3), (3, 100_000), (48, 3), (30, 20)):
        TRANSFORM(Image.new("RGB", size))
    assert sizes == [(48, 3), (3, 48), (48, 3), (30, 20)]


TRANSFORM = image_transform(make_model("test_resnet"))
