"""The states a model can be in when `inject` is called, and what people hold besides the model."""

import copy
import socket
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from timm.data import ImageNetInfo
from timm.optim import Lookahead, create_optimizer_v2
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.helpers import NAMES, WordEncoder, logits_of, make_images, make_model, snapshot
from timm_inject import (
    ArgumentTypeError,
    ArgumentValueError,
    InjectionWarning,
    UnknownSeenClassesError,
    UnsupportedHeadError,
    WeakClassWarning,
    inject,
    injection_record,
    refresh_optimizer,
    save_for_hf,
)
from timm_inject.calibration.rows import CalibratedRows
from timm_inject.head import find_head, unwrap_model
from timm_inject.mappers.registry import kernel_ridge

NEW = ["okapi", "electric scooter", "coyote"]
# One Linear; a 1x1 convolution; two Linears.
ARCHITECTURES = {"test_resnet": {}, "dla46_c": {}, "deit_tiny_distilled_patch16_224": {"depth": 1}}
every_kind = pytest.mark.parametrize("name", ARCHITECTURES)


def small(name: str = "test_resnet", **options: Any) -> nn.Module:
    return make_model(name, **ARCHITECTURES[name], **options)


def add(model: nn.Module, names: list[str] = NEW, **options: Any) -> Any:
    return inject(model, names, encoder=WordEncoder(), **{"mapper": "ridge", **options})


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for leaf in find_head(model).leaves for parameter in leaf.layer.parameters()]


# --- number formats, flags, devices ----------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_kept_and_gets_the_float32_rows_rounded(name: str, dtype: torch.dtype) -> None:
    model = small(name).to(dtype)
    twin = copy.deepcopy(model).float()
    seen = [parameter.detach().clone() for parameter in head_parameters(model)]
    for each in (model, twin):
        add(each)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    for own, other, old in zip(head_parameters(model), head_parameters(twin), seen, strict=True):
        assert torch.equal(own[: len(NAMES)], old)
        assert torch.equal(own, other.to(dtype))


@every_kind
def test_flags_formats_and_frozen_parameters_stay(name: str) -> None:
    model = small(name).to(memory_format=torch.channels_last).train()
    layers = list(model.children())
    layers[0].eval()
    model.requires_grad_(False)
    layers[-1].requires_grad_(True)
    flags = [(module.training, type(module)) for module in model.modules()]
    frozen = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    strides = {key: value.stride() for key, value in model.state_dict().items()}
    before = snapshot(model)
    add(model)
    assert flags == [(module.training, type(module)) for module in model.modules()]
    assert frozen == {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    assert strides == {key: value.stride() for key, value in model.state_dict().items()}
    changed = {key for key, value in snapshot(model).items() if before.get(key) != value}
    own = {leaf.name for leaf in find_head(model).leaves}
    assert all(key.startswith((*own, ":")) for key in changed), changed


@pytest.mark.parametrize("device", ["cuda", "mps"])
@every_kind
def test_an_accelerators_model_stays_there(name: str, device: str) -> None:
    present = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}[device]
    if not present():
        pytest.skip(f"this machine has no {device} device")
    model, twin = small(name), small(name).to(device)
    random_state = torch.get_rng_state(), torch.cuda.get_rng_state() if device == "cuda" else torch.mps.get_rng_state()
    for each in (model, twin):
        add(each, mapper="icis")
    assert {parameter.device.type for parameter in twin.parameters()} == {device}
    for own, other in zip(head_parameters(model), head_parameters(twin), strict=True):
        assert torch.equal(own, other.cpu())
    assert torch.equal(random_state[0], torch.get_rng_state())
    assert torch.equal(random_state[1], torch.cuda.get_rng_state() if device == "cuda" else torch.mps.get_rng_state())


def test_gradients_that_wait_stay_on_every_other_parameter() -> None:
    model = small()
    model(make_images(64)).sum().backward()
    waiting = {name: parameter.grad for name, parameter in model.named_parameters() if not name.startswith("fc.")}
    add(model)
    for name, parameter in model.named_parameters():
        assert parameter.grad is waiting.get(name), name
    assert all(grad is not None for grad in waiting.values())


def test_a_head_without_bias() -> None:
    for name in ("test_resnet", "dla46_c"):
        model = small(name)
        layer = model.fc
        model.fc = nn.Linear(96, 10, bias=False) if name == "test_resnet" else nn.Conv2d(layer.in_channels, 10, 1, bias=False)
        old = model.fc.weight.detach().clone()
        add(model)
        assert model.fc.bias is None
        assert torch.equal(model.fc.weight[:10], old)
        assert logits_of(model, make_images(64)).shape == (2, 13)


