"""Which layers are the classifier."""

import pytest
import timm
import torch
from timm.models import PretrainedCfg
from torch import nn

from tests.helpers import HEAD_PATHS, find_leaf, make_model
from timm_inject.head import find_head
from tools import census


@pytest.mark.parametrize(("name", "path"), HEAD_PATHS.items())
def test_find_head_gives_the_layer_of_get_classifier_and_its_path(name: str, path: str) -> None:
    model = make_model(name)
    head, leaf = find_head(model), find_leaf(model)
    assert leaf.layer is head.module is model.get_classifier()
    assert (head.name, leaf.name, head.num_classes, leaf.num_classes, leaf.has_bias) == (path, path, 10, 10, True)
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


@pytest.mark.parametrize("name", ["levit_384_s8", "levit_conv_384_s8"])
def test_a_layer_that_the_config_omits_is_found(name: str) -> None:
    assert timm.create_model(name, num_classes=2).pretrained_cfg["classifier"] == "head.linear"
    assert census.examine(name).leaves == "head.linear:768 head_dist.linear:768"


def test_an_auxiliary_layer_is_found_only_where_the_model_has_it() -> None:
    with torch.device("meta"):
        model = timm.create_model("volo_d1_224", num_classes=10, use_aux_head=False)
    model.head = nn.Linear(384, 10)
    assert [leaf.name for leaf in find_head(model).leaves] == ["head"]


def test_a_hidden_layer_as_wide_as_the_classes_is_no_leaf() -> None:
    """caformer's first Linear has 2048 outputs; so may its second."""
    model = make_model("caformer_s18", num_classes=2048)
    assert model.head.fc.fc1.out_features == model.head.fc.fc2.out_features == 2048
    assert [leaf.name for leaf in find_head(model).leaves] == ["head.fc.fc2"]
    model.pretrained_cfg = {**model.pretrained_cfg, "architecture": "mine"}  # timm can't be asked, the config still says it
    assert [leaf.name for leaf in find_head(model).leaves] == ["head.fc.fc2"]
