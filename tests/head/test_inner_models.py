"""What people put around a timm model: named where it can't be looked through, looked through where it answers for the model."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers import NAMES, NEW, add, make_model, snapshot
from timm_inject import ArgumentTypeError, ArgumentValueError, UnsupportedHeadError, attach_record, injection_record, save_for_hf
from timm_inject.head import find_head, unwrap_model
from timm_inject.injected import RECORD_ATTRIBUTE

OTHER_WEIGHTS = ("Load a tag", "timm.create_model('")


class Lightning(nn.Module):
    """As a LightningModule holds it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = nn.CrossEntropyLoss()


class Body(nn.Module):
    """As fastai holds the model, without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.model = timm.create_model("test_resnet", num_classes=0)


class Two(nn.Module):
    """A teacher and a student."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.student = make_model(), make_model()


def odd_name(model: nn.Module) -> nn.Module:
    outer = nn.Module()
    outer.add_module("my net", model)
    return outer


WRAPPERS: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: Lightning(make_model()), "It wraps a model that does: pass `model.model`."),
    (lambda: nn.Sequential(nn.Identity(), make_model()), "It wraps a model that does: pass `model[1]`."),
    (lambda: Lightning(nn.ModuleList([make_model()])), "It wraps a model that does: pass `model.model[0]`."),
    (lambda: nn.ModuleDict({"net": make_model()}), "It wraps a model that does: pass `model.net`."),
    (lambda: odd_name(make_model()), "It wraps a model that does: pass `model.get_submodule('my net')`."),
    (lambda: Lightning(Lightning(make_model())), "It wraps a model that does: pass `model.model.model`."),
    (Two, "It wraps 2 models that do: pass one of them, `model.teacher`, `model.student`."),
    (
        lambda: nn.Sequential(Body(), nn.Sequential(nn.Flatten(), nn.Linear(96, 10))),
        "It wraps a timm model, `model[0].model`, that has no classifier (`num_classes=0`), and classifies by layers of its own. "
        "Give the timm model the classifier: create it with `num_classes`, copy or train the weights there, and pass it.",
    ),
]


@pytest.mark.parametrize(("make", "text"), WRAPPERS)
def test_the_model_inside_is_named_and_no_other_weights_are_advised(make: Callable[[], nn.Module], text: str) -> None:
    model = make()
    before = snapshot(model)
    with pytest.raises(UnsupportedHeadError) as error:
        add(model)
    assert str(error.value).endswith(f"has no get_classifier(), which every timm classifier has. {text}")
    assert not any(advice in str(error.value) for advice in OTHER_WEIGHTS)
    assert snapshot(model) == before


PARTS = st.recursive(
    st.just(""),
    lambda inner: st.tuples(st.sampled_from(["model", "backbone", "net_2", "0", "3", "my-net"]), inner).map("/".join),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts=PARTS.filter(bool))
def test_what_is_named_is_the_model(parts: str) -> None:
    inner = model = make_model()
    for name in reversed([part for part in parts.split("/") if part]):
        position = int(name) if name.isdigit() else 0
        outer = nn.Sequential(*(nn.Identity() for _ in range(position))) if name.isdigit() else nn.Module()
        outer.add_module(name, model)
        model = outer
    with pytest.raises(UnsupportedHeadError) as error:
        find_head(model)
    expression = str(error.value).partition("pass `")[2].partition("`")[0]
    assert eval(expression, {"model": model}) is inner


class Learner:
    """No module, as fastai's Learner, Lightning's Trainer and transformers' pipelines are none."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (lambda: Learner(make_model()), "It holds one: pass its attribute `model`."),
        (lambda: Learner(Lightning(make_model())), "It holds one: pass its attribute `model.model`."),
        (lambda: Learner(nn.Sequential(make_model())), "It holds one: pass its attribute `model[0]`."),
    ],
)
def test_what_is_no_module_but_holds_one_names_it(model: Callable[[], Any], text: str) -> None:
    with pytest.raises(ArgumentTypeError) as error:
        add(model())
    assert str(error.value).endswith(text)


# --- wrappers that hand attributes through ---------------------------------------------------------------------------


class ByGetattr(nn.Module):
    """As DeepSpeed's engine and FSDP answer for the module inside."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


class ByFunction(ByGetattr):
    """As Fabric does, with a function around each method."""

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if not callable(found) or isinstance(found, nn.Module):
            return found

        @functools.wraps(found)
        def call(*arguments: Any, **options: Any) -> Any:
            return found(*arguments, **options)

        return call


