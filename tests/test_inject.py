"""The one-line call and the invariants that it promises."""

import copy
import random
import sys
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.data import ImageNetInfo
from torch import nn

from tests.helpers import (
    NAMES,
    NEW,
    WordEncoder,
    add,
    bits_of,
    make_model,
    needs_offline,
    snapshot,
)
from timm_inject import (
    ArgumentTypeError,
    ArgumentValueError,
    ClassNameError,
    EncoderError,
    HeadWeightsError,
    InjectionWarning,
    MapperError,
    UnknownSeenClassesError,
    UnsupportedHeadError,
    inject,
    injection_record,
)
from timm_inject.calibration.rows import CalibratedRows
from timm_inject.mappers.registry import MAPPERS

SLOW = "icis-paper"


def test_returns_the_widened_head_in_place(small_model, encoder):
    head = inject(small_model, NEW, encoder=encoder)
    assert head is small_model.get_classifier()
    assert type(head) is torch.nn.Linear
    assert head.out_features == small_model.num_classes == len(NAMES) + len(NEW)
    assert small_model(torch.zeros(1, 3, 64, 64)).shape == (1, len(NAMES) + len(NEW))


def test_seen_rows_keep_their_bits_and_new_ones_follow_in_order(small_model, encoder):
    before = bits_of(small_model)
    inject(small_model, NEW, encoder=encoder)
    for key, value in small_model.state_dict().items():
        kept = value[: len(NAMES)] if key.startswith("fc.") else value
        assert torch.equal(kept, before[key]), key
    assert [entry.name for entry in injection_record(small_model).classes] == NEW
    assert small_model.pretrained_cfg["label_names"] == [*NAMES, *NEW]


def test_state_dict_loads_into_a_plain_timm_model(small_model, encoder):
    inject(small_model, NEW, encoder=encoder)
    plain = timm.create_model("resnet10t", num_classes=len(NAMES) + len(NEW)).eval()
    plain.load_state_dict(small_model.state_dict(), strict=True)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(plain(images), small_model(images))


