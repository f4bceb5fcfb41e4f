"""The head is widened, nothing else is, and it is left alone when anything goes wrong."""

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import PretrainedCfg, save_for_hf
from torch import Tensor, nn

from tests.helpers import (
    HEAD_PATHS,
    NAMES,
    add,
    every_small_kind,
    find_leaf,
    head_parameters,
    logits_of,
    make_images,
    make_model,
    make_small_model,
    snapshot,
)
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, HeadWeightsError
from timm_inject.head import HeadState, Leaf, find_head, resize_head, unwrap_model

NUM_NEW = 3
CONFIG = {"label_names": ["a", "b"], "label_descriptions": {"a": "the first", "b": "the second"}}
RECORD = {"unseen": ["okapi"], "seed": 0}


def make_rows(leaf: Leaf, num_new: int = NUM_NEW) -> Tensor:
    return torch.randn(num_new, leaf.row_dim, generator=torch.Generator().manual_seed(1))


def widen(model: nn.Module, num_new: int = NUM_NEW, **config: Any) -> Any:
    head = find_head(model)
    rows = [make_rows(leaf, num_new) for leaf in head.leaves]
    return resize_head(model, head, rows, config=config or CONFIG, record=RECORD)


@pytest.mark.parametrize(("name", "path"), HEAD_PATHS.items())
def test_widened_model_is_an_ordinary_timm_model_of_that_width(name: str, path: str) -> None:
    model = make_model(name)
    head = find_head(model)
    modules = {key: type(module) for key, module in model.named_modules()}
    (leaf,) = head.leaves
    weight, bias = leaf.layer.weight.detach().clone(), leaf.layer.bias.detach().clone()
    rows = make_rows(leaf)

    layer = resize_head(model, head, [rows], config=CONFIG, record=RECORD)

    assert layer is leaf.layer is model.get_classifier() is model.get_submodule(path)
    assert modules == {key: type(module) for key, module in model.named_modules()}
    assert head.num_classes == layer.out_features == model.num_classes == len(NAMES) + NUM_NEW
    assert torch.equal(layer.weight[: len(NAMES)], weight)
    assert torch.equal(layer.bias[: len(NAMES)], bias)
    assert torch.equal(torch.cat([layer.weight, layer.bias[:, None]], dim=1)[len(NAMES) :], rows)
    plain = timm.create_model(name, num_classes=len(NAMES) + NUM_NEW)
    plain.load_state_dict(model.state_dict(), strict=True)
    assert repr(plain) == repr(model)  # same modules and sizes, so the same cost


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_seen_logits_do_not_move(name: str) -> None:
    model = make_model(name)
    images = make_images(160)
    with torch.inference_mode():
        before = model(images)
        widen(model)
        after = model(images)
        plain = timm.create_model(name, num_classes=len(NAMES) + NUM_NEW).eval()
        plain.load_state_dict(model.state_dict())
        # The weights are bit-identical (tested above). A BLAS library may sum in another order for another width, most
        # often for a batch of one, so the logits may differ in the last bit, as between any two layers of those widths.
        torch.testing.assert_close(after[:, : len(NAMES)], before, rtol=1e-5, atol=1e-5)
        assert torch.equal(after, plain(images))
    assert after.shape == (2, len(NAMES) + NUM_NEW)


def test_widening_twice_is_widening_once_with_both() -> None:
    once, twice = make_model(), make_model()
    head = find_head(once)
    rows = make_rows(head.leaves[0], 5)
    resize_head(once, head, [rows], config={}, record={})
    head = find_head(twice)
    resize_head(twice, head, [rows[:2]], config={}, record={})
    resize_head(twice, head, [rows[2:]], config={}, record={})
    assert torch.equal(once.fc.weight, twice.fc.weight)
    assert torch.equal(once.fc.bias, twice.fc.bias)
    assert once.num_classes == twice.num_classes == 15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_rows_are_cast_to_the_heads_dtype(dtype: torch.dtype, bias: bool) -> None:
    model = make_model()
    model.fc = nn.Linear(model.num_features, 10, bias=bias)
    model.to(dtype)
    head, leaf = find_head(model), find_leaf(model)
    old = leaf.layer.weight.detach().clone()
    rows = make_rows(leaf)
    resize_head(model, head, [rows], config={}, record={})
    assert all(parameter.dtype == dtype for parameter in model.parameters())
    assert leaf.layer.weight.is_contiguous()
    assert torch.equal(leaf.layer.weight[:10], old)
    assert torch.equal(leaf.layer.weight[10:], rows[:, : leaf.feature_dim].to(dtype))
    assert (leaf.layer.bias is not None) == bias