class ByAttribute(nn.Module):
    """The method of the model inside, set on the wrapper."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inside = module
        self.get_classifier = module.get_classifier


HANDING: list[Callable[[nn.Module], nn.Module]] = [ByGetattr, ByFunction, ByAttribute]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(wrappers=st.lists(st.sampled_from(HANDING), min_size=1, max_size=3), parallel=st.booleans())
def test_a_wrapper_that_answers_for_its_model_gets_nothing_of_its_own(
    wrappers: list[Any], parallel: bool, tmp_path_factory: Any
) -> None:
    inner = outer = make_model()
    for wrapper in [*wrappers, *([nn.DataParallel] if parallel else [])]:
        outer = wrapper(outer)
    assert unwrap_model(outer) is inner
    before = [dict(vars(module)) for module in outer.modules() if module is not inner and type(module) in HANDING]
    head = add(outer, mapper="wavg")
    assert head is inner.fc
    assert [dict(vars(module)) for module in outer.modules() if module is not inner and type(module) in HANDING] == before
    assert inner.pretrained_cfg["label_names"] == [*NAMES, *NEW]
    assert RECORD_ATTRIBUTE in vars(inner)
    assert injection_record(outer) == injection_record(inner)
    loaded = timm.create_model(f"local-dir:{save_for_hf(outer, tmp_path_factory.mktemp('out'))}", pretrained=True)
    assert torch.equal(loaded.fc.weight, inner.fc.weight)


def test_a_class_with_a_classifier_of_its_own_is_no_wrapper() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = timm.create_model("test_resnet", num_classes=0)
            self.top = nn.Linear(96, 10)

        def get_classifier(self) -> nn.Module:
            return self.top

    model = Own()
    assert unwrap_model(model) is model
    assert find_head(model).name == "top"


# --- transformers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers_model(tmp_path_factory: Any) -> tuple[Any, Any]:
    """transformers' model of a plain folder and of a patched one."""
    from transformers import AutoModelForImageClassification

    models = []
    for name in ("plain", "patched"):
        model, folder = make_model(), tmp_path_factory.mktemp(name)
        if name == "patched":
            add(model)
        save_for_hf(model, folder)
        models.append(AutoModelForImageClassification.from_pretrained(folder))
    return models[0], models[1]


def test_transformers_wrapper_names_the_model_and_where_its_labels_are(transformers_model: tuple[Any, Any]) -> None:
    model, _ = transformers_model
    with pytest.raises(UnsupportedHeadError) as error:
        add(model)
    assert str(error.value).endswith(
        "It wraps a model that does: pass `model.timm_model`, with seen_class_names=list(model.config.id2label.values()), as its "
        "labels are there alone."
    )
    add(model.timm_model, seen_class_names=list(model.config.id2label.values()))
    assert model.timm_model.pretrained_cfg["label_names"] == [*NAMES, *NEW]


def test_transformers_wrapper_of_a_patched_model_asks_for_its_record_first(transformers_model: tuple[Any, Any]) -> None:
    _, model = transformers_model
    with pytest.raises(UnsupportedHeadError) as error:
        add(model)
    folder = model.name_or_path
    assert str(error.value).endswith(
        f"pass `model.timm_model`, after timm_inject.attach_record(model.timm_model, {folder!r}), as classes were injected into it."
    )
    attach_record(model.timm_model, folder)
    assert [entry.name for entry in injection_record(model.timm_model).classes] == NEW
    add(model.timm_model, ["walrus"])
    assert injection_record(model.timm_model).num_seen == 10


def test_labels_that_transformers_made_up_are_not_offered(transformers_model: tuple[Any, Any]) -> None:
    class Nameless(Lightning):
        config = type("Config", (), {"id2label": {0: "LABEL_0", 1: "LABEL_1"}})()

    with pytest.raises(UnsupportedHeadError, match=r"It wraps a model that does: pass `model\.model`\.$"):
        add(Nameless(make_model()))


def test_a_pipeline_names_the_model_too(transformers_model: tuple[Any, Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=r"It holds one: pass its attribute `model\.timm_model`\."):
        add(Learner(transformers_model[0]))  # type: ignore[arg-type]


def test_a_model_that_transformers_trained_on_for_other_classes_is_not_taken_for_the_old_one(tmp_path: Any) -> None:
    from transformers import AutoModelForImageClassification

    model = make_model()
    add(model, ["okapi", "coyote"])
    save_for_hf(model, tmp_path / "patched")
    own = {index: f"class {index}" for index in range(12)}
    trained = AutoModelForImageClassification.from_pretrained(
        tmp_path / "patched", num_labels=12, id2label=own, label2id={label: index for index, label in own.items()}
    )
    with torch.no_grad():
        trained.timm_model.fc.weight.mul_(1.1)
    trained.save_pretrained(tmp_path / "trained")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'trained'}")
    weights = {key.removeprefix("timm_model."): value for key, value in trained.state_dict().items()}
    loaded.load_state_dict(weights)
    with pytest.raises(ArgumentValueError, match="The injection record does not fit this model: "):
        add(loaded, ["walrus"], seen_class_names=list(own.values()))
    attach_record(loaded, None)
    add(loaded, ["walrus"], seen_class_names=list(own.values()))
    assert injection_record(loaded).num_seen == 12
