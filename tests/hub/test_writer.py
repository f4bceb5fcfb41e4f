"""Whatever `inject` accepts can be saved, or it says beforehand that it can't."""

import functools
import inspect
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import timm.models
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timm.models import PretrainedCfg
from timm.utils import ModelEmaV3
from torch import nn

from tests.helpers import NAMES, WordEncoder, logits_of, make_images, make_model, snapshot
from timm_inject import (
    ArgumentValueError,
    InjectionWarning,
    SaveError,
    WeakClassWarning,
    inject,
    injection_record,
    push_to_hf_hub,
    save_for_hf,
)

NEW = ["okapi", "electric scooter"]


def add(model: nn.Module) -> nn.Module:
    inject(model, NEW, seen_class_names=NAMES, encoder=WordEncoder(), mapper="wavg")
    return model


def load(folder: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


# --- states ----------------------------------------------------------------------------------------------------------


def channels_last(model: nn.Module) -> nn.Module:
    return model.to(memory_format=torch.channels_last)


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


def transposed(model: nn.Module) -> nn.Module:
    model.fc.weight = nn.Parameter(model.fc.weight.detach().t().contiguous().t())
    return model


def alias_after(model: nn.Module) -> nn.Module:
    model.alias = model.fc
    return model


def alias_before(model: nn.Module) -> nn.Module:
    model._modules = {"alias": model.fc, **model._modules}
    return model


def alias_inside(model: nn.Module) -> nn.Module:
    model.parts = nn.ModuleList([model.layer1, model.layer2])
    return model


def shared_by_two_layers(model: nn.Module) -> nn.Module:
    model.layer1[0].bn2.weight = model.layer1[0].bn1.weight
    return model


def views_of_one(model: nn.Module) -> nn.Module:
    both = torch.randn(2, len(model.layer1[0].bn1.bias))
    model.layer1[0].bn1.bias, model.layer1[0].bn2.bias = nn.Parameter(both[0]), nn.Parameter(both[1])
    return model


def expanded(model: nn.Module) -> nn.Module:
    model.layer1[0].bn1.running_mean = torch.zeros(1).expand(len(model.layer1[0].bn1.bias))
    return model


def no_input_size(model: nn.Module) -> nn.Module:
    model.pretrained_cfg = {"architecture": "test_resnet", "label_names": NAMES}
    return model


def config_object(model: nn.Module) -> nn.Module:
    model.pretrained_cfg = PretrainedCfg(architecture="test_resnet", label_names=tuple(NAMES))
    return model


def no_num_features(model: nn.Module) -> nn.Module:
    del model.num_features
    return model


def in_training(model: nn.Module) -> nn.Module:
    return model.train()


STATES: list[Callable[[nn.Module], nn.Module]] = [
    *(channels_last, frozen, transposed, alias_after, alias_before, alias_inside, shared_by_two_layers, views_of_one, expanded),
    *(no_input_size, config_object, no_num_features, in_training),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def wrapped(model: nn.Module, wrapper: str) -> nn.Module:
    if wrapper == "compiled":
        return torch.compile(model, backend="eager")
    return {"none": lambda plain: plain, "parallel": nn.DataParallel, "ema": ModelEmaV3}[wrapper](model)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    states=st.lists(st.sampled_from(STATES), max_size=4, unique=True),
    dtype=st.sampled_from(DTYPES),
    wrapper=st.sampled_from(["none", "parallel", "ema", "compiled"]),
    after=st.booleans(),
)
def test_every_state_that_is_accepted_is_saved_and_loads_in_timm(states, dtype, wrapper, after, tmp_path_factory):
    model = make_model("test_resnet").to(dtype)
    if after:
        add(model)
    for state in states:
        model = state(model)
    outer = wrapped(model, wrapper)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", WeakClassWarning)
        if not after:
            add(outer)
        inner = getattr(outer, "module", getattr(outer, "_orig_mod", outer))
        before = snapshot(inner)
        folder = save_for_hf(outer, tmp_path_factory.mktemp("saved"))
    assert snapshot(inner) == before
    loaded = load(folder)
    images = make_images(64)
    assert torch.equal(logits_of(loaded, images), logits_of(inner.eval().float(), images))
    assert [entry.name for entry in injection_record(loaded).classes] == NEW


def test_each_state_alone_is_one_that_a_plain_save_would_meet(tmp_path):
    """The states above matter: timm's own writer refuses some of them."""
    for state in (channels_last, alias_after, shared_by_two_layers, no_input_size, config_object, no_num_features):
        with pytest.raises(Exception, match=r".+"):
            timm.models.save_for_hf(state(make_model("test_resnet")), str(tmp_path), safe_serialization=True)


def test_a_second_name_that_timm_lacks_is_left_out(tmp_path):
    from safetensors.torch import load_file

    model = add(alias_before(make_model("test_resnet")))
    names = set(load_file(save_for_hf(model, tmp_path) / "model.safetensors"))
    assert names == set(timm.create_model("test_resnet").state_dict())


# --- what JSON can't hold --------------------------------------------------------------------------------------------


class OwnNorm(nn.BatchNorm2d):
    """Not one of timm's."""


ARGUMENTS = [
    ({"act_layer": nn.SiLU}, "the argument act_layer can't be written to config.json; pass model_args={'act_layer': 'silu'} to"),
    ({"act_layer": nn.GELU}, "pass model_args={'act_layer': 'gelu'} to `save_for_hf`"),
    ({"norm_layer": nn.BatchNorm2d}, "pass model_args={'norm_layer': 'batchnorm2d'} to `save_for_hf`"),
    ({"norm_layer": OwnNorm}, "pass model_args={'norm_layer': ...} to `save_for_hf`, with a value that JSON can hold"),
    ({"act_layer": functools.partial(nn.LeakyReLU, 0.2)}, "pass model_args={'act_layer': ...} to `save_for_hf`, with a value"),
]


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS)
def test_layer_classes_among_the_arguments_are_told_before_and_at_the_save(arguments, message, tmp_path):
    model = make_model("test_resnet", **arguments)
    if not set(arguments) <= set(getattr(model, "_model_args", {})):
        pytest.skip("this timm keeps no arguments")
    with pytest.warns(InjectionWarning) as caught:
        add(model)
    (told,) = (entry for entry in caught if entry.category is InjectionWarning)
    assert str(told.message).startswith("timm can't save this model as it is: the argument ")
    assert message in str(told.message)
    with pytest.raises(SaveError) as error:
        save_for_hf(model, tmp_path / "out")
    assert str(error.value).startswith(f"The model could not be saved to '{tmp_path / 'out'}': the argument ")
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", ["model_args", "model_config"])
def test_a_name_in_the_place_of_the_class_is_saved(by, tmp_path):
    model = make_model("test_resnet", act_layer=nn.SiLU)
    with pytest.warns(InjectionWarning):
        add(model)
    instead = {"act_layer": "silu"}
    save_for_hf(model, tmp_path, **{by: instead if by == "model_args" else {"model_args": instead}})
    assert torch.equal(logits_of(load(tmp_path), make_images(64)), logits_of(model, make_images(64)))
    with pytest.raises(SaveError, match="the argument block can't be written to config.json"):
        save_for_hf(model, tmp_path, model_args={**instead, "block": nn.Linear})