def test_nothing_else_changes() -> None:
    """Flags, memory format, frozen state, hooks, RNG and every other attribute and tensor stay as they were."""
    model = make_model().to(memory_format=torch.channels_last)
    model.train()
    model.layer2.eval()
    model.requires_grad_(False)
    model.layer1.requires_grad_(True)
    calls: list[str] = []
    model.fc.register_forward_hook(lambda *_: calls.append("forward"))
    model.fc.register_full_backward_hook(lambda *_: calls.append("backward"))
    before, rng = snapshot(model), torch.get_rng_state()

    widen(model)

    assert torch.equal(torch.get_rng_state(), rng)
    after = snapshot(model)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    expected = {":num_classes", ":pretrained_cfg", ":default_cfg", ":timm_inject_record", "fc:out_features"}
    if hasattr(model, "_model_args"):  # of timm 1.0.31 and later
        expected.add(":_model_args")
    assert changed == expected | {"fc:_parameters", "fc.weight values", "fc.bias values"}
    assert not model.fc.weight.requires_grad
    assert model.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    model(make_images().requires_grad_()).sum().backward()
    assert calls == ["forward", "backward"]


def test_new_parameters_are_leaves_that_train() -> None:
    model = make_model()
    with torch.inference_mode():  # rows made here are inference tensors
        widen(model)
    layer = model.get_classifier()
    assert layer.weight.grad is None
    assert layer.weight.is_leaf
    assert not layer.weight.is_inference()
    model(make_images()).sum().backward()
    assert layer.weight.grad.shape == (len(NAMES) + NUM_NEW, layer.in_features)


def test_config_is_replaced_not_changed() -> None:
    model = make_model()
    shared, before = model.pretrained_cfg, copy.deepcopy(model.pretrained_cfg)
    updates = copy.deepcopy(CONFIG)
    widen(model, **updates)
    assert shared == before
    assert model.pretrained_cfg == {**before, **CONFIG, "num_classes": len(NAMES) + NUM_NEW}
    assert model.default_cfg is model.pretrained_cfg
    assert model.timm_inject_record == RECORD
    assert model.timm_inject_record is not RECORD
    updates["label_names"].append("c")
    assert model.pretrained_cfg["label_names"] == ["a", "b"]


def test_config_object_keeps_its_type_and_a_missing_one_is_made() -> None:
    model = make_model()
    old = model.pretrained_cfg = PretrainedCfg(classifier="fc", num_classes=10)
    widen(model)
    assert isinstance(model.pretrained_cfg, PretrainedCfg)
    assert (model.pretrained_cfg.num_classes, old.num_classes) == (len(NAMES) + NUM_NEW, 10)
    model = make_model()
    del model.pretrained_cfg, model.default_cfg
    widen(model)
    assert model.pretrained_cfg == {**CONFIG, "num_classes": len(NAMES) + NUM_NEW}
    assert not hasattr(model, "default_cfg")


@pytest.mark.parametrize("num_classes", [1000, 10], ids=["timm's own number", "another"])
def test_saved_by_timm_it_loads_by_timm(tmp_path: Path, num_classes: int) -> None:
    model = make_model(num_classes=num_classes)
    num_classes = model.num_classes + NUM_NEW
    names = [f"class {index}" for index in range(num_classes)]
    widen(model, label_names=names, label_descriptions={names[-1]: "new"})
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert loaded.num_classes == num_classes
    assert list(loaded.pretrained_cfg["label_names"]) == names
    assert loaded.pretrained_cfg["label_descriptions"] == {names[-1]: "new"}
    assert torch.equal(loaded(make_images()), model(make_images()))
    assert getattr(model, "_model_args", {}).get("num_classes", num_classes) == num_classes


def test_counts_kept_by_modules_on_the_way_follow_and_others_do_not() -> None:
    model = make_model("test_convnext")
    model.head.num_classes = 10  # as RepViT's and iFormer's heads keep it
    model.stem.num_classes = 10
    widen(model)
    assert (model.head.num_classes, model.stem.num_classes) == (len(NAMES) + NUM_NEW, 10)


