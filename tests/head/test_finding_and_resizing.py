"""The host model's final layer: found, read, widened, and left alone when anything goes wrong."""

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
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from tests.helpers import make_images, snapshot
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, HeadWeightsError, UnsupportedHeadError
from timm_inject.head import HeadState, Leaf, find_head, read_rows, resize_head, unwrap_model

HEAD_PATHS = {
    "resnet18": "fc",
    "vit_tiny_patch16_224": "head",
    "convnext_atto": "head.fc",
    "tf_efficientnet_lite0": "classifier",
    "mobilenetv3_small_050": "classifier",
    "densenet121": "classifier",
    "efficientvit_b0": "head.classifier.4",
}
NUM_NEW = 3
CONFIG = {"label_names": ["a", "b"], "label_descriptions": {"a": "the first", "b": "the second"}}
RECORD = {"unseen": ["okapi"], "seed": 0}


def find_layer(model: nn.Module) -> object:
    return model.get_classifier() if hasattr(model, "get_classifier") else None


def make_model(name: str = "test_resnet", **kwargs: Any) -> nn.Module:
    """A real architecture with random weights that do not depend on the test order."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, **kwargs)
        if isinstance(layer := find_layer(model), nn.Linear):  # some architectures start with zeros
            nn.init.normal_(layer.weight, std=0.05)
    return model.eval()


def find_leaf(model: nn.Module) -> Leaf:
    (leaf,) = find_head(model).leaves
    return leaf


def make_rows(leaf: Leaf, num_new: int = NUM_NEW) -> Tensor:
    return torch.randn(num_new, leaf.row_dim, generator=torch.Generator().manual_seed(1))


def widen(model: nn.Module, num_new: int = NUM_NEW, **config: Any) -> Any:
    head = find_head(model)
    rows = [make_rows(leaf, num_new) for leaf in head.leaves]
    return resize_head(model, head, rows, config=config or CONFIG, record=RECORD)


# --- finding and reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "path"), HEAD_PATHS.items())
def test_find_head_gives_the_layer_of_get_classifier_and_its_path(name: str, path: str) -> None:
    model = make_model(name)
    head, leaf = find_head(model), find_leaf(model)
    assert leaf.layer is head.module is model.get_classifier()
    assert (head.name, leaf.name, head.num_classes, leaf.num_classes, leaf.has_bias) == (path, path, 1000, 1000, True)
    assert leaf.row_dim == leaf.feature_dim + 1 == model.get_classifier().in_features + 1


@pytest.mark.parametrize("classifier", [None, "fc", "no.such.layer", "layer1"])
def test_find_head_trusts_get_classifier_over_the_config(classifier: str | None) -> None:
    model = make_model()
    model.pretrained_cfg = {**model.pretrained_cfg, "classifier": classifier}
    assert find_head(model).name == "fc"


@pytest.mark.parametrize("config", [None, {}, PretrainedCfg(classifier="fc")], ids=["None", "empty", "PretrainedCfg"])
def test_find_head_takes_any_kind_of_config(config: object) -> None:
    model = make_model()
    model.pretrained_cfg = config
    assert find_head(model).name == "fc"
    del model.pretrained_cfg
    assert find_head(model).name == "fc"


def test_read_rows_is_a_float32_copy_with_the_bias_as_last_column() -> None:
    leaf = find_leaf(make_model().double())
    rows = read_rows(leaf)
    assert (rows.shape, rows.dtype, rows.requires_grad) == ((1000, leaf.feature_dim + 1), torch.float32, False)
    assert torch.equal(rows[:, -1], leaf.layer.bias.float())
    assert torch.equal(rows[:, :-1], leaf.layer.weight.float())


def test_read_rows_without_bias_is_a_copy_of_the_weight() -> None:
    model = make_model()
    model.fc = nn.Linear(model.num_features, 1000, bias=False)
    leaf = find_leaf(model)
    rows = read_rows(leaf)
    assert leaf.row_dim == leaf.feature_dim
    assert torch.equal(rows, leaf.layer.weight)
    rows.zero_()
    assert leaf.layer.weight.any()


def set_rows(start: int, stop: int, value: float) -> Callable[[nn.Linear], None]:
    def change(layer: nn.Linear) -> None:
        layer.weight.data[start:stop] = value

    return change


def zero_all(layer: nn.Linear) -> None:
    layer.weight.data.zero_()
    layer.bias.data.zero_()


def repeat_first(layer: nn.Linear) -> None:
    layer.weight.data[:] = layer.weight.data[0]
    layer.bias.data[:] = -7.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            set_rows(2, 9, float("nan")),
            "The classifier 'fc' has NaN or infinity in 7 of 1000 rows (positions 2, 3, 4, 5, 6 and 2 more). "
            "Load trained weights first (`pretrained=True`, or load_state_dict).",
        ),
        (set_rows(5, 6, float("inf")), "has NaN or infinity in 1 of 1000 rows (positions 5)."),
        (zero_all, "The classifier 'fc' is untrained: all 1000 rows are the same (zero). Load trained weights"),
        (repeat_first, "The classifier 'fc' is untrained: all 1000 rows are the same. Load trained weights"),
        (set_rows(3, 5, 0.0), "all zero, as untrained classes have, in 2 of 1000 rows (positions 3, 4). Load"),
    ],
    ids=["nan", "inf", "zero", "identical", "some-zero"],
)
def test_read_rows_refuses_what_no_training_leaves(change: Callable[[nn.Linear], None], text: str) -> None:
    leaf = find_leaf(make_model())
    change(leaf.layer)
    with pytest.raises(HeadWeightsError) as error:
        read_rows(leaf)
    assert text in str(error.value)


def test_read_rows_refuses_a_single_class() -> None:
    with pytest.raises(HeadWeightsError, match="has 1 class; at least 2 are needed"):
        read_rows(find_leaf(make_model(num_classes=1)))


# --- widening: the invariants ----------------------------------------------------------------------------------------


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
    assert head.num_classes == layer.out_features == model.num_classes == 1000 + NUM_NEW
    assert torch.equal(layer.weight[:1000], weight)
    assert torch.equal(layer.bias[:1000], bias)
    assert torch.equal(torch.cat([layer.weight, layer.bias[:, None]], dim=1)[1000:], rows)
    plain = timm.create_model(name, num_classes=1000 + NUM_NEW)
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
        plain = timm.create_model(name, num_classes=1000 + NUM_NEW).eval()
        plain.load_state_dict(model.state_dict())
        # The weights are bit-identical (tested above). A BLAS library may sum in another order for another width, most
        # often for a batch of one, so the logits may differ in the last bit, as between any two layers of those widths.
        torch.testing.assert_close(after[:, :1000], before, rtol=1e-5, atol=1e-5)
        assert torch.equal(after, plain(images))
    assert after.shape == (2, 1000 + NUM_NEW)


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
    assert once.num_classes == twice.num_classes == 1005


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_rows_are_cast_to_the_heads_dtype(dtype: torch.dtype, bias: bool) -> None:
    model = make_model(num_classes=10)
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
    assert layer.weight.grad.shape == (1000 + NUM_NEW, layer.in_features)


def test_config_is_replaced_not_changed() -> None:
    model = make_model()
    shared, before = model.pretrained_cfg, copy.deepcopy(model.pretrained_cfg)
    updates = copy.deepcopy(CONFIG)
    widen(model, **updates)
    assert shared == before
    assert model.pretrained_cfg == {**before, **CONFIG, "num_classes": 1000 + NUM_NEW}
    assert model.default_cfg is model.pretrained_cfg
    assert model.timm_inject_record == RECORD
    assert model.timm_inject_record is not RECORD
    updates["label_names"].append("c")
    assert model.pretrained_cfg["label_names"] == ["a", "b"]


def test_config_object_keeps_its_type_and_a_missing_one_is_made() -> None:
    model = make_model()
    old = model.pretrained_cfg = PretrainedCfg(classifier="fc")
    widen(model)
    assert isinstance(model.pretrained_cfg, PretrainedCfg)
    assert (model.pretrained_cfg.num_classes, old.num_classes) == (1000 + NUM_NEW, 1000)
    model = make_model()
    del model.pretrained_cfg, model.default_cfg
    widen(model)
    assert model.pretrained_cfg == {**CONFIG, "num_classes": 1000 + NUM_NEW}
    assert not hasattr(model, "default_cfg")


@pytest.mark.parametrize("kwargs", [{}, {"num_classes": 10}], ids=["default", "num_classes-given"])
def test_saved_by_timm_it_loads_by_timm(tmp_path: Path, kwargs: dict[str, int]) -> None:
    model = make_model(**kwargs)
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
    model.head.num_classes = 1000  # as RepViT's and iFormer's heads keep it
    model.stem.num_classes = 1000
    widen(model)
    assert (model.head.num_classes, model.stem.num_classes) == (1000 + NUM_NEW, 1000)


def test_widened_model_copies_and_pickles() -> None:
    model = make_model()
    widen(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(make_images()), model(make_images()))
        assert other.timm_inject_record == RECORD
        assert find_head(other).num_classes == 1000 + NUM_NEW


# --- wrappers --------------------------------------------------------------------------------------------------------


def test_wrappers_are_unwrapped_and_still_work() -> None:
    model = make_model(num_classes=10)
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


# --- all or nothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("failing_write", range(8))
def test_failure_at_any_write_leaves_the_model_as_it_was(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], failing_write: int
) -> None:
    model = make_model(num_classes=10)
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
    model = make_model(num_classes=10)
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
    model = make_model(num_classes=10).half()
    model.fc = nn.Linear(128, 10).half()
    head, before = find_head(model), snapshot(model)
    with pytest.raises(error) as caught:
        resize_head(model, head, [make(head.leaves[0])], config=CONFIG, record=RECORD)
    assert text in str(caught.value)
    assert snapshot(model) == before


def test_a_bias_that_overflows_is_refused() -> None:
    model = make_model(num_classes=10).half()
    head = find_head(model)
    rows = make_rows(head.leaves[0])
    rows[1, -1] = 1e6
    with pytest.raises(HeadWeightsError, match=r"1 of 3 rows \(positions 1\) would be infinite"):
        resize_head(model, head, [rows], config=CONFIG, record=RECORD)


def test_a_stale_head_and_a_wrong_count_are_refused() -> None:
    model = make_model(num_classes=10)
    head, rows = find_head(model), [make_rows(find_leaf(model))]
    with pytest.raises(ArgumentValueError, match="states num_classes=12, but 10 rows and 3 new ones make 13"):
        resize_head(model, head, rows, config={"num_classes": 12}, record={})
    model.reset_classifier(10)
    with pytest.raises(ArgumentValueError, match="Call find_head"):
        resize_head(model, head, rows, config={}, record={})


# --- refusals --------------------------------------------------------------------------------------------------------


class CosineLinear(nn.Linear):
    """Stands for any subclass: quantised, LoRA, cosine."""


class Wrapper(nn.Module):
    """Stands for an EMA or training wrapper that is not unwrapped."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def with_fc(layer: nn.Module) -> nn.Module:
    model = make_model(num_classes=10)
    model.fc = layer
    return model