def test_a_model_without_an_architecture_is_told_before_and_at_the_save(tmp_path):
    model = make_model("test_resnet")
    model.pretrained_cfg = None
    with pytest.warns(InjectionWarning, match="the model's config names no architecture; set model.pretrained_cfg"):
        add(model)
    with pytest.raises(SaveError, match="the model's config names no architecture"):
        save_for_hf(model, tmp_path)
    model.pretrained_cfg["architecture"] = "test_resnet"
    save_for_hf(model, tmp_path)
    assert load(tmp_path).num_classes == 12


class Around(nn.Module):
    """A module that answers for the model that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = make_model("test_resnet")
        self.num_classes = 10

    def get_classifier(self) -> nn.Module:
        return self.backbone.get_classifier()


def test_a_module_that_answers_for_its_model_is_told_which_one_can_be_saved():
    with pytest.warns(InjectionWarning, match="names no architecture; pass `model.backbone`, the timm model that it holds"):
        add(Around())


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError])
def test_whatever_timms_writer_raises_is_one_of_ours(error, tmp_path, monkeypatch):
    model = add(make_model("test_resnet"))

    def fail(*_, **__):
        raise error("something\nunforeseen")

    monkeypatch.setattr("timm.models.save_for_hf", fail)
    with pytest.raises(SaveError, match=rf"timm's writer says: {error.__name__}: .*something.*unforeseen"):
        save_for_hf(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "timms"), [(save_for_hf, timm.models.save_for_hf), (push_to_hf_hub, timm.models.push_to_hf_hub)])
def test_parameters_are_timms_by_name_order_and_default(own, timms):
    theirs = [(name, each.default) for name, each in inspect.signature(timms).parameters.items()]
    ours = [(name, each.default) for name, each in inspect.signature(own).parameters.items() if each.kind is not each.KEYWORD_ONLY]
    assert ours[: len(theirs)] == theirs


@pytest.mark.parametrize("value", [True, False, "both"])
def test_only_safetensors_are_written_whatever_is_asked(value, tmp_path):
    model = add(make_model("test_resnet"))
    save_for_hf(model, tmp_path / "one", None, None, value, None)
    save_for_hf(model=model, save_directory=tmp_path / "two", safe_serialization=value)
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".md", ".png"}
        assert load(folder).num_classes == 12


@pytest.mark.parametrize("value", ["pickle", None, 1])
def test_other_serialisations_are_refused(value, tmp_path):
    with pytest.raises(ArgumentValueError, match="`safe_serialization` must be True, False or 'both', as in timm, got "):
        save_for_hf(make_model("test_resnet"), tmp_path / "out", safe_serialization=value)


def test_an_older_timm_that_lacks_a_parameter_is_told(tmp_path, monkeypatch):
    writer = timm.models.save_for_hf

    def older(model, save_directory, model_config=None, model_args=None, safe_serialization=False):
        writer(model, save_directory, model_config, model_args, safe_serialization)

    monkeypatch.setattr("timm.models.save_for_hf", older)
    model = add(make_model("test_resnet"))
    with pytest.raises(ArgumentValueError, match=r"timm .* does not take `data_config`\. Leave it out, or update timm\."):
        save_for_hf(model, tmp_path / "out", data_config={"crop_pct": 0.5})
    save_for_hf(model, tmp_path / "out", model_args={"drop_rate": 0.1})
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_classes"] == 12


# --- drives ----------------------------------------------------------------------------------------------------------


def test_drives_without_permissions(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refuse)
    assert load(save_for_hf(add(make_model("test_resnet")), tmp_path)).num_classes == 12


def test_a_save_that_breaks_off_between_two_files_leaves_the_old_model(tmp_path, monkeypatch):
    model = add(make_model("test_resnet"))
    save_for_hf(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    inject(model, ["coyote"], encoder=WordEncoder(), mapper="wavg")
    real = Path.replace

    def replace(self, target):
        if self.name == "model.safetensors" and self.parent.name == "new":
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(SaveError, match="Input/output error"):
        save_for_hf(model, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
