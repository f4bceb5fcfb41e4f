import io
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import WordEncoder, make_model
from tests.images.pictures import noise
from timm_inject import ArgumentTypeError, ArgumentValueError, ImageError, classify, evaluate, inject, save_for_hf
from timm_inject.images import classification
from timm_inject.offline import load_model


@pytest.fixture
def patched():
    return injected(make_model("test_resnet"))


def injected(model, **options):
    inject(model, ["okapi", "coyote"], encoder=WordEncoder(), mapper="ridge", **options)
    return model


def test_the_likeliest_come_first_and_new_ones_are_marked(patched):
    (best,) = classify(patched, [noise()], 20)
    assert [entry.probability for entry in best] == sorted((entry.probability for entry in best), reverse=True)
    assert {entry.name for entry in best if entry.is_new} == {"okapi", "coyote"}
    assert sum(entry.probability for entry in best) == pytest.approx(1)
    assert sorted(entry.index for entry in best) == list(range(12))


def test_many_images_get_what_each_gets_alone(patched):
    images = [noise(size=(20 + position, 30)) for position in range(classification._BATCH_SIZE + 3)]
    together = classify(patched, images, top=3)
    assert len(together) == len(images)
    for position in (0, 5, len(images) - 1):
        (alone,) = classify(patched, [images[position]], top=3)
        assert [entry.index for entry in alone] == [entry.index for entry in together[position]]
        assert [entry.probability for entry in alone] == pytest.approx(
            [entry.probability for entry in together[position]], abs=1e-4
        )


def test_files_are_checked_first_and_decoded_a_batch_at_a_time(patched, tmp_path, monkeypatch):
    files = [tmp_path / f"{position}.png" for position in range(7)]
    for file in files:
        noise().save(file)
    events = []
    for name in ("check_image", "load_image"):
        original = getattr(classification, name)
        monkeypatch.setattr(
            classification, name, lambda *picture, name=name, original=original: (events.append(name), original(*picture))[1]
        )
    monkeypatch.setattr(classification, "_BATCH_SIZE", 3)
    patched.register_forward_hook(lambda *_: events.append("model"))
    assert len(classify(patched, files)) == 7
    assert events == ["check_image"] * 7 + (["load_image"] * 3 + ["model"]) * 2 + ["load_image", "model"]


def test_a_file_that_is_none_stops_before_the_first_is_classified(patched, tmp_path):
    noise().save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image")
    patched.register_forward_hook(lambda *_: pytest.fail("classified"))
    with pytest.raises(ImageError, match="bad.png"):
        classify(patched, [tmp_path / "good.png", str(tmp_path / "bad.png")])


class Once(io.RawIOBase):
    """A stream that can be read once only, such as a web server's answer."""

    def __init__(self, content):
        self._stream = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._stream.readinto(buffer)


def test_paths_pictures_and_streams_are_the_same_image(patched, tmp_path):
    path = tmp_path / "a.png"
    noise().save(path)
    content = path.read_bytes()
    lazy = Image.open(path)
    with path.open("rb") as file:
        images = [path, str(path), noise(), lazy, file, io.BytesIO(content), Once(content), np.str_(path), pathlib.PurePath(path)]
        results = classify(patched, images)
        assert file.tell() == 0
        assert not file.closed
    assert all(result == results[0] for result in results)
    assert classify(patched, np.array([str(path)])) == results[:1]
    assert classify(patched, (image for image in [path])) == results[:1]
    assert classify(patched, []) == []


ONE = "`images` must be a sequence of files or PIL images, got"
HOLDS = "`images` must hold files or PIL images, got"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("photo.jpg", f"{ONE} one str. Put it in a list: `[image]`."),
        (pathlib.PurePosixPath("a"), f"{ONE} one PurePosixPath. Put it in a list: `[image]`."),
        (Image.new("RGB", (8, 8)), f"{ONE} one Image. Put it in a list: `[image]`."),
        (io.BytesIO(), f"{ONE} one BytesIO. Put it in a list: `[image]`."),
        (b"abc", f"{ONE} one bytes. Put it in a list: `[image]`. Wrap the content of a file: `io.BytesIO(content)`."),
        (None, f"{ONE} one NoneType. Put it in a list: `[image]`."),
        ({"a": 1}, f"{ONE} a dict. Make a list of it."),
        ({"a"}, f"{ONE} a set. Make a list of it."),
        (np.zeros((8, 8, 3), np.uint8), f"{ONE} ndarray of shape (8, 8, 3). Make a picture of it: `PIL.Image.fromarray(array)`."),
        (torch.zeros(2, 3, 8, 8), f"{ONE} Tensor of shape (2, 3, 8, 8). Make a picture of a tensor that is not normalised yet: "),
        ([np.zeros((8, 8, 3), np.uint8)], f"{HOLDS} ndarray of shape (8, 8, 3) at position 0. Make a picture of it: "),
        (["a", np.zeros((3, 8, 8), np.uint8)], f"{HOLDS} ndarray of shape (3, 8, 8) at position 1. Make a picture of it: "
            "`PIL.Image.fromarray(array.transpose(1, 2, 0))`."),
        ([np.zeros((8, 8), np.float32)], f"{HOLDS} ndarray of shape (8, 8) at position 0. Make a picture of values from 0 to 1: "
            "`PIL.Image.fromarray((array * 255).astype('uint8'))`."),
        ([torch.zeros(3, 8, 8)], f"{HOLDS} Tensor of shape (3, 8, 8) at position 0. Make a picture of a tensor that is not "
            "normalised yet: `torchvision.transforms.functional.to_pil_image(tensor)`."),
        ([b"abc"], f"{HOLDS} bytes at position 0. Wrap the content of a file: `io.BytesIO(content)`."),
        ([io.StringIO("a")], f"{HOLDS} StringIO at position 0. Open a file in binary mode: `open(path, 'rb')`."),
        ([None], f"{HOLDS} NoneType at position 0. Pass its path."),
        ([["a.jpg"]], f"{HOLDS} list at position 0. Pass its path."),
    ],
)  # fmt: skip
def test_what_is_no_list_of_images_is_told(patched, images, message):
    with pytest.raises(ArgumentTypeError) as caught:
        classify(patched, images)
    assert str(caught.value).startswith(message)


