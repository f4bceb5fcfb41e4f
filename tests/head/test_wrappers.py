"""Models inside other modules, and copies of them: compiled, parallel, averaged, with adapters."""

import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.helpers import NAMES, NEW, add, logits_of, make_images, make_model, make_small_model, snapshot
from timm_inject import (
    ArgumentTypeError,
    InjectionWarning,
    UnsupportedHeadError,
    WeakClassWarning,
    injection_record,
    save_for_hf,
)
from timm_inject.head import unwrap_model


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("wrapper", [nn.DataParallel, ModelEmaV2, ModelEmaV3, AveragedModel, compiled])
def test_wrappers_are_looked_through_and_still_work(wrapper: Any) -> None:
    plain, wrapped = make_small_model(), wrapper(make_small_model())
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
    model = make_small_model()
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
    model = make_small_model()
    fsdp.fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (1,)))
    with pytest.raises(UnsupportedHeadError, match=r"whose weight is a torch\.distributed\.tensor\.DTensor of torch\.float32"):
        add(model)


def test_a_model_compiled_in_place_follows() -> None:
    model = make_small_model()
    model.compile(backend="eager")
    before = logits_of(model, make_images(64))
    add(model)
    after = logits_of(model, make_images(64))
    assert after.shape == (2, len(NAMES) + len(NEW))
    torch.testing.assert_close(after[:, : len(NAMES)], before, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("process_group")
def test_a_warning_made_an_error_changes_nothing() -> None:
    model = make_small_model()
    parallel = nn.parallel.DistributedDataParallel(model)
    before = snapshot(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InjectionWarning):
            add(parallel)
    assert snapshot(model) == before


@pytest.mark.parametrize("make_ema", [ModelEmaV2, ModelEmaV3])
def test_an_ema_copy_is_injected_by_its_own_and_follows_again(make_ema: Any) -> None:
    model = make_small_model()
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
    ema = ModelEma(make_small_model())  # no module, and so no wrapper to look through
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
    assert " tensors are not those of timm's 'test_vit': 'blocks.0.attn.qkv.bas" in text
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
