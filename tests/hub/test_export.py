"""What people do with a model next: the exported widened model gives the eager one's logits, new classes included."""

import importlib.util
import logging
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import NAMES, NEW, SMALL_KINDS, WordEncoder, logits_of, make_images, make_model
from timm_inject import inject
from timm_inject.head import find_head

# One Linear; a 1x1 convolution; two Linears, averaged.
ARCHITECTURES = {"test_vit": 160, "dla46_c": 64, "deit_tiny_distilled_patch16_224": 224}
needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed",
)


def injected(name: str) -> nn.Module:
    model = make_model(name, **SMALL_KINDS.get(name, {}))
    inject(model, NEW, encoder=WordEncoder(), mapper="ridge")
    return model


def check(exported: Tensor, model: nn.Module, images: Tensor) -> None:
    """Compare on the scale of the logits; other kernels may round in another order."""
    eager = logits_of(model, images)
    assert exported.shape == eager.shape == (2, len(NAMES) + len(NEW))
    assert (exported - eager).abs().max() <= 1e-4 * eager.std()
    assert eager[:, -1].abs().max() > 0


@pytest.mark.parametrize(("name", "size"), ARCHITECTURES.items())
def test_torch_export(name: str, size: int) -> None:
    model, images = injected(name), make_images(size)
    check(torch.export.export(model, (images,)).module()(images).detach(), model, images)


@pytest.mark.parametrize(("name", "size"), ARCHITECTURES.items())
@pytest.mark.filterwarnings("ignore")  # torch deprecates tracing; users still have it
def test_torchscript_trace(name: str, size: int, tmp_path: Path) -> None:
    model, images = injected(name), make_images(size)
    torch.jit.trace(model, images).save(str(tmp_path / "model.pt"))
    check(torch.jit.load(str(tmp_path / "model.pt"))(images).detach(), model, images)


@needs_onnx
@pytest.mark.parametrize(("name", "size"), ARCHITECTURES.items())
def test_onnx(name: str, size: int, tmp_path: Path) -> None:
    import onnxruntime

    model, images = injected(name), make_images(size)
    path = str(tmp_path / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (images,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    check(torch.from_numpy(logits), model, images)


def test_a_model_compiled_before_follows(caplog: pytest.LogCaptureFixture) -> None:
    """The patched parameters are new objects, so torch compiles again by itself."""
    model, images = make_model("test_vit"), make_images(160)
    compiled = torch.compile(model, backend="aot_eager")
    with torch.inference_mode():
        before = compiled(images)
        head = inject(compiled, NEW, encoder=WordEncoder(), mapper="ridge")
        after = compiled(images)
    assert head is model.get_classifier()
    assert (after[:, : len(NAMES)] - before).abs().max() <= 1e-5 * before.std()
    check(after, model, images)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), ARCHITECTURES.items())
def test_torch_compile_with_inductor(name: str, size: int) -> None:
    model, images = make_model(name, **SMALL_KINDS.get(name, {})), make_images(size)
    compiled = torch.compile(model)
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)
    with torch.inference_mode():
        try:
            compiled(images)
        except Exception as error:  # noqa: BLE001  torch wraps a missing compiler in several ways
            pytest.skip(f"torch.compile does not run here: {str(error)[:100]}")
        inject(compiled, NEW, encoder=WordEncoder(), mapper="ridge")
        check(compiled(images), model, images)
        check(torch.compile(model)(images), model, images)
    assert find_head(compiled).num_classes == len(NAMES) + len(NEW)
