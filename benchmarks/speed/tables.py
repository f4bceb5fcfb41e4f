"""The speed benchmark's measurements as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report import markdown_table
from benchmarks.slow import FEWEST_EPOCHS
from benchmarks.speed.records import Measurement
from benchmarks.speed.worker import STAGES

__all__ = ["machine_line", "speed_glance", "speed_tables"]

_STAGE_COLUMNS = ("import timm", "import timm_inject", "model load", "encoder load", *STAGES, "other")


def machine_line(facts: dict[str, Any]) -> str:
    """The machine in one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    gpu = f", {facts['gpu']}" if facts["gpu"] else ", no GPU"
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads, {facts['memory_bytes'] / 1e9:.0f} GB of "
        f"memory{gpu}; "
        f"float32 products of large matrices run at {facts['gemm_gflops']:.0f} GFLOP/s ({facts['cpu_capability']}). "
        f"{facts['system']}, Python {facts['python']}, {versions}. {facts['time']}."
    )


def speed_tables(measurements: Sequence[Measurement]) -> list[str]:
    """One table a section that was measured, with its title and its notes."""
    tables = {
        "fit": ("Mapper training", _fit_table),
        "inject": ("`inject`, three new names, a head of 1000 classes, each time in a fresh process", _inject_table),
        "names": ("Many names into one head of 1000 classes", _names_table),
        "inference": ("The patched model against `create_model(num_classes=n + k)`", _inference_table),
        "evaluate": ("`evaluate` against a bare loop over the same loader", _evaluate_table),
    }
    texts = []
    for section, (title, make) in tables.items():
        lines = [line for line in measurements if line.section == section]
        if lines:
            texts.append(f"#### {title}\n\n{make(lines)}")
    return texts


def speed_glance(measurements: Sequence[Measurement]) -> str:
    """The figures that a reader of README wants: fits beside the published recipe, and `inject` with all that it loads."""
    fits = {(line.case, line.variant): line.figures for line in measurements if line.section == "fit"}
    rows = []
    for (case, variant), figures in fits.items():
        recipe = fits.get((case, "icis-paper"))
        if variant == "icis" and recipe is not None:
            times = f"{_times_as_fast(figures, recipe)} times as fast as the published recipe"
            rows.append([f"fit a head of {case}", _seconds(figures["fit_seconds"]), times])
    for line in measurements:
        if line.section == "inject":
            whole, own = _whole_and_own(line)
            without_load = f"of that `inject` without the encoder's load: {own:.1f} s"
            rows.append([f"`inject` three names, {line.case}", _seconds(whole), without_load])
    return markdown_table(["work", "time", ""], rows)


def _fit_table(lines: Sequence[Measurement]) -> str:
    rows = []
    for case in dict.fromkeys(line.case for line in lines):
        of = {line.variant: line for line in lines if line.case == case}
        ours, recipe, bounds = of["icis"].figures, of["icis-paper"].figures, of["bounds"].figures
        is_whole = "epochs" in recipe
        rows.append(
            [
                f"{case}{'' if ours['is_real'] else ' (made up)'}",
                _seconds(ours["fit_seconds"]),
                f"{'' if is_whole else 'at least '}{_seconds(recipe['fit_seconds'])}",
                _times_as_fast(ours, recipe),
                _gigabytes(ours["fit_bytes"]),
                _gigabytes(recipe["fit_bytes"]) if is_whole else "",
                f"{ours['cosine']:.3f} / {100 * ours['found']:.1f}",
                f"{recipe['cosine']:.3f} / {100 * recipe['found']:.1f}" if is_whole else "",
                f"{_seconds(bounds['gram_seconds'])} ({ours['fit_seconds'] / bounds['gram_seconds']:.0f})",
                f"{_seconds(bounds['solve_seconds'])} ({ours['fit_seconds'] / bounds['solve_seconds']:.1f})",
            ]
        )
    header = [
        "classes x row width",
        "icis",
        "icis-paper",
        "times as fast",
        "memory, icis",
        "memory, icis-paper",
        "cosine / found, icis",
        "cosine / found, icis-paper",
        "Gram matrix (fit takes so many)",
        "direct solve (fit takes so many)",
    ]
    return f"{markdown_table(header, rows)}\n\n{_FIT_NOTE}"


