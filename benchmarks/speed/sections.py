"""The sections of the speed benchmark; each gives its measurements one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from benchmarks.slow import FEWEST_EPOCHS
from benchmarks.speed.problems import QuickEncoder
from benchmarks.speed.records import Measurement, measure_apart, time_of
from timm_inject.images import evaluate, folder_dataset
from timm_inject.head import find_head
from timm_inject.inject import inject
from timm_inject.offline import create_packaged_model

__all__ = ["measure_evaluate", "measure_fit", "measure_inference", "measure_inject", "measure_names"]

_MODEL = "tf_efficientnet_lite0"
_OURS, _RECIPE = "icis", "icis-paper"
_BATCH, _TIMED_EPOCHS, _TIMED_CLASSES = 16, 2, 320
_REPEATS = 3
_TEXTS_TIMED = 250
_NEW = ["dahlia", "astronaut", "okapi"]
_OTHERS = (
    ["motorcycle", "quagga", "lighthouse keeper"],
    ["lantern fish", "giraffe", "windsurfer"],
    ["poppy", "harbor seal", "tractor driver"],
)
_IMAGE_BATCH, _PAIRS = 8, 30
_EVALUATE_PAIRS, _CLASSES_WITH_PHOTOS = 3, 16


def measure_fit(heads: Sequence[tuple[int, int]], full_recipe: Sequence[tuple[int, int]]) -> Iterator[Measurement]:
    """Our mapper, the published recipe, and what neither can be faster than.

    Args:
        heads: (classes, row width) of each.
        full_recipe: Those of them on which the recipe runs to its end.
    """
    with tempfile.TemporaryDirectory() as folder:  # keeps the texts' embeddings from one process to the next
        for num_classes, row_dim in heads:
            yield from _measure_head(num_classes, row_dim, is_full=(num_classes, row_dim) in full_recipe, cache=Path(folder))


def _measure_head(num_classes: int, row_dim: int, *, is_full: bool, cache: Path) -> Iterator[Measurement]:
    case, size = f"{num_classes} x {row_dim}", {"num_classes": num_classes, "row_dim": row_dim}
    ours = measure_apart("fit", size | {"mapper": _OURS}, cache=cache)
    rows = ("rows of a trained head",) if ours["is_real"] else ("made-up rows with a trained head's spectrum",)
    yield _measured("fit", case, _OURS, ours, rows)
    if is_full:
        yield _measured("fit", case, _RECIPE, measure_apart("fit", size | {"mapper": _RECIPE}, cache=cache), rows)
    else:
        timed = measure_apart("recipe-batches", size | {"classes": _TIMED_CLASSES, "epochs": _TIMED_EPOCHS}, cache=cache)
        timed["fit_seconds"] = timed["batch_seconds"] * -(-num_classes // _BATCH) * FEWEST_EPOCHS
        note = f"{timed['batches']:.0f} batches timed, times {-(-num_classes // _BATCH) * FEWEST_EPOCHS}"
        yield _measured("fit", case, _RECIPE, timed, (*rows, note))
    yield _measured("fit", case, "bounds", measure_apart("bounds", size, cache=cache))


def measure_inject() -> Iterator[Measurement]:
    """Three names into a head of a thousand, from a fresh process: with nothing cached, other names, the same names.

    Once more with nothing cached as if the package held no embeddings: what a head with other classes than ImageNet-1k's takes.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache, options = Path(folder), {"model": _MODEL, "names": _NEW}
        yield _measured("inject", "nothing cached", "inject", measure_apart("inject", options, cache=cache))
        warm = [measure_apart("inject", options | {"names": others}, cache=cache) for others in _OTHERS]
        middle = {key: median(answer[key] for answer in warm) for key in warm[0]}
        yield _measured("inject", "other names before", "inject", middle)
        yield _measured(
            "inject", "the same names before", "inject", measure_apart("inject", options, cache=cache, repeats=_REPEATS)
        )
    with tempfile.TemporaryDirectory() as folder:
        answer = measure_apart("inject", options | {"shipped": False}, cache=Path(folder))
        yield _measured("inject", "nothing, nor texts in the package", "inject", answer)