# --- wrappers --------------------------------------------------------------------------------------------------------


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("wrapper", [nn.DataParallel, ModelEmaV2, ModelEmaV3, AveragedModel, compiled])
def test_wrappers_are_looked_through_and_still_work(wrapper: Any) -> None:
    plain, wrapped = small(), wrapper(small())
    with torch.inference_mode():
        wrapped_eval = wrapped.eval()
        expected = logits_of(plain, make_images(64))
        assert torch.allclose(getattr(wrapped_eval, "module", wrapped_eval)(make_images(64)), expected, atol=1e-5)
    add(plain)
    head = add(wrapped)
    inner = unwrap_model(wrapped)
    assert inner is not wrapped
    assert head is inner.get_classifier()
    assert torch.equal(inner.fc.weight, plain.fc.weight)
    assert injection_record(wrapped) == injection_record(plain)
    with torch.inference_mode():
        after = getattr(wrapped, "module", wrapped)(make_images(64))
    assert torch.allclose(after, logits_of(plain, make_images(64)), atol=1e-5)


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of this process alone."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch has no gloo backend here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_predicts_on_and_trains_when_wrapped_again() -> None:
    model = small()
    parallel = nn.parallel.DistributedDataParallel(model)
    before = logits_of(parallel, make_images(64))
    with pytest.warns(InjectionWarning) as caught:
        head = add(parallel)
    assert [str(entry.message) for entry in caught if entry.category is not WeakClassWarning] == [
        "DistributedDataParallel still synchronises the gradients of the head's earlier parameters. Wrap the model again before "
        "training: DistributedDataParallel(wrapped.module, ...). Inference works as it is."
    ]
    assert head is model.get_classifier()
    after = logits_of(parallel, make_images(64))
    assert after.shape == (2, len(NAMES) + len(NEW))
    torch.testing.assert_close(after[:, : len(NAMES)], before, rtol=1e-4, atol=1e-5)
    again = nn.parallel.DistributedDataParallel(parallel.module)
    again(make_images(64)).sum().backward()
    assert model.fc.weight.grad.shape == (13, 96)


@pytest.mark.usefixtures("process_group")
def test_a_sharded_head_is_refused() -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this torch has no fully_shard")
    model = small()
    fsdp.fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (1,)))
    with pytest.raises(UnsupportedHeadError, match=r"whose weight is a torch\.distributed\.tensor\.DTensor of torch\.float32"):
        add(model)


def test_a_model_compiled_in_place_follows() -> None:
    model = small()
    model.compile(backend="eager")
    before = logits_of(model, make_images(64))
    add(model)
    after = logits_of(model, make_images(64))
    assert after.shape == (2, len(NAMES) + len(NEW))
    torch.testing.assert_close(after[:, : len(NAMES)], before, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("process_group")
def test_a_warning_made_an_error_changes_nothing() -> None:
    model = small()
    parallel = nn.parallel.DistributedDataParallel(model)
    before = snapshot(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InjectionWarning):
            add(parallel)
    assert snapshot(model) == before


@pytest.mark.parametrize("make_ema", [ModelEmaV2, ModelEmaV3])
def test_an_ema_copy_is_injected_by_its_own_and_follows_again(make_ema: Any) -> None:
    model = small()
    ema = make_ema(model, decay=0.5)
    before = snapshot(ema.module)
    add(model)
    assert snapshot(ema.module) == before  # a copy is another model
    add(ema)
    assert torch.equal(ema.module.fc.weight, model.fc.weight)
    with torch.no_grad():
        model.fc.weight += 2
    ema.update(model)
    torch.testing.assert_close(ema.module.fc.weight, model.fc.weight - 1)


def test_the_first_kind_of_ema_says_what_to_pass() -> None:
    ema = ModelEma(small())  # no module, and so no wrapper to look through
    with pytest.raises(ArgumentTypeError) as error:
        add(ema)
    assert str(error.value) == (
        "`model` must be a timm model (a torch.nn.Module), got timm.utils.model_ema.ModelEma. It holds one: pass its "
        "attribute `ema`."
    )
    assert add(ema.ema).out_features == len(NAMES) + len(NEW)


def with_adapters(**options: Any) -> tuple[nn.Module, nn.Module]:
    peft = pytest.importorskip("peft")
    model = make_model("test_vit")
    return model, peft.get_peft_model(model, peft.LoraConfig(r=2, **options))


@pytest.mark.parametrize("tuner_alone", [False, True])
def test_a_model_with_adapters_elsewhere_is_looked_through(tuner_alone: bool, tmp_path: Path) -> None:
    plain, (model, adapted) = make_model("test_vit"), with_adapters(target_modules=["qkv"])
    wrapped = adapted.base_model if tuner_alone else adapted
    assert wrapped is not unwrap_model(wrapped) is model
    for each in (plain, wrapped):
        add(each)
    assert torch.equal(model.head.weight, plain.head.weight)
    assert model.num_classes == model.pretrained_cfg["num_classes"] == len(NAMES) + len(NEW)
    assert injection_record(adapted) == injection_record(plain)
    assert logits_of(adapted, make_images(160)).shape == (2, len(NAMES) + len(NEW))
    with pytest.warns(InjectionWarning) as caught:
        save_for_hf(adapted, tmp_path / "adapted")
    (text,) = (str(entry.message) for entry in caught)
    assert text.startswith("timm.create_model will not load what was saved: ")
    assert " tensors are not those of timm's 'test_vit': 'blocks.0.attn.qkv.base_layer.weight', " in text
    merged = adapted.merge_and_unload()
    save_for_hf(merged, tmp_path / "merged")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'merged'}", pretrained=True).eval()
    torch.testing.assert_close(logits_of(loaded, make_images(160)), logits_of(plain, make_images(160)), rtol=1e-4, atol=1e-4)
    assert injection_record(loaded) == injection_record(plain)


