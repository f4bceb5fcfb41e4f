"""What lies in a folder or repository that timm can't make a model of is told in one paragraph, with what to do."""

import io
import json

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import timm_inject.offline
from timm_inject.errors import TimmInjectError
from timm_inject.offline import load_model

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 123\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that loads, as (config, weights)."""
    folder = tmp_path_factory.mktemp("saved")
    model = timm.create_model("test_resnet", num_classes=12)
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    return json.loads((folder / "config.json").read_text()), (folder / "model.safetensors").read_bytes()


@pytest.fixture
def make(tmp_path, saved):
    """Write a folder that is damaged in one way; gives what to load."""

    def write(config=None, weights=None, *, name="model.safetensors", **changed):
        content = (saved[0] if config is None else config) if not isinstance(config, bytes) else config
        (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content | changed).encode())
        (tmp_path / name).write_bytes(saved[1] if weights is None else weights)
        return f"local-dir:{tmp_path}"

    return write


def told(name):
    with pytest.raises(TimmInjectError) as caught:
        load_model(name)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def test_what_is_whole_loads(make):
    assert load_model(make()).num_classes == 12


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"architectures": ["ViTForImageClassification"], "model_type": "vit", "_name_or_path": "google/vit-base-patch16-224"},
            "it is a model of transformers (ViTForImageClassification), which timm can't build. Look for its twin in timm: "
            "`timm.list_pretrained('vit_base_patch16_224*')`. A model that was trained on with transformers has none; timm has "
            "what it began with.",
        ),
        ({"model_type": "convnextv2"}, "it is a model of transformers ('convnextv2'), which timm can't build. Look for its"),
        ({"model_type": "mobilenet_v2"}, "`timm.list_pretrained('mobilenetv2*')`"),
        ({"model_type": "bit"}, "`timm.list_pretrained('resnetv2*')`"),
        ({"architectures": ["BertModel"], "model_type": "bert"}, "timm has none of the type 'bert'. Choose one of `timm"),
        ({"_class_name": "UNet2DConditionModel"}, "its config.json names no `architecture`, so it is no model of timm's."),
    ],
)  # fmt: skip
def test_another_library(make, config, expected):
    assert expected in told(make(config))


def test_twins_exist():
    for glob in ("vit_base_patch16_224*", "convnextv2*", "mobilenetv2*", "resnetv2*"):
        assert timm.list_pretrained(glob)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (POINTER, "model.safetensors", "the weights, model.safetensors, are a Git LFS pointer, not the file itself. Download them"),
        (POINTER, "pytorch_model.bin", "the weights, pytorch_model.bin, are a Git LFS pointer"),
        (b"", "model.safetensors", "the weights, model.safetensors, are an empty file. Download or save it again."),
        (b"", "pytorch_model.bin", "the weights, pytorch_model.bin, are an empty file."),
        (b"\0\0", "model.safetensors", "are cut off, or no safetensors file."),
        (b"<!DOCTYPE html>", "model.safetensors", "are a web page, not a file of weights."),
        (bytes(range(256)) * 9, "model.safetensors", "are cut off, or no safetensors file."),
        (b"\x02\0\0\0\0\0\0\0[]", "model.safetensors", "are no safetensors file."),
        (bytes(range(256)) * 9, "pytorch_model.bin", "are cut off, or no file of weights."),
    ],
)  # fmt: skip
def test_weights_that_are_none(make, tmp_path, content, name, expected):
    where = make(weights=content, name=name)
    if name != "model.safetensors":
        (tmp_path / "model.safetensors").unlink(missing_ok=True)
    assert expected in told(where)


def test_cut_off_weights_say_how_much_is_missing(make, saved):
    whole = len(saved[1])
    text = told(make(weights=saved[1][:-1000]))
    assert (
        f"are cut off or damaged: the file has {whole - 1000:,} bytes and should have {whole:,}. Download or save it again." in text
    )
    assert "are cut off, or no safetensors file" in told(make(weights=saved[1][:50]))


def test_pickles(make, tmp_path):
    def pickled(content):
        file = io.BytesIO()
        torch.save(content, file)
        return file.getvalue()

    model = timm.create_model("test_resnet", num_classes=12)
    name = "pytorch_model.bin"
    assert load_model(make(weights=pickled(model.state_dict()), name=name)).num_classes == 12
    assert "hold more than tensors, such as a whole pickled model. Save its `state_dict()`" in told(
        make(weights=pickled(model), name=name)
    )
    assert "are cut off, or no file of weights" in told(make(weights=pickled(model.state_dict())[:-500], name=name))
    assert "do not fit 'test_resnet'" in told(make(weights=pickled([1, 2]), name=name))


@pytest.mark.parametrize(
    "args", [{"foo": 1}, None, [], "x", 3, {"num_classes": "x"}, {"in_chans": None}, {"img_size": "a"}, {"act_layer": 3}]
)
def test_odd_model_args(make, args):
    assert "'test_resnet' can't be built from `model_args` and `pretrained_cfg` of its config.json: " in told(make(model_args=args))


@pytest.mark.parametrize("config", [None, [], "x", 3, {"input_size": [3]}])
def test_odd_pretrained_cfg(make, config):
    assert "can't be built from `model_args` and `pretrained_cfg`" in told(make(pretrained_cfg=config))


def test_weights_of_another_model(make):
    assert "the weights, model.safetensors, do not fit 'resnet18': " in told(make(architecture="resnet18"))
    assert "has no architecture 'resnet-50', which its config.json names. Did you mean 'resnet50'?" in told(
        make(architecture="resnet-50")
    )
    for odd in (None, 3, [], ""):
        assert f"has no architecture {odd!r}, which its config.json names" in told(make(architecture=odd))


def test_a_classifier_that_timm_would_drop_is_told(make):
    """timm loads such a folder without a word, and its classifier is then random."""
    text = told(make(num_classes=5))
    assert text.endswith(
        "states 5 classes and builds 12, so timm drops the trained classifier. Correct `num_classes`, at the top and in "
        "`model_args`."
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "its config.json is not readable as JSON: "),
        (b"{", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        ('{"é": 1}'.encode("latin-1"), "can't decode byte"),
        (b"[]", "its config.json holds list instead of an object"),
        (b"null", "its config.json holds NoneType instead of an object"),
        (POINTER, "its config.json is a Git LFS pointer, not the file itself. Download it again (`git lfs pull`)."),
    ],
)
def test_broken_configs(make, content, expected):
    assert expected in told(make(content))


def test_folders_that_are_none(tmp_path, monkeypatch):
    assert "the folder has no config.json. Check the folder: " in told(f"local-dir:{tmp_path}")
    (tmp_path / "weights.pth").write_bytes(b"x")
    assert "the folder has no config.json, but 'weights.pth'." in told(f"local-dir:{tmp_path}")
    assert "it is a file, not a folder. Check the path." in told(f"local-dir:{tmp_path / 'weights.pth'}")
    assert f"there is no folder '{tmp_path / 'x'}'. Check the path." in told(f"local-dir:{tmp_path / 'x'}")
    assert "timm does not expand '~'; write the whole path." in told("local-dir:~/no-such-folder")
    assert "There is such a folder; the folder of a saved model is written 'local-dir:FOLDER'." in told(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "There is such a file; " in told("weights.pth")


def test_names(monkeypatch):
    monkeypatch.setattr(timm_inject.offline, "hub_is_reachable", lambda: False)
    assert told("hf-hub:user/name@main@x") == (
        "'hf-hub:user/name@main@x' has 2 '@', and one at most names the revision. Write 'hf-hub:user/name@revision'."
    )
    assert "A repository on the Hub is written 'hf-hub:user/name'." in told("https://huggingface.co/user/name")
    assert "Did you mean 'resnet50'?" in told("resnet-50")
    assert "Trained weights that timm has for it: 'resnet50.a1_in1k', " in told("resnet50.no_such_tag")
    assert "local-dir:" in told("local-dir:" + "x" * 5000)
    assert "Unknown model" in told("x" * 5000)
    assert "'a\\x00b'" in told("a\0b")


def test_a_repository_of_transformers_in_the_cache(tmp_path, monkeypatch):
    """What was downloaded before timm gave up is read as a folder is."""
    (tmp_path / "config.json").write_text('{"model_type": "swin", "architectures": ["SwinForImageClassification"]}')
    monkeypatch.setattr(
        timm_inject.offline.huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "config.json")
    )

    def fail(*_, **__):
        raise KeyError("architecture")

    monkeypatch.setattr(timm, "create_model", fail)
    text = told("hf-hub:microsoft/swin-tiny-patch4-window7-224")
    assert "it is a model of transformers (SwinForImageClassification)" in text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["architecture", "num_classes", "model_args", "pretrained_cfg", "label_names", "global_pool"]), _JSON)
def test_no_config_gives_another_error(make, key, value):
    try:
        assert isinstance(load_model(make(**{key: value})), torch.nn.Module)
    except TimmInjectError as error:
        assert "\n" not in str(error)  # noqa: PT017