@pytest.mark.parametrize("mapper", [name for name in MAPPERS if name != SLOW])
def test_same_seed_same_bits_and_the_global_state_is_left_alone(small_model, mapper, monkeypatch):
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    twin = copy.deepcopy(small_model)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    inject(small_model, NEW, encoder=WordEncoder(), mapper=mapper, seed=3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    torch.manual_seed(2)
    inject(twin, NEW, encoder=WordEncoder(), mapper=mapper, seed=3)
    assert torch.equal(small_model.fc.weight, twin.fc.weight)
    assert torch.equal(small_model.fc.bias, twin.fc.bias)
    assert torch.isfinite(small_model.fc.weight).all()


def test_the_cache_changes_no_bit(small_model, own_cache):
    twin = copy.deepcopy(small_model)
    inject(small_model, NEW, encoder=WordEncoder())
    assert list(own_cache.rglob("*.safetensors"))
    inject(twin, NEW, encoder=WordEncoder())
    assert torch.equal(small_model.fc.weight, twin.fc.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_dtype_flags_and_memory_format_are_kept(small_model, encoder, dtype, training):
    small_model.to(dtype=dtype, memory_format=torch.channels_last).train(training)
    small_model.requires_grad_(False)
    small_model.layer1.eval()
    flags = [module.training for module in small_model.modules()]
    head = inject(small_model, NEW, encoder=encoder)
    assert head.weight.dtype == head.bias.dtype == dtype
    assert not head.weight.requires_grad
    assert flags == [module.training for module in small_model.modules()]
    assert small_model.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_surroundings_do_not_change_the_rows(small_model, monkeypatch, surrounding):
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    twin = copy.deepcopy(small_model)
    inject(small_model, NEW, encoder=WordEncoder())
    with surrounding():
        inject(twin, NEW, encoder=WordEncoder())
    assert torch.equal(small_model.fc.weight, twin.fc.weight)
    twin.fc.weight.sum().backward()


def test_default_dtype_does_not_change_the_rows(small_model, monkeypatch):
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    twin = copy.deepcopy(small_model)
    inject(small_model, NEW, encoder=WordEncoder())
    torch.set_default_dtype(torch.float64)
    try:
        inject(twin, NEW, encoder=WordEncoder())
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.allclose(small_model.fc.weight, twin.fc.weight, atol=1e-4)
    assert twin.fc.weight.dtype == torch.float32


def test_inject_reads_no_image(small_model, encoder, monkeypatch):
    def refuse(*_, **__):
        pytest.fail("an image was opened or the model was run")

    monkeypatch.setattr("PIL.Image.open", refuse)
    small_model.register_forward_pre_hook(refuse)
    inject(small_model, NEW, encoder=encoder)


def test_a_second_injection_learns_from_the_trained_rows_alone(small_model):
    """The mapper, raw, gives a name the same row whether it comes first or second."""
    twin = copy.deepcopy(small_model)
    inject(small_model, NEW[:2], encoder=WordEncoder(), calibration=None)
    inject(small_model, NEW[2:], encoder=WordEncoder(), calibration=None)
    inject(twin, NEW, encoder=WordEncoder(), calibration=None)
    assert torch.allclose(small_model.fc.weight, twin.fc.weight, atol=1e-5)
    assert injection_record(small_model).num_seen == len(NAMES)
    assert [entry.index for entry in injection_record(small_model).classes] == [10, 11, 12]
    with pytest.raises(ClassNameError, match="'Okapi' is already"):
        inject(small_model, ["Okapi"], encoder=WordEncoder())


def test_progress_is_reported(small_model, encoder):
    steps = []
    inject(small_model, NEW, encoder=encoder, progress=lambda *step: steps.append(step))
    assert {step for step, _, _ in steps} == {
        "Encode the texts",
        "Try the mapper on hidden classes",
    }
    assert all(0 < done <= total for _, done, total in steps)


def _headless(model):
    model.reset_classifier(0)
    return model


def _nan_row(model):
    with torch.no_grad():
        model.fc.weight[3, 0] = float("nan")
    return model


def _zero_rows(model):
    torch.nn.init.zeros_(model.fc.weight)
    return model


def _nameless(model):
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": None, "tag": "mine"}
    return model


class _NanEncoder(WordEncoder):
    def encode(self, sentences):
        return super().encode(sentences) * float("nan")


BAD = [
    ("zebra", {}, None, ArgumentTypeError, "`unseen_class_names` must be a list of names, got the string 'zebra'."),
    ([], {}, None, ArgumentValueError, "`unseen_class_names` is empty."),
    (["okapi", 3], {}, None, ArgumentTypeError, "3"),
    (["okapi", " "], {}, None, ClassNameError, "empty"),
    (["okapi", "Okapi"], {}, None, ClassNameError, "given twice"),
    (["School_Bus"], {}, None, ClassNameError, "already"),
    (NEW, {"mapper": "isis"}, None, MapperError, "There is no mapper 'isis'. Did you mean 'icis'?"),
    (NEW, {"mapper": 3}, None, ArgumentTypeError, "`mapper` must be a name from the registry, got int."),
    (
        NEW,
        {"calibration": "best"},
        None,
        ArgumentValueError,
        "`calibration` must be one of 'balanced', 'harmonic', 'keep-seen', None, or the largest share of the seen classes' images "
        "that may move to new classes, a number between 0 and 1, got 'best'.",
    ),
    (NEW, {"calibration": 1.0}, None, ArgumentValueError, "a number between 0 and 1, got 1.0."),
    (NEW, {"calibration": 0}, None, ArgumentValueError, "a number between 0 and 1, got 0."),
    (NEW, {"calibration": True}, None, ArgumentValueError, "a number between 0 and 1, got True."),
    (NEW, {"calibration": float("nan")}, None, ArgumentValueError, "a number between 0 and 1, got nan."),
    (NEW, {"calibration": ["harmonic"]}, None, ArgumentValueError, "a number between 0 and 1, got ['harmonic']."),
    (NEW, {"seed": "0"}, None, ArgumentTypeError, "`seed` must be an int, got str."),
    (NEW, {"seed": 2**70}, None, ArgumentValueError, "`seed` must be between"),
    (NEW, {"seen_class_names": ["a", "b"]}, None, UnknownSeenClassesError, "10"),
    (NEW, {"seen_class_names": "imagenet-1x"}, None, UnknownSeenClassesError, "imagenet-1k"),
    (NEW, {"encoder": _NanEncoder()}, None, EncoderError, "returned NaN or infinite vectors"),
    (NEW, {"encoder": object()}, None, ArgumentTypeError, "`encoder` must be"),
    (NEW, {}, _headless, UnsupportedHeadError, "no classifier"),
    (NEW, {}, _nan_row, HeadWeightsError, "NaN"),
    (NEW, {}, _zero_rows, HeadWeightsError, "zero"),
    (NEW, {}, _nameless, UnknownSeenClassesError, "Pass `seen_class_names`"),
]


@pytest.mark.parametrize(("names", "options", "damage", "error", "message"), BAD)
def test_bad_input_is_told_before_anything_changes(small_model, names, options, damage, error, message):
    if damage:
        damage(small_model)
    before = snapshot(small_model)
    with pytest.raises(error) as caught:
        inject(small_model, names, **{"encoder": WordEncoder(), **options})
    assert message in str(caught.value)
    assert snapshot(small_model) == before


STEPS = {
    "find_head": "problem",
    "read_rows": "problem",
    "resolve_class_texts": "problem",
    "fit_and_crossfit": "problem",
    "encode_descriptors": "inject",
    "calibrate_rows": "inject",
    "resize_head": "inject",
}


@pytest.mark.parametrize(("step", "module"), STEPS.items())
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_at_any_step_leaves_the_model_as_it_was(small_model, monkeypatch, step, module, error):
    before = snapshot(small_model)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules[f"timm_inject.{module}"], step, fail)
    with pytest.raises(error):
        inject(small_model, NEW, encoder=WordEncoder())
    assert snapshot(small_model) == before


def test_ctrl_c_in_training_leaves_the_model_as_it_was(small_model):
    before = snapshot(small_model)

    def interrupt(step, done, total):
        if step == "Train the mapper" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inject(small_model, NEW, encoder=WordEncoder(), mapper="icis-networks", progress=interrupt)
    assert snapshot(small_model) == before


@needs_offline
def test_real_weights_and_real_text(packaged_model):
    """A dahlia is nearer to a daisy than to any vehicle, on real rows from real text."""
    before = packaged_model.classifier.weight.detach().clone()
    head = inject(packaged_model, ["dahlia"])
    assert head.out_features == 1001
    assert torch.equal(head.weight[:1000], before)
    rows = head.weight.detach() - before.mean(0)
    similarity = torch.nn.functional.cosine_similarity(rows[1000], rows[:1000], dim=1)
    assert 985 in similarity.topk(5).indices.tolist()  # 985 is daisy
    (entry,) = injection_record(packaged_model).classes
    assert (entry.synset, entry.description_source, entry.mapper) == ("n11960245", "lexicon", "icis")
    score = injection_record(packaged_model).self_score
    assert set(score) >= {"zsl_accuracy", "seen_accuracy", "seen_accuracy_before", "unseen_accuracy", "moved_share"}
    assert all(0 <= value <= 1 for value in score.values())


def test_another_sense_of_an_injected_name_can_be_added(small_model):
    inject(small_model, {"crane": "n03126707", "galaxy": "a huge system of stars"}, encoder=WordEncoder(), mapper="ridge")
    with pytest.raises(ClassNameError, match=r"'crane \(machine\)' is already injected class 10"):
        inject(small_model, ["crane (machine)"], encoder=WordEncoder(), mapper="ridge")
    inject(small_model, ["crane (bird)", "galaxy (herb)"], encoder=WordEncoder(), mapper="ridge")
    synsets = {entry.name: entry.synset for entry in injection_record(small_model).classes}
    assert synsets == {"crane": "n03126707", "galaxy": None, "crane (bird)": "n02012849", "galaxy (herb)": "n12251278"}
    with pytest.raises(ClassNameError, match="'Cranes' is already injected class 10"):
        inject(small_model, ["Cranes"], encoder=WordEncoder(), mapper="ridge")


@pytest.mark.parametrize("num_classes", [2, 3, 10, 50])
@pytest.mark.parametrize("mapper", ["icis", "ridge"])
def test_a_head_of_few_classes_works_and_warns(num_classes: int, mapper: str) -> None:
    words = [
        f"{one} {two}" for one in ("red", "green", "tall", "tiny", "old", "wild") for two in ("fox", "bus", "cup", "owl", "oak")
    ]
    words += [f"{one} {two}" for one in ("wet", "dry", "new", "big") for two in ("fox", "bus", "cup", "owl", "oak")]
    model = make_model(num_classes=num_classes)
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
        assert record.classes[0].calibration == "balanced"
        assert all(f"harmonic mean of {record.self_score['harmonic_mean']:.0%} (self-score)" in text for text in few)
    assert torch.equal(model.fc.weight[:num_classes], seen)
    assert model.fc.weight.isfinite().all()
    assert model.num_classes == num_classes + len(NEW)


def test_a_background_class_at_index_0_is_one_of_the_names() -> None:
    """TF models in the original layout have 1001 outputs, the first for background."""
    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(index) for index in range(1000)]
    model = make_model(num_classes=1001)
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
    model = make_model(num_classes=LABEL_SETS[tag])
    model.pretrained_cfg = timm.get_pretrained_cfg(tag).to_dict()
    assert model.pretrained_cfg["num_classes"] == LABEL_SETS[tag]
    return model


@pytest.mark.parametrize("tag", LABEL_SETS)
def test_heads_of_larger_label_sets_know_their_names(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(_: Any, new_rows: torch.Tensor, *__: Any, **___: Any) -> CalibratedRows:
        return CalibratedRows(new_rows, {})

    # Both take most of a minute on so many classes; the slow test below runs them on the smallest of these heads.
    monkeypatch.setattr(sys.modules[inject.__module__], "calibrate_rows", keep)
    monkeypatch.setattr(sys.modules[inject.__module__], "MIN_CLASSES", 10**6)  # no estimate
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


def test_names_with_two_senses_and_names_of_one_sense_are_told(small_model):
    with pytest.warns(InjectionWarning) as caught:
        inject(small_model, ["mouse", "sofa", "couch"], encoder=WordEncoder(), mapper="ridge")
    messages = [str(entry.message) for entry in caught if entry.category is InjectionWarning]
    assert any("1 of 3 names have two likely senses: 'mouse' is taken as animal/mammal" in text for text in messages)
    assert any("New classes mean the same and will share their images: 'sofa' and 'couch'." in text for text in messages)