def test_widened_model_copies_and_pickles() -> None:
    model = make_model()
    widen(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(make_images()), model(make_images()))
        assert other.timm_inject_record == RECORD
        assert find_head(other).num_classes == len(NAMES) + NUM_NEW


def test_wrappers_are_unwrapped_and_still_work() -> None:
    model = make_model()
    compiled = torch.compile(model, backend="eager")
    parallel = nn.DataParallel(model)
    assert unwrap_model(compiled) is unwrap_model(parallel) is unwrap_model(nn.DataParallel(compiled)) is model
    assert unwrap_model(model) is model
    with torch.inference_mode():
        assert compiled(make_images()).shape == (2, 10)
        assert find_head(compiled).name == find_head(parallel).name == "fc"
        assert widen(compiled) is model.fc
        torch.testing.assert_close(compiled(make_images()), model(make_images()))
        widen(parallel)
        assert parallel(make_images()).shape == (2, 10 + 2 * NUM_NEW)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("failing_write", range(8))
def test_failure_at_any_write_leaves_the_model_as_it_was(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], failing_write: int
) -> None:
    model = make_model()
    model._model_args = {"num_classes": 10}  # timm 1.0.31 keeps it by itself, older releases do not
    head, before = find_head(model), snapshot(model)
    writes: list[str] = []
    original = nn.Module.__setattr__

    def failing(module: nn.Module, name: str, value: object) -> None:
        original(module, name, value)  # fails after the write, so this very write has to be undone too
        writes.append(name)
        if len(writes) > failing_write:
            raise error("stop")

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "__setattr__", failing)
        with pytest.raises(error, match="stop"):
            resize_head(model, head, [make_rows(head.leaves[0])], config=CONFIG, record=RECORD)
    assert snapshot(model) == before
    assert len(writes) == failing_write + 1
    widen(model)
    assert model.num_classes == 10 + NUM_NEW