_FIT_NOTE = (
    "One fit on all classes but the hidden ones; quick ones are medians of up to 5. `icis-paper` runs at its own "
    f"settings; where it says 'at least', some of its batches were timed and multiplied by those of {FEWEST_EPOCHS} "
    "epochs, the fewest that its stopping rule allows. Memory: the most above what the process held before. Cosine: of "
    "the predicted with the true row of hidden classes, about the mean row. Found: share of the hidden rows that lie "
    "nearest to the row predicted for their own class, percent. Made up: random rows with the spectrum of EfficientNet-"
    "Lite0's head, a part of which follows from the text; above 1000 classes a quick stand-in embeds the text. Gram "
    "matrix: inner products of all descriptors and one pass over them. Direct solve: the arithmetic of a Cholesky "
    "decomposition over all classes and of its solutions for all columns, at the speed of matrix products; a fit that "
    "is faster does not solve the system whole."
)


def _inject_table(lines: Sequence[Measurement]) -> str:
    header = ["in the cache", *_STAGE_COLUMNS, "inject", "all", "inject less encoder load"]
    rows = []
    for line in lines:
        stages = [line.figures[f"{stage}_seconds"] for stage in _STAGE_COLUMNS]
        shown = [*stages, line.figures["inject_seconds"], *_whole_and_own(line)]
        rows.append([line.case, *(f"{value:.2f}" for value in shown)])
    return f"{markdown_table(header, rows)}\n\n{_INJECT_NOTE}"


_INJECT_NOTE = (
    "Seconds. 'All' begins before `import timm` and includes the model's load. In 'other names before' the seen classes'"
    " text and the mapper are cached and the new names are not; medians of 3 processes but where nothing is cached. The"
    " embeddings of ImageNet-1k's texts come with the package; the last line is without them, as for a head of a thousand"
    " other classes. Names are read from timm's lists once in a process."
)


def _names_table(lines: Sequence[Measurement]) -> str:
    first = lines[0].figures
    rows = []
    for line in lines:
        figures, count = line.figures, int(line.case)
        rows.append(
            [
                f"{count:,}",
                _seconds(figures["inject_seconds"]),
                f"{1e3 * (figures['inject_seconds'] - first['inject_seconds']) / (count - int(lines[0].case)):.2f}"
                if count != int(lines[0].case)
                else "",
                _gigabytes(figures["above_bytes"]),
                _gigabytes(figures["head_bytes"]),
                f"{figures['above_bytes'] / figures['head_bytes']:.1f}",
                _seconds(figures["text_seconds"]),
            ]
        )
    header = ["names", "inject without the text", "ms a further name", "memory above the start", "new head", "heads", "text"]
    return (
        f"{markdown_table(header, rows)}\n\nWith an encoder that takes no time, the seen classes and their mapper cached. Up to "
        "1000 names get estimates and more do not, so that ten thousand can be the quicker. A further name: beyond those of the "
        "line above. Heads: the memory beside the size of the new head. Text: what the default encoder takes on this machine, "
        "computed from 250 classes of ImageNet."
    )


def _inference_table(lines: Sequence[Measurement]) -> str:
    rows = [
        [
            line.case,
            f"{1e3 * line.figures['patched_seconds']:.2f}",
            f"{1e3 * line.figures['plain_seconds']:.2f}",
            f"{line.figures['ratio']:.3f} ({line.figures['low']:.3f} to {line.figures['high']:.3f})",
            "yes" if line.figures["same_operations"] else "NO",
        ]
        for line in lines
    ]
    header = ["tf_efficientnet_lite0", "patched, ms", "plain, ms", "ratio (middle half)", "same operations and shapes"]
    return f"{markdown_table(header, rows)}\n\nBatches of 8 images, and of 256 features, run in turn 30 times."


def _evaluate_table(lines: Sequence[Measurement]) -> str:
    rows = [
        [
            line.case,
            _seconds(line.figures["evaluate_seconds"]),
            _seconds(line.figures["bare_seconds"]),
            f"{line.figures['ratio']:.3f} ({line.figures['low']:.3f} to {line.figures['high']:.3f})",
            _seconds(line.figures["folder_seconds"]),
        ]
        for line in lines
    ]
    header = ["tf_efficientnet_lite0", "evaluate", "bare loop", "ratio (range of 3)", "evaluate on the folder itself"]
    return markdown_table(header, rows)


def _times_as_fast(ours: dict[str, float], recipe: dict[str, float]) -> str:
    """How many times as long the recipe takes; some of its batches alone say at least how many."""
    return f"{'' if 'epochs' in recipe else 'at least '}{recipe['fit_seconds'] / ours['fit_seconds']:.0f}"


def _whole_and_own(line: Measurement) -> tuple[float, float]:
    """Seconds of an injection with all that it loads, and of `inject` without the encoder's load."""
    whole = sum(line.figures[f"{stage}_seconds"] for stage in _STAGE_COLUMNS)
    return whole, line.figures["inject_seconds"] - line.figures["encoder load_seconds"]


def _seconds(value: float) -> str:
    if value < 1:
        return f"{1e3 * value:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB"