@pytest.mark.parametrize(
    ("options", "layer"),
    [
        ({"target_modules": ["qkv", "head"]}, "peft.tuners.lora.layer.Linear"),
        ({"target_modules": ["qkv"], "modules_to_save": ["head"]}, "peft.utils.other.ModulesToSaveWrapper"),
    ],
)
def test_adapters_on_the_head_are_merged_first(options: dict[str, Any], layer: str) -> None:
    model, adapted = with_adapters(**options)
    for each in (adapted, model):
        with pytest.raises(UnsupportedHeadError) as error:
            add(each)
        assert f"is wrapped by PEFT ({layer})" in str(error.value)
    merged = adapted.merge_and_unload()
    add(merged)
    assert logits_of(merged, make_images(160)).shape == (2, len(NAMES) + len(NEW))


# --- optimizers ------------------------------------------------------------------------------------------------------


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    logits = model.train()(make_images(224 if hasattr(model, "head_dist") else 64))
    logits.square().sum().backward()
    optimizer.step()
    model.eval()


@pytest.mark.parametrize("kind", ["sgd", "adamw", "rmsprop", "lion"])
@every_kind
def test_a_refreshed_optimizer_trains_the_new_head_and_keeps_momentum(name: str, kind: str) -> None:
    model = small(name)
    optimizer = create_optimizer_v2(model, opt=kind, lr=0.1, weight_decay=0.01, momentum=0.9)
    train_step(model, optimizer)
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    places = {
        id(parameter): (g, p) for g, group in enumerate(optimizer.param_groups) for p, parameter in enumerate(group["params"])
    }
    old = head_parameters(model)
    kept = {id(parameter): copy.deepcopy(optimizer.state[parameter]) for parameter in old}
    add(model)
    names = refresh_optimizer(optimizer, model)
    assert len(names) == len(old)
    assert refresh_optimizer(optimizer, model) == []
    assert options == [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert set(map(id, optimizer.state)) <= set(held)
    for before, after in zip(old, head_parameters(model), strict=True):
        group, position = places[id(before)]
        assert optimizer.param_groups[group]["params"][position] is after
        for key, value in kept[id(before)].items():
            new = optimizer.state[after][key]
            if isinstance(value, torch.Tensor) and value.ndim:
                assert torch.equal(new[: len(NAMES)], value)
                assert new.shape == after.shape
                assert not new[len(NAMES) :].any()
            else:
                assert new == value
    weights = [parameter.detach().clone() for parameter in head_parameters(model)]
    train_step(model, optimizer)
    moved = [not torch.equal(one, other) for one, other in zip(weights, head_parameters(model), strict=True)]
    assert moved[0]
    assert not torch.equal(weights[0][-1], head_parameters(model)[0][-1])


def test_without_a_refresh_the_head_would_not_train() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    add(model)
    before = model.fc.weight.detach().clone()
    train_step(model, optimizer)
    assert torch.equal(model.fc.weight, before)


def test_a_refresh_also_follows_a_smaller_head() -> None:
    from timm_inject.head import resize_head

    model = small()
    add(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train_step(model, optimizer)
    momentum = optimizer.state[model.fc.weight]["exp_avg"].clone()
    resize_head(model, find_head(model), [torch.empty(0, 97)], kept=range(10), config={}, record=None)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert torch.equal(optimizer.state[model.fc.weight]["exp_avg"], momentum[:10])


@pytest.mark.skipif(not hasattr(torch.optim, "Adafactor"), reason="this torch has no Adafactor")
def test_state_that_is_not_one_number_a_weight_starts_anew() -> None:
    model = small()
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.1)
    train_step(model, optimizer)
    assert "row_var" in optimizer.state[model.fc.weight]
    add(model)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert model.fc.weight not in optimizer.state
    train_step(model, optimizer)
    assert optimizer.state[model.fc.weight]["row_var"].shape[0] == 13


@pytest.mark.parametrize("kind", ["lookahead", "asgd"])
def test_copies_of_the_weights_start_from_the_new_rows(kind: str) -> None:
    """Zeros there would pull the new rows to zero."""
    model = small()
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if kind == "lookahead" else None
    optimizer = Lookahead(inner, k=1) if inner else torch.optim.ASGD(model.parameters(), lr=0.1)
    state, copied = (inner or optimizer).state, "lookahead_slow_buff" if inner else "ax"
    train_step(model, optimizer)
    old = model.fc.weight
    before = {key: value.clone() for key, value in state[old].items() if value is not None}
    add(model)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert old not in state
    after = state[model.fc.weight]
    assert torch.equal(after[copied][: len(NAMES)], before[copied])
    assert torch.equal(after[copied][len(NAMES) :], model.fc.weight[len(NAMES) :])
    if inner:
        assert torch.equal(after["momentum_buffer"][: len(NAMES)], before["momentum_buffer"])
        assert not after["momentum_buffer"][len(NAMES) :].any()
    rows = model.fc.weight[len(NAMES) :].detach().clone()
    train_step(model, optimizer)
    assert model.fc.weight.shape == (13, 96)
    assert (model.fc.weight[len(NAMES) :] - rows).abs().max() > 0


def test_a_scheduler_goes_on_with_a_refreshed_optimizer() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    add(model)
    refresh_optimizer(optimizer, model)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_an_optimizer_of_another_model_is_refused_and_left_alone() -> None:
    model, other = small(), small("dla46_c")
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    held = list(optimizer.param_groups[0]["params"])
    with pytest.raises(ArgumentValueError) as error:
        refresh_optimizer(optimizer, model)
    assert str(error.value) == (
        "The optimizer holds neither the parameters of 'fc' nor the ones that they came from. Refresh it right after `inject`, "
        "before the model trains on, or make it again from model.parameters()."
    )
    assert all(one is two for one, two in zip(held, optimizer.param_groups[0]["params"], strict=True))
    with pytest.raises(ArgumentTypeError, match=r"`optimizer` must be a torch\.optim\.Optimizer, got Linear\."):
        refresh_optimizer(nn.Linear(1, 1), model)  # type: ignore[arg-type]


def test_parameters_of_other_modules_stay_in_the_optimizer() -> None:
    model, loss = small(), nn.Linear(96, 10)
    optimizer = torch.optim.SGD([{"params": loss.parameters(), "lr": 1.0}, {"params": model.parameters(), "lr": 0.1}], lr=0.5)
    add(model)
    assert refresh_optimizer(optimizer, model) == ["fc.weight", "fc.bias"]
    assert optimizer.param_groups[0]["params"] == list(loss.parameters())
    assert any(parameter is model.fc.weight for parameter in optimizer.param_groups[1]["params"])


# --- heads of other classes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [2, 3, 10, 50])
@pytest.mark.parametrize("mapper", ["icis", "ridge"])
def test_a_head_of_few_classes_works_and_warns(num_classes: int, mapper: str) -> None:
    words = [
        f"{one} {two}" for one in ("red", "green", "tall", "tiny", "old", "wild") for two in ("fox", "bus", "cup", "owl", "oak")
    ]
    words += [f"{one} {two}" for one in ("wet", "dry", "new", "big") for two in ("fox", "bus", "cup", "owl", "oak")]
    model = make_model("test_resnet", num_classes=num_classes)
    seen = model.fc.weight.detach().clone()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InjectionWarning)
        inject(model, NEW, seen_class_names=words[:num_classes], encoder=WordEncoder(), mapper=mapper)
    record = injection_record(model)
    few = [str(entry.message) for entry in caught if str(entry.message).startswith("The head knows")]
    assert len(few) == (num_classes < 25)
    if num_classes == 2:
        assert few == [
            "The head knows 2 classes, and a mapper learns little from fewer than 25. None of so few can be hidden, so the new "
            "rows are not calibrated and there is no self-score. Inject into a model with more classes, or test with `evaluate` on "
            "photos before you rely on the new ones."
        ]
        assert (record.classes[0].calibration, record.self_score) == (None, {})
    else:
        assert record.classes[0].calibration == "harmonic"
        assert all(f"harmonic mean of {record.self_score['harmonic_mean']:.0%} (self-score)" in text for text in few)
    assert torch.equal(model.fc.weight[:num_classes], seen)
    assert model.fc.weight.isfinite().all()
    assert model.num_classes == num_classes + len(NEW)