def detached_classifier() -> nn.Module:
    model, layer = make_model(), nn.Linear(4, 1000)
    vars(model)["get_classifier"] = lambda: layer
    return model


def tied() -> nn.Module:
    model = make_model()
    model.aux = nn.Linear(model.num_features, 1000)
    model.aux.weight = model.fc.weight
    return model


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: make_model(num_classes=0),
            "'test_resnet' has no classifier (`num_classes=0`); inject needs trained rows to learn from. "
            "Load a tag with a trained head, such as timm.create_model('test_resnet.r160_in1k', pretrained=True), "
            "leaving out `num_classes=0` and `features_only`.",
        ),
        (
            lambda: on_meta("vit_base_patch14_dinov2"),
            "'vit_base_patch14_dinov2' has no classifier (`num_classes=0`); inject needs trained rows to learn from. "
            "Load a tag with a trained head, such as timm.create_model('vit_base_patch16_224.augreg_in1k', "
            "pretrained=True).",
        ),
        (lambda: make_model("sequencer2d_s", num_classes=0), "has no classifier (`num_classes=0`)"),
        (lambda: make_model(features_only=True), "(timm.models._features.FeatureListNet) has no get_classifier()"),
        (lambda: Wrapper(make_model()), "It wraps a model that does: pass `model.module`."),
        (lambda: nn.Linear(2, 2), "'Linear' (nn.Linear) has no get_classifier()"),
        (lambda: torch.jit.trace(make_model(), make_images()), "scripted or traced ResNet"),
        (lambda: with_fc(nn.Conv2d(128, 10, 3)), "of type nn.Conv2d; a plain nn.Linear or 1x1 nn.Conv2d"),
        (
            lambda: with_fc(CosineLinear(128, 10)),
            "'test_resnet' has a classifier of type tests.head.test_finding_and_resizing.CosineLinear; a plain nn.Linear or 1x1 nn.Conv2d with one row "
            "a class is expected, alone, last in an nn.Sequential, or inside one of timm's own heads. Load a model with such a "
            "layer, for example timm.create_model('vit_base_patch16_224.augreg_in1k', pretrained=True).",
        ),
        (lambda: with_fc(nn.Sequential(nn.Linear(128, 10), nn.BatchNorm1d(10))), "of type nn.Sequential; a plain nn.Linear"),
        (
            lambda: with_fc(torch.ao.nn.quantized.dynamic.Linear(128, 10)),
            "The classifier of 'test_resnet' is quantised (torch.ao.nn.quantized.dynamic.modules.linear.Linear), so its rows are "
            "no floating-point numbers. Inject into the model before it is quantised, then quantise the result.",
        ),
        (lambda: with_fc(parametrizations.weight_norm(nn.Linear(128, 10))), "is parametrised (weight), so its weight"),
        (lambda: with_fc(spectral_norm(nn.Linear(128, 10))), "is parametrised (weight_orig), so its weight"),
        (
            lambda: with_fc(prune.random_unstructured(nn.Linear(128, 10), "weight", 0.5)),
            "is parametrised (weight_orig), so its weight is computed and can't be widened. Make it a plain weight first with "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight'), or, for the older functions, "
            "remove_weight_norm, remove_spectral_norm or prune.remove.",
        ),
        (lambda: with_fc(weight_norm(nn.Linear(128, 10))), "is parametrised (weight_g, weight_v), so its weight"),
        (
            lambda: with_fc(nn.Linear(128, 7)),
            "'test_resnet' states num_classes=10, but its classifier 'fc' has 7 outputs. If you replaced the layer by "
            "hand, set `model.num_classes = 7`; if its outputs are not classes (a projection), load a tag",
        ),
        (tied, "The classifier 'fc' of 'test_resnet' shares its parameters with 'aux.weight' (tied weights)"),
        (lambda: with_fc(nn.Linear(128, 10).to(torch.complex64)), "is a nn.Parameter of torch.complex64"),
        (detached_classifier, "get_classifier() of 'test_resnet' returns a layer that is not one of the model's"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch deprecates weight_norm, quantisation and tracing; users still have them
def test_unsupported_heads_are_refused_with_the_fix(make: Callable[[], nn.Module], text: str) -> None:
    with pytest.raises(UnsupportedHeadError) as error:
        find_head(make())
    assert text in str(error.value)


def test_a_weight_replaced_without_its_layer_is_refused() -> None:
    model = make_model(num_classes=10)
    model.fc.weight = nn.Parameter(torch.ones(12, 128))
    with pytest.raises(UnsupportedHeadError, match=r"weight has shape \(12, 128\) where the layer declares \(10,"):
        find_head(model)


def test_meta_weights_are_refused() -> None:
    with pytest.raises(HeadWeightsError, match="is on the meta device, so it has no values"):
        find_head(on_meta("test_resnet"))


def test_a_layer_registered_twice_is_one_head() -> None:
    model = make_model()
    model.alias = model.fc
    widen(model)
    assert find_head(model).name == "fc"
    assert model.alias is model.fc


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("resnet50", "got the name 'resnet50'. Write timm.create_model('resnet50', pretrained=True)."),
        (3, "`model` must be a timm model (a torch.nn.Module), got int. Create one with timm.create_model("),
    ],
)
def test_what_is_no_model_is_a_type_error(model: Any, text: str) -> None:
    with pytest.raises(ArgumentTypeError) as error:
        find_head(model)
    assert text in str(error.value)


def test_the_tag_named_in_the_texts_exists() -> None:
    assert "vit_base_patch16_224.augreg_in1k" in timm.list_pretrained()
