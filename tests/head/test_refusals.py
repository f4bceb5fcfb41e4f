"""Heads that cannot be widened, and what a user is told to do instead."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from tests.helpers import NEW, WordEncoder, make_images, make_model
from timm_inject import inject
from timm_inject.errors import ArgumentTypeError, HeadWeightsError, UnsupportedHeadError
from timm_inject.head import Head, Leaf, check_not_projection, find_head


class CosineLinear(nn.Linear):
    """Stands for any subclass: quantised, LoRA, cosine."""


class Wrapper(nn.Module):
    """Stands for an EMA or training wrapper that is not unwrapped."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def with_fc(layer: nn.Module) -> nn.Module:
    model = make_model()
    model.fc = layer
    return model


def detached_classifier() -> nn.Module:
    model, layer = make_model(), nn.Linear(4, 10)
    vars(model)["get_classifier"] = lambda: layer
    return model


def tied() -> nn.Module:
    model = make_model()
    model.aux = nn.Linear(model.num_features, 10)
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
            "'test_resnet' has a classifier of type tests.head.test_refusals.CosineLinear; a plain nn.Linear or 1x1 nn.Conv2d with "
            "one row a class is expected, alone, ",
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
    model = make_model()
    model.fc.weight = nn.Parameter(torch.ones(12, 128))
    with pytest.raises(UnsupportedHeadError, match=r"weight has shape \(12, 128\) where the layer declares \(10,"):
        find_head(model)


def test_meta_weights_are_refused() -> None:
    with pytest.raises(HeadWeightsError, match="is on the meta device, so it has no values"):
        find_head(on_meta("test_resnet"))


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


def test_a_clip_projection_is_refused_unless_its_outputs_are_named() -> None:
    model = timm.create_model("vit_xsmall_patch16_clip_224")
    assert model.num_classes == 512
    with pytest.raises(UnsupportedHeadError) as error:
        inject(model, NEW, encoder=WordEncoder())
    assert str(error.value) == (
        "The layer 'head' of 'vit_xsmall_patch16_clip_224.tinyclip_yfcc15m' is no classifier: its 512 outputs are the dimensions "
        "of an image embedding, as contrastive training (CLIP, SigLIP, PE) leaves them. Load a tag with a trained head, such as "
        "timm.create_model('vit_base_patch16_224.augreg_in1k', pretrained=True). If its outputs are classes, because you trained "
        "it on some, pass `seen_class_names` (512 names in logit order)."
    )
    names = [f"class {index}" for index in range(512)]
    inject(model, NEW, seen_class_names=names, encoder=WordEncoder(), mapper="mean-row", calibration=None)
    assert model.num_classes == 515


def test_every_projection_tag_of_timm_is_told_from_a_classifier() -> None:
    """113 tags of timm 1.0.31 state an embedding's width as their class count."""
    refused = []
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name)
        if not config.num_classes:
            continue
        model = nn.Module()
        model.pretrained_cfg = config
        head = Head((Leaf("head", nn.Linear(1, config.num_classes)),), None)
        try:
            check_not_projection(model, head)
        except UnsupportedHeadError:
            refused.append(name)
    marks = ("clip", "siglip", "_pe_", "vitamin", "_mci", "pe_core", "pe_spatial", "pe_lang")
    assert [name for name in refused if not any(mark in name for mark in marks)] == []
    if timm.__version__ == "1.0.31":
        assert len(refused) == 113


class LoraLinear(nn.Module):
    """Stands for peft.tuners.lora.layer.Linear, which keeps the layer it adapts inside."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base


LoraLinear.__module__ = "peft.tuners.lora.layer"


def test_a_peft_layer_is_refused() -> None:
    model = make_model()
    model.fc = LoraLinear(model.fc)
    with pytest.raises(UnsupportedHeadError) as error:
        find_head(model)
    assert str(error.value) == (
        "The classifier of 'test_resnet' is wrapped by PEFT (peft.tuners.lora.layer.LoraLinear), so its weight is the sum of "
        "several. Merge the adapters first, model = peft_model.merge_and_unload(), and inject into the result."
    )


def test_an_encoder_alone_is_refused() -> None:
    with torch.device("meta"):
        model = timm.create_model("qwen3_vit_88m_enc")
    with pytest.raises(UnsupportedHeadError, match=r"has no get_classifier\(\).* It gives features, not classes\. Load a tag"):
        find_head(model)


def test_a_second_layer_on_the_meta_device_is_refused() -> None:
    model = make_model("deit_tiny_distilled_patch16_224")
    model.head_dist = model.head_dist.to("meta")
    with pytest.raises(HeadWeightsError, match="'head_dist' whose weight is on the meta device"):
        find_head(model)