def test_a_background_class_at_index_0_is_one_of_the_names() -> None:
    """TF models in the original layout have 1001 outputs, the first for background."""
    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(index) for index in range(1000)]
    model = make_model("test_resnet", num_classes=1001)
    model.pretrained_cfg = timm.get_pretrained_cfg("tf_efficientnet_lite0.in1k").to_dict() | {"num_classes": 1001}
    seen = model.fc.weight.detach().clone()
    with pytest.raises(UnknownSeenClassesError, match="One output more is often a background class at index 0; if so, list it"):
        add(model)
    options = {"seen_class_names": ["background", *names], "mapper": "mean-row", "descriptions": None}
    inject(model, ["okapi", "dahlia"], encoder=HashEncoder(), **options)
    assert torch.equal(model.fc.weight[:1001], seen)
    assert model.pretrained_cfg["label_names"][0] == "background"
    assert model.pretrained_cfg["label_names"][1001:] == ["okapi", "dahlia"]
    assert [entry.index for entry in injection_record(model).classes] == [1001, 1002]


class HashEncoder:
    """Twenty thousand texts in a moment, each somewhere of its own."""

    def encode(self, sentences: list[str]) -> torch.Tensor:
        codes = torch.tensor([zlib.crc32(sentence.encode()) for sentence in sentences], dtype=torch.float64)[:, None]
        return torch.sin(codes * torch.linspace(1e-6, 1e-3, 8, dtype=torch.float64)).float() + 2


