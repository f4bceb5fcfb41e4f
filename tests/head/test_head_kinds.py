"""One architecture of each kind of classifier, with its real forward pass; `make census` does them all without one."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.helpers import NAMES, NEW, WordEncoder, logits_of, make_images, make_model
from timm_inject import inject, injection_record, remove, save_for_hf
from timm_inject.head import find_head, resize_head
from tools import census

# Architecture -> input size, and the paths of its layers with one row a class.
KINDS: dict[str, tuple[int, list[str]]] = {
    "test_vit": (160, ["head"]),
    "mobilenetv3_small_050": (64, ["classifier"]),  # timm's own Linear
    "dla46_c": (64, ["fc"]),  # 1x1 Conv2d
    "deit_tiny_distilled_patch16_224": (224, ["head", "head_dist"]),
    "swiftformer_xs": (224, ["head", "head_dist"]),
    "levit_128s": (224, ["head.linear", "head_dist.linear"]),  # batch-norm before each
    "shvit_s1": (64, ["head.l"]),  # batch-norm before
    "repvit_m0_9": (64, ["head.head.l", "head.head_dist.l"]),
    "iformer_t": (64, ["head.head.l"]),
    "crossvit_9_240": (240, ["head.0", "head.1"]),  # of different widths
    "cpubone_b0_bfrobust": (64, ["head.classifier.linear"]),
    "caformer_s18": (64, ["head.fc.fc2"]),  # behind another Linear
    "efficientvim_m1": (64, [f"heads.{index}" for index in range(4)]),
    "efficientvim_m1_dist": (64, [f"{heads}.{index}" for heads in ("heads", "heads_dist") for index in range(4)]),
    "volo_d1_224": (224, ["head", "aux_head"]),  # adds half the maximum over patches of the second
}


def layers(found: Any) -> list[nn.Module]:
    """A tuple is a new object each time, what it holds is not."""
    return [part for each in found for part in layers(each)] if isinstance(found, tuple) else [found]


@pytest.mark.parametrize(("name", "size", "paths"), [(name, *rest) for name, rest in KINDS.items()])
def test_each_kind_is_injected_saved_and_loaded_by_plain_timm(name: str, size: int, paths: list[str], tmp_path: Path) -> None:
    model, images = make_model(name), make_images(size)
    head = find_head(model)
    assert [leaf.name for leaf in head.leaves] == paths
    assert head.name == paths[0]
    old = {path: {key: value.clone() for key, value in model.get_submodule(path).state_dict().items()} for path in paths}
    before = logits_of(model, images)
    assert before.std() > 0  # a constant would never move

    returned = inject(model, NEW, encoder=WordEncoder(), mapper="ridge", calibration=None)

    assert layers(returned) == layers(model.get_classifier())
    after = logits_of(model, images)
    assert after.shape == (2, len(NAMES) + len(NEW))
    # The rows are bit-identical (below); a BLAS library may add in another order for another width.
    assert (after[:, : len(NAMES)] - before).abs().max() <= 1e-5 * before.std()
    for path, values in old.items():
        layer = model.get_submodule(path)
        assert all(torch.equal(getattr(layer, key)[: len(NAMES)], value) for key, value in values.items())
        assert layer.weight[len(NAMES) :].flatten(1).norm(dim=1).min() > 0
    save_for_hf(model, tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert repr(loaded) == repr(model)
    assert torch.equal(logits_of(loaded, images), after)
    assert len(injection_record(loaded).classes) == len(NEW)


def test_several_layers_take_a_second_injection_and_give_their_classes_back() -> None:
    model, once = make_model("deit_tiny_distilled_patch16_224"), make_model("deit_tiny_distilled_patch16_224")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inject(model, NEW[:1], encoder=WordEncoder(), mapper="ridge")
    inject(model, NEW[1:], encoder=WordEncoder(), mapper="ridge")
    inject(once, NEW, encoder=WordEncoder(), mapper="ridge")
    assert all(torch.equal(value, once.state_dict()[key]) for key, value in model.state_dict().items())
    remove(model, NEW)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_every_layer_gets_rows_of_its_own() -> None:
    """The two layers of a distilled head were trained apart, so the same name has another row in each."""
    model = make_model("deit_tiny_distilled_patch16_224")
    inject(model, NEW, encoder=WordEncoder(), mapper="ridge")
    assert not torch.allclose(model.head.weight[-3:], model.head_dist.weight[-3:], atol=1e-3)
    alone = make_model("deit_tiny_distilled_patch16_224")
    alone.head_dist.load_state_dict(alone.head.state_dict())
    inject(alone, NEW, encoder=WordEncoder(), mapper="ridge")
    assert torch.equal(alone.head.weight, alone.head_dist.weight)
    assert torch.equal(alone.head.weight, model.head.weight)


def test_a_fused_head_is_found() -> None:
    """RepViT's fuse() folds the batch-norm and the two layers into one Linear."""
    model = make_model("repvit_m0_9")
    before = logits_of(model, make_images(64))
    model.fuse()
    assert [leaf.name for leaf in find_head(model).leaves] == ["head"]
    inject(model, NEW, encoder=WordEncoder(), mapper="ridge")
    after = logits_of(model, make_images(64))
    torch.testing.assert_close(after[:, : len(NAMES)], before, rtol=1e-3, atol=1e-4)  # fusing rounds