def test_streams_that_hold_no_image_are_named_by_their_position(patched):
    good = io.BytesIO()
    noise().save(good, "PNG")
    for stream, kind in ((io.BytesIO(b"no image"), "BytesIO"), (Once(b"no image"), "Once")):
        with pytest.raises(ImageError) as caught:
            classify(patched, [good, stream])
        assert str(caught.value).startswith(f"The image at position 1 ({kind}) could not be opened: not an image, damaged, ")


def test_a_picture_that_pillow_opened_but_cannot_decode_is_named(patched, tmp_path):
    noise().save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:2000])
    with pytest.raises(ImageError, match=f"The image '{tmp_path / 'a.png'}' could not be opened"):
        classify(patched, [Image.open(tmp_path / "a.png")])
    with pytest.raises(ImageError, match=r"The image at position 0 \(PngImageFile\) could not be opened"):
        classify(patched, [Image.open(io.BytesIO(content[:2000]))])


@pytest.mark.parametrize(
    ("top", "error", "message"),
    [
        (0, ArgumentValueError, "`top` must be at least 1, got 0."),
        (-3, ArgumentValueError, "`top` must be at least 1, got -3."),
        (1.0, ArgumentTypeError, "`top` must be a whole number, got 1.0 (float)."),
        (True, ArgumentTypeError, "`top` must be a whole number, got True (bool)."),
        ("5", ArgumentTypeError, "`top` must be a whole number, got '5' (str)."),
        (None, ArgumentTypeError, "`top` must be a whole number, got None (NoneType)."),
    ],
)
def test_top_is_a_whole_number(patched, top, error, message):
    with pytest.raises(error) as caught:
        classify(patched, [noise()], top=top)
    assert str(caught.value) == message


def test_top_may_be_numpys(patched):
    assert len(classify(patched, [noise()], top=np.int64(3))[0]) == 3


@pytest.mark.parametrize("options", [{"img_size": 96}, {"img_size": 96, "in_chans": 1}])
def test_a_vit_of_another_size_classifies_alike_before_and_after_it_is_saved(tmp_path, options):
    model = injected(make_model("vit_tiny_patch16_224", depth=1, **options))
    before = classify(model, [noise(), noise("L")])
    save_for_hf(model, tmp_path / "saved")
    after = classify(load_model(f"local-dir:{tmp_path / 'saved'}"), [noise(), noise("L")])
    for one, other in zip(before, after, strict=True):
        assert [entry.name for entry in one] == [entry.name for entry in other]
        assert [entry.probability for entry in one] == pytest.approx([entry.probability for entry in other], abs=1e-4)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "sigmoid-top1"])
def test_probabilities_are_those_of_the_heads_activation(activation):
    model = injected(make_model("test_resnet"), activation=activation)
    (best,) = classify(model, [Image.new("RGB", (160, 160))], top=12)
    with torch.inference_mode():
        logits = model(torch.full((1, 3, 160, 160), -1.0))[0]
    expected = logits.sigmoid() if activation == "sigmoid" else logits.softmax(0)
    assert [entry.probability for entry in best] == pytest.approx(expected.sort(descending=True).values.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    "call", [lambda model: classify(model, [noise()]), lambda model: evaluate(model, [(torch.zeros(3, 64, 64), 0)])]
)
def test_a_fault_leaves_the_model_as_it_is(patched, call):
    class Fault(BaseException):
        """No `except Exception` may swallow it."""

    def fail(*_):
        raise Fault

    patched.train()
    patched.layer1.eval()
    flags = [module.training for module in patched.modules()]
    patched.layer4.register_forward_hook(fail)
    with pytest.raises(Fault):
        call(patched)
    assert [module.training for module in patched.modules()] == flags
    assert not torch.is_inference_mode_enabled()


def test_the_model_is_left_as_it_is(patched):
    patched.train()
    patched.layer1.eval()
    state = torch.get_rng_state()
    flags = [module.training for module in patched.modules()]
    weights = {name: value.clone() for name, value in patched.state_dict().items()}
    classify(patched, [noise()])
    assert [module.training for module in patched.modules()] == flags
    assert all(torch.equal(weights[name], value) for name, value in patched.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