def test_widening_writes_only_what_head_state_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the writes, so that the fault injection above is known to reach them all."""
    model = make_model()
    model._model_args = {"num_classes": 10}
    before, state = snapshot(model), HeadState.capture(model, find_head(model))
    writes: list[str] = []
    original = nn.Module.__setattr__

    def recording(module: nn.Module, name: str, value: object) -> None:
        original(module, name, value)
        writes.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "__setattr__", recording)
        widen(model)
    attributes = ["num_classes", "pretrained_cfg", "default_cfg", "_model_args", "timm_inject_record"]
    assert writes == ["weight", "bias", "out_features", *attributes]
    assert snapshot(model) != before
    state.restore()
    assert snapshot(model) == before


def bad_rows(position: int, value: float, num_new: int = NUM_NEW) -> Callable[[Leaf], Tensor]:
    def make(leaf: Leaf) -> Tensor:
        rows = make_rows(leaf, num_new)
        rows[position, 0] = value
        return rows

    return make


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda leaf: make_rows(leaf)[:, :-1],
            ArgumentValueError,
            "(num_new, 129) for 'fc', the bias as last column; got (3, 128)",
        ),
        (lambda leaf: make_rows(leaf)[0], ArgumentValueError, "got (129,)"),
        (lambda leaf: make_rows(leaf).tolist(), ArgumentTypeError, "must be a float32 tensor a layer, got list"),
        (lambda leaf: make_rows(leaf).int(), ArgumentTypeError, "got a tensor of torch.int32"),
        (bad_rows(1, float("nan")), HeadWeightsError, "NaN or infinity in 1 of 3 rows (positions 1)"),
        (bad_rows(2, 1e6), HeadWeightsError, "is torch.float16, which ends at 6.55e+04: 1 of 3 rows (positions 2)"),
        (bad_rows(0, -1e6), HeadWeightsError, "has values up to 1e+06"),
    ],
)
def test_bad_rows_are_refused_before_any_write(make: Callable[[Leaf], Tensor], error: type[Exception], text: str) -> None:
    model = make_model().half()
    model.fc = nn.Linear(128, 10).half()
    head, before = find_head(model), snapshot(model)
    with pytest.raises(error) as caught:
        resize_head(model, head, [make(head.leaves[0])], config=CONFIG, record=RECORD)
    assert text in str(caught.value)
    assert snapshot(model) == before


def test_a_bias_that_overflows_is_refused() -> None:
    model = make_model().half()
    head = find_head(model)
    rows = make_rows(head.leaves[0])
    rows[1, -1] = 1e6
    with pytest.raises(HeadWeightsError, match=r"1 of 3 rows \(positions 1\) would be infinite"):
        resize_head(model, head, [rows], config=CONFIG, record=RECORD)


def test_a_stale_head_and_a_wrong_count_are_refused() -> None:
    model = make_model()
    head, rows = find_head(model), [make_rows(find_leaf(model))]
    with pytest.raises(ArgumentValueError, match="states num_classes=12, but 10 rows and 3 new ones make 13"):
        resize_head(model, head, rows, config={"num_classes": 12}, record={})
    model.reset_classifier(10)
    with pytest.raises(ArgumentValueError, match="Call find_head"):
        resize_head(model, head, rows, config={}, record={})


def test_new_rows_are_needed_for_every_layer() -> None:
    model = make_model("deit_tiny_distilled_patch16_224")
    head = find_head(model)
    rows = torch.ones(1, 193)
    for new_rows, text in (
        ([rows], r"`new_rows` must be a list of 2, one tensor a layer of the head; got 1 tensors\."),
        (rows, r"`new_rows` must be a list of 2, one tensor a layer of the head; got one tensor\."),
        ([rows, torch.ones(2, 193)], r"`new_rows` must have as many rows for each layer of the head, got \[1, 2\]\."),
    ):
        with pytest.raises(ValueError, match=text):
            resize_head(model, head, new_rows, config={}, record={})
    assert model.num_classes == model.head.out_features == 10


@every_small_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_kept_and_gets_the_float32_rows_rounded(name: str, dtype: torch.dtype) -> None:
    model = make_small_model(name).to(dtype)
    twin = copy.deepcopy(model).float()
    seen = [parameter.detach().clone() for parameter in head_parameters(model)]
    for each in (model, twin):
        add(each)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    for own, other, old in zip(head_parameters(model), head_parameters(twin), seen, strict=True):
        assert torch.equal(own[: len(NAMES)], old)
        assert torch.equal(own, other.to(dtype))


@every_small_kind
def test_flags_formats_and_frozen_parameters_stay(name: str) -> None:
    model = make_small_model(name).to(memory_format=torch.channels_last).train()
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
@every_small_kind
def test_an_accelerators_model_stays_there(name: str, device: str) -> None:
    present = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}[device]
    if not present():
        pytest.skip(f"this machine has no {device} device")
    model, twin = make_small_model(name), make_small_model(name).to(device)
    random_state = torch.get_rng_state(), torch.cuda.get_rng_state() if device == "cuda" else torch.mps.get_rng_state()
    for each in (model, twin):
        add(each, mapper="icis")
    assert {parameter.device.type for parameter in twin.parameters()} == {device}
    for own, other in zip(head_parameters(model), head_parameters(twin), strict=True):
        assert torch.equal(own, other.cpu())
    assert torch.equal(random_state[0], torch.get_rng_state())
    assert torch.equal(random_state[1], torch.cuda.get_rng_state() if device == "cuda" else torch.mps.get_rng_state())


def test_gradients_that_wait_stay_on_every_other_parameter() -> None:
    model = make_small_model()
    model(make_images(64)).sum().backward()
    waiting = {name: parameter.grad for name, parameter in model.named_parameters() if not name.startswith("fc.")}
    add(model)
    for name, parameter in model.named_parameters():
        assert parameter.grad is waiting.get(name), name
    assert all(grad is not None for grad in waiting.values())


def test_a_head_without_bias() -> None:
    for name in ("test_resnet", "dla46_c"):
        model = make_small_model(name)
        layer = model.fc
        model.fc = nn.Linear(96, 10, bias=False) if name == "test_resnet" else nn.Conv2d(layer.in_channels, 10, 1, bias=False)
        old = model.fc.weight.detach().clone()
        add(model)
        assert model.fc.bias is None
        assert torch.equal(model.fc.weight[:10], old)
        assert logits_of(model, make_images(64)).shape == (2, 13)


def test_a_layer_registered_twice_is_one_head() -> None:
    model = make_model()
    model.alias = model.fc
    widen(model)
    assert find_head(model).name == "fc"
    assert model.alias is model.fc