def test_a_users_own_sequential_is_widened_at_its_last_layer() -> None:
    model = make_model()
    model.fc = nn.Sequential(nn.Dropout(), nn.Linear(96, 10), nn.ReLU(), nn.Sequential(nn.Linear(10, 10)), nn.Identity())
    returned = inject(model, NEW, encoder=WordEncoder(), mapper="ridge")
    assert returned is model.fc
    assert (model.fc[1].out_features, model.fc[3][0].out_features) == (10, 13)
    assert logits_of(model, make_images(64)).shape == (2, 13)


@pytest.mark.parametrize(("name", "axis"), [("test_convnext", 1), ("dla46_c", 1), ("test_vit", 2)])
def test_dense_logits_without_pooling(name: str, axis: int, tmp_path: Path) -> None:
    """`global_pool=""` gives a logit a class for each place; ConvNeXt then has a 1x1 convolution."""
    model = make_model(name, global_pool="")
    assert isinstance(model.get_classifier(), nn.Linear if name == "test_vit" else nn.Conv2d)
    before = logits_of(model, make_images(160))
    inject(model, NEW, encoder=WordEncoder(), mapper="ridge")
    after = logits_of(model, make_images(160))
    assert before.ndim > 2
    assert before.shape[axis] == len(NAMES)
    assert after.shape[axis] == len(NAMES) + len(NEW)
    assert (after.narrow(axis, 0, len(NAMES)) - before).abs().max() <= 1e-5 * before.std()
    save_for_hf(model, tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, global_pool="").eval()
    assert torch.equal(logits_of(loaded, make_images(160)), after)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_keeps_its_memory_format(memory_format: torch.memory_format) -> None:
    model = make_model("dla46_c").to(memory_format=memory_format)
    before = model.fc.weight.stride()
    assert before == ((256, 1, 256, 256) if memory_format is torch.channels_last else (256, 1, 1, 1))
    inject(model, NEW, encoder=WordEncoder(), mapper="ridge")
    assert model.fc.weight.stride() == before


@pytest.mark.parametrize(("name", "size", "paths"), [(name, *rest) for name, rest in KINDS.items()])
def test_an_architecture_that_timm_does_not_know_is_read_from_its_config(name: str, size: int, paths: list[str]) -> None:
    """As a model of one's own that was derived from it; older releases of timm can't build all on the meta device either."""
    model = make_model(name)
    model.pretrained_cfg = {**model.pretrained_cfg, "architecture": "mine"}
    assert [leaf.name for leaf in find_head(model).leaves] == paths


@pytest.mark.skipif(not census.RESULTS.exists(), reason="`make census` was not run")
def test_the_census_was_taken_and_the_page_shows_it() -> None:
    entries = census.read()
    assert len({entry.name for entry in entries}) == len(entries) > 1000
    assert {entry.result for entry in entries} == {"widened", "refused"}
    assert census.summary(entries) in census.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", ["row", "count", "leaf"])
def test_the_census_can_fail(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    def damaged(model: nn.Module, head: Any, new_rows: Any, **options: Any) -> None:
        resize_head(model, head, new_rows, **options)
        if damage == "row":
            model.head.weight.data[0, 0] += 1
        elif damage == "count":
            model.num_classes += 1
        else:
            model.head_dist = nn.Linear(192, 1000)

    monkeypatch.setattr(census, "resize_head", damaged)
    with pytest.raises(census.CensusError):
        census.examine("deit_tiny_distilled_patch16_224")
