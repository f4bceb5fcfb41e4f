"""The benchmark `speed`: run the sections, keep the measurements, write the tables."""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from benchmarks import BenchmarkDataError
from benchmarks.published import FEWEST_EPOCHS
from benchmarks.session import command_line, print_note, publish
from benchmarks.speed.problems import QuickEncoder
from benchmarks.speed.tables import Measurement, machine_line, speed_glance, speed_tables
from benchmarks.speed.worker import best_gemm_rate, measure_apart, time_of
from timm_inject.errors import ArgumentValueError
from timm_inject.head import find_head
from timm_inject.images import evaluate, folder_dataset
from timm_inject.inject import inject
from timm_inject.offline import create_packaged_model

_SECTIONS = ("fit", "inject", "names", "inference", "evaluate")
_HEADS = ["73x2049", "1000x1281", "1000x2049", "11821x1025", "21843x1281"]
_MODEL = "tf_efficientnet_lite0"
_BATCH, _TIMED_EPOCHS, _TIMED_CLASSES = 16, 2, 320
_REPEATS = 3
_TEXTS_TIMED = 250
_NEW = ["dahlia", "astronaut", "okapi"]
_OTHERS = (["motorcycle", "quagga", "lighthouse keeper"], ["lantern fish", "giraffe", "windsurfer"], ["poppy", "tractor", "seal"])
_IMAGE_BATCH, _PAIRS = 8, 30
_EVALUATE_PAIRS, _CLASSES_WITH_PHOTOS = 3, 16


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `speed`."""
    option = command.add_argument
    text = f"of {', '.join(_SECTIONS)}"
    option("--sections", nargs="+", choices=_SECTIONS, default=list(_SECTIONS), metavar="SECTION", help=text)
    option("--heads", nargs="+", default=_HEADS, metavar="NxM", help="for fit: classes x row width (with the bias)")
    text = "for fit: the heads that the published recipe is run on to its end; on the others some of its batches are timed"
    option("--full-recipe", nargs="*", default=_HEADS[:1], metavar="NxM", help=text)
    option("--counts", nargs="+", type=int, default=[1_000, 10_000, 100_000], metavar="N", help="for names")
    option("--photos", type=int, default=256, metavar="N", help="for evaluate: how many are made up")


def run(options: argparse.Namespace) -> None:
    """Measure the sections that are asked for; those that an earlier run left in the output folder stay in the tables."""
    heads, full_recipe = ([_read_size(text) for text in texts] for texts in (options.heads, options.full_recipe))
    if min([*options.counts, options.photos]) < 1:
        raise ArgumentValueError("`--counts` and `--photos` must be at least 1.")
    path: Path = options.output / "speed.json"
    kept = [line for line in read_results(path) if line.section not in options.sections]
    lines, facts = list(kept), _machine_facts()
    sections: dict[str, Callable[[], Iterator[Measurement]]] = {
        "fit": lambda: _measure_fit(heads, full_recipe),
        "inject": _measure_inject,
        "names": lambda: _measure_names(options.counts),
        "inference": _measure_inference,
        "evaluate": lambda: _measure_evaluate(options.photos),
    }
    for name in options.sections:
        for line in sections[name]():
            lines.append(line)
            figures = ", ".join(f"{key} {value:.4g}" for key, value in line.figures.items() if key.endswith(("seconds", "ratio")))
            print_note(options, f"{name}, {line.case}, {line.variant}: {figures}")
        document = write_results(path, facts, lines)
    if kept:  # what stayed was measured by the command without this option
        options.sections = options.get_default("sections")
    ending = [machine_line(facts), f"Made by `{command_line(options)}`."]
    report = "\n\n".join([*speed_tables(lines), *ending])
    (options.output / "report.md").write_text(report + "\n", encoding="utf-8")
    publish(options, report, "\n\n".join([speed_glance(lines), *ending]), document)


def read_results(path: Path) -> list[Measurement]:
    """Measurements of an earlier run; none where there was none."""
    if not path.is_file():
        return []
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["measurements"]
        return [Measurement(**{**line, "notes": tuple(line["notes"])}) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkDataError(f"'{path}' is no result of this benchmark ({error}). Remove it to measure again.") from error


def write_results(path: Path, facts: dict[str, Any], measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Write all measurements, with the machine's facts; give what was written."""
    document = {"machine": facts, "measurements": [asdict(line) for line in measurements]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def _read_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or int(found[1]) < 10 or int(found[2]) < 2:
        raise ArgumentValueError(f"A head is written classes x row width, such as 1000x1281, at least 10x2; got {text!r}.")
    return int(found[1]), int(found[2])


def _machine_facts() -> dict[str, Any]:
    """The machine and the versions that figures depend on."""
    import psutil

    packages = ("timm_inject", "torch", "timm", "sentence-transformers", "transformers", "numpy")
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", cpuinfo.read_text(errors="replace"), re.MULTILINE) if cpuinfo.is_file() else []
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gemm_gflops": best_gemm_rate() / 1e9,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _measure_fit(heads: Sequence[tuple[int, int]], full_recipe: Sequence[tuple[int, int]]) -> Iterator[Measurement]:
    """Our mapper, the published recipe, and what neither can be faster than."""
    with tempfile.TemporaryDirectory() as folder:  # keeps the texts' embeddings from one process to the next
        apart = partial(measure_apart, cache=Path(folder))
        for size in heads:
            case, options = "{} x {}".format(*size), {"num_classes": size[0], "row_dim": size[1]}
            ours = apart("fit", options | {"mapper": "icis"})
            rows = ["rows of a trained head" if ours["is_real"] else "made-up rows with a trained head's spectrum"]
            yield Measurement("fit", case, "icis", ours, tuple(rows))
            if size in full_recipe:
                recipe = apart("fit", options | {"mapper": "icis-paper"})
            else:
                recipe = apart("recipe_batches", options | {"classes": _TIMED_CLASSES, "epochs": _TIMED_EPOCHS})
                times = -(-size[0] // _BATCH) * FEWEST_EPOCHS
                recipe["fit_seconds"] = recipe["batch_seconds"] * times
                rows.append(f"{recipe['batches']:.0f} batches timed, times {times}")
            yield Measurement("fit", case, "icis-paper", recipe, tuple(rows))
            yield Measurement("fit", case, "bounds", apart("bounds", options))


def _measure_inject() -> Iterator[Measurement]:
    """Three names into a head of a thousand, from a fresh process: with nothing cached, other names, the same names.

    Once more with nothing cached as if the package held no embeddings: what a head with other classes than ImageNet-1k's takes.
    """
    options: dict[str, Any] = {"model": _MODEL, "names": _NEW}
    with tempfile.TemporaryDirectory() as folder:
        apart = partial(measure_apart, "inject", cache=Path(folder))
        yield Measurement("inject", "nothing cached", "inject", apart(options))
        warm = [apart(options | {"names": others}) for others in _OTHERS]
        yield Measurement("inject", "other names before", "inject", {key: median(each[key] for each in warm) for key in warm[0]})
        yield Measurement("inject", "the same names before", "inject", apart(options, repeats=_REPEATS))
    bare = measure_apart("inject", options | {"shipped": False})
    yield Measurement("inject", "nothing, nor texts in the package", "inject", bare)


def _measure_names(counts: Sequence[int]) -> Iterator[Measurement]:
    """Many names into one head: the package's own work, and what the text would take beside it."""
    text = measure_apart("text", {"count": _TEXTS_TIMED})["text_seconds"] / _TEXTS_TIMED
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            answer = measure_apart("names", {"count": count}, cache=Path(folder))
            yield Measurement("names", f"{count}", "inject", answer | {"text_seconds": text * count})


def _measure_inference() -> Iterator[Measurement]:
    """A patched model against one that timm made with as many classes, in turn, and the operations of both."""
    patched = create_packaged_model(_MODEL)
    inject(patched, _NEW, encoder=QuickEncoder())
    plain = timm.create_model(_MODEL, num_classes=patched.num_classes).eval()
    images = torch.rand(_IMAGE_BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    ours, other = (find_head(model).leaves[0] for model in (patched, plain))
    features = torch.rand(256, ours.feature_dim, generator=torch.Generator().manual_seed(0))
    whole: tuple[nn.Module, nn.Module, Tensor] = (patched, plain, images)
    for case, (one, two, inputs) in {"whole model": whole, "head alone": (ours.layer, other.layer, features)}.items():
        same = operations(one, inputs) == operations(two, inputs)
        with torch.inference_mode():
            figures = _alternate({"patched_seconds": partial(one, inputs), "plain_seconds": partial(two, inputs)}, _PAIRS)
        yield Measurement("inference", case, "patched", figures | {"same_operations": float(same)})


def _measure_evaluate(num_photos: int) -> Iterator[Measurement]:
    """`evaluate` on a folder against a bare loop over the same loader, in turn."""
    model = create_packaged_model(_MODEL)
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_photos):
            place = Path(folder) / str(number % _CLASSES_WITH_PHOTOS)
            place.mkdir(exist_ok=True)
            coarse = torch.randint(0, 256, (24, 32, 3), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(coarse).resize((500, 375)).save(place / f"{number}.jpg", quality=90)
        loader = DataLoader(folder_dataset(model, Path(folder)), batch_size=32)
        ours, bare = partial(evaluate, model, loader), partial(_bare_loop, model, loader)
        figures = _alternate({"evaluate_seconds": ours, "bare_seconds": bare}, _EVALUATE_PAIRS)
        # What reading the folder's names costs beside a loader that is there.
        figures["folder_seconds"] = time_of(lambda: evaluate(model, folder, batch_size=32))
    yield Measurement("evaluate", f"{num_photos} photos", "evaluate", figures)


def operations(module: nn.Module, inputs: Tensor) -> list[tuple[str, str]]:
    """The operations that a forward pass runs, in order, with the shapes of what they work on."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        module(inputs)
    return [(event.name, str(event.input_shapes)) for event in profiler.events() if event.name.startswith("aten::")]


def _alternate(works: dict[str, Callable[[], Any]], num_pairs: int) -> dict[str, float]:
    """Seconds of two works that run in turn, and the ratio within each pair: what slows the machine for a while slows both.

    `low` and `high` bound the middle half of the ratios, or all where there are fewer than four.
    """
    for work in works.values():
        work()
    pairs = [[time_of(work) for work in works.values()] for _ in range(num_pairs)]
    ratios = sorted(first / second for first, second in pairs)
    quarter = len(ratios) // 4
    figures = {name: median(times) for name, times in zip(works, zip(*pairs, strict=True), strict=True)}
    return figures | {"ratio": median(ratios), "low": ratios[quarter], "high": ratios[-quarter - 1]}


def _bare_loop(model: nn.Module, loader: DataLoader[Any]) -> float:
    """What one writes by hand: the accuracy over a loader."""
    hits = total = 0
    with torch.inference_mode():
        for images, target in loader:
            hits += int((model(images).argmax(1) == target).sum())
            total += len(target)
    return hits / total