LABEL_SETS = {
    "vit_base_patch32_clip_224.openai_ft_in12k_in1k": 1000,
    "convnext_nano.in12k": 11821,
    "tresnet_m.miil_in21k": 11221,
    "convnext_tiny.fb_in22k": 21841,
    "vit_tiny_patch16_224.augreg_in21k": 21843,
}


def with_label_set(tag: str) -> nn.Module:
    model = make_model("test_resnet", num_classes=LABEL_SETS[tag])
    model.pretrained_cfg = timm.get_pretrained_cfg(tag).to_dict()
    assert model.pretrained_cfg["num_classes"] == LABEL_SETS[tag]
    return model


@pytest.mark.parametrize("tag", LABEL_SETS)
def test_heads_of_larger_label_sets_know_their_names(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(_: Any, new_rows: torch.Tensor, *__: Any, **___: Any) -> CalibratedRows:
        return CalibratedRows(new_rows, {})

    # Both take most of a minute on so many classes; the slow test below runs them on the smallest of these heads.
    monkeypatch.setattr(sys.modules[inject.__module__], "calibrate_rows", keep)
    monkeypatch.setattr(sys.modules[inject.__module__], "MAX_NAMES", 0)  # no estimate
    model = with_label_set(tag)
    seen = model.fc.weight.detach().clone()
    inject(model, ["my own gadget"], encoder=HashEncoder(), mapper="mean-row", descriptions=None)
    assert torch.equal(model.fc.weight[:-1], seen)
    labels = model.pretrained_cfg["label_names"]
    assert len(labels) == len(set(labels)) == model.num_classes == LABEL_SETS[tag] + 1


@pytest.mark.slow
def test_the_defaults_work_on_a_head_of_12_thousand_classes() -> None:
    model = with_label_set("convnext_nano.in12k")
    seen = model.fc.weight.detach().clone()
    inject(model, ["my own gadget", "another gadget"], encoder=HashEncoder(), descriptions=None)
    assert torch.equal(model.fc.weight[:-2], seen)
    assert model.fc.weight.isfinite().all()


def test_settings_of_the_default_mapper_are_tried_on_a_part_of_a_large_head(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    descriptors = nn.functional.normalize(torch.randn(300, 16, generator=generator))
    rows = torch.randn(300, 20, generator=generator)
    whole = kernel_ridge.choose_kernel(descriptors, rows)
    every_third = kernel_ridge.choose_kernel(descriptors[::3], rows[::3])
    monkeypatch.setattr(kernel_ridge, "_MAX_TRIED", 100)
    assert kernel_ridge.choose_kernel(descriptors, rows) == every_third != whole