def measure_names(counts: Sequence[int]) -> Iterator[Measurement]:
    """Many names into one head: the package's own work, and what the text would take beside it."""
    text = measure_apart("text", {"count": _TEXTS_TIMED})["text_seconds"] / _TEXTS_TIMED
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            answer = measure_apart("names", {"count": count}, cache=Path(folder))
            yield _measured("names", f"{count}", "inject", answer | {"text_seconds": text * count})


def measure_inference() -> Iterator[Measurement]:
    """A patched model against one that timm made with as many classes, in turn, and the operations of both."""
    patched = create_packaged_model(_MODEL)
    inject(patched, _NEW, encoder=QuickEncoder())
    plain = timm.create_model(_MODEL, num_classes=patched.num_classes).eval()
    images = torch.rand(_IMAGE_BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    heads = [find_head(model).leaves[0] for model in (patched, plain)]
    features = torch.rand(256, heads[0].feature_dim, generator=torch.Generator().manual_seed(0))
    for case, one, other, inputs in (
        ("whole model", patched, plain, images),
        ("head alone", heads[0].layer, heads[1].layer, features),
    ):
        figures = _alternate(one, other, inputs)
        same = operations(one, inputs) == operations(other, inputs)
        yield Measurement("inference", case, "patched", figures | {"same_operations": float(same)})


def measure_evaluate(num_photos: int) -> Iterator[Measurement]:
    """`evaluate` on a folder against a bare loop over the same loader, in turn."""
    model = create_packaged_model(_MODEL)
    with tempfile.TemporaryDirectory() as folder:
        _write_photos(Path(folder), num_photos)
        loader = DataLoader(folder_dataset(model, Path(folder)), batch_size=32)
        ours, bare = [], []
        evaluate(model, loader)
        for _ in range(_EVALUATE_PAIRS):
            ours.append(time_of(lambda: evaluate(model, loader)))
            bare.append(time_of(lambda: _bare_loop(model, loader)))
        # What reading the folder's names costs beside a loader that is there.
        whole = time_of(lambda: evaluate(model, folder, batch_size=32))
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    figures = {"evaluate_seconds": median(ours), "bare_seconds": median(bare), "folder_seconds": whole, "ratio": median(ratios)}
    yield Measurement("evaluate", f"{num_photos} photos", "evaluate", figures | {"low": min(ratios), "high": max(ratios)})


def operations(module: nn.Module, inputs: Tensor) -> list[tuple[str, str]]:
    """The operations that a forward pass runs, in order, with the shapes of what they work on."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        module(inputs)
    return [(event.name, str(event.input_shapes)) for event in profiler.events() if event.name.startswith("aten::")]


def _measured(section: str, case: str, variant: str, answer: dict[str, Any], notes: Sequence[str] = ()) -> Measurement:
    return Measurement(section, case, variant, {key: float(value) for key, value in answer.items()}, tuple(notes))


def _alternate(one: nn.Module, other: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Seconds of both, run in turn, and the ratio within each pair: what slows the machine for a while slows both."""
    with torch.inference_mode():
        for module in (one, other, one, other):
            module(inputs)
        pairs = [(time_of(lambda: one(inputs)), time_of(lambda: other(inputs))) for _ in range(_PAIRS)]
    ratios = sorted(first / second for first, second in pairs)
    quarter = len(ratios) // 4
    return {
        "patched_seconds": median(first for first, _ in pairs),
        "plain_seconds": median(second for _, second in pairs),
        "ratio": median(ratios),
        "low": ratios[quarter],
        "high": ratios[-quarter - 1],
    }


def _write_photos(folder: Path, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        place = folder / str(number % _CLASSES_WITH_PHOTOS)
        place.mkdir(exist_ok=True)
        coarse = torch.randint(0, 256, (24, 32, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(coarse).resize((500, 375)).save(place / f"{number}.jpg", quality=90)


def _bare_loop(model: nn.Module, loader: DataLoader[Any]) -> float:
    """What one writes by hand: the accuracy over a loader."""
    hits = total = 0
    with torch.inference_mode():
        for images, target in loader:
            hits += int((model(images).argmax(1) == target).sum())
            total += len(target)
    return hits / total
