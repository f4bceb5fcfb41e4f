"""The speed benchmark's measurements as markdown."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.published import FEWEST_EPOCHS
from benchmarks.report import markdown_table
from benchmarks.speed.worker import STAGES

STAGE_COLUMNS = ("import timm", "import timm_inject", "model load", "encoder load", *STAGES, "other")
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
_INJECT_NOTE = (
    "Seconds. 'All' begins before `import timm` and includes the model's load. In 'other names before' the seen classes'"
    " text and the mapper are cached and the new names are not; medians of 3 processes but where nothing is cached. The"
    " embeddings of ImageNet-1k's texts come with the package; the last line is without them, as for a head of a thousand"
    " other classes. Names are read from timm's lists once in a process."
)
_NAMES_NOTE = (
    "With an encoder that takes no time, the seen classes and their mapper cached. Up to 1000 names get estimates and more do "
    "not, so that ten thousand can be the quicker. A further name: beyond those of the first line. Heads: the memory beside the "
    "size of the new head. Text: what the default encoder takes on this machine, computed from 250 classes of ImageNet."
)
_INFERENCE_NOTE = "Batches of 8 images, and of 256 features, run in turn 30 times."


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of a table: what was worked on (case), what did the work (variant), and the figures.

    Seconds and bytes say so at the end of their names. The notes are what a reader must know to read the figures.
    """

    section: str
    case: str
    variant: str
    figures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def machine_line(facts: dict[str, Any]) -> str:
    """The machine in one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads, {facts['memory_bytes'] / 1e9:.0f} GB of "
        f"memory, {facts['gpu'] or 'no GPU'}; "
        f"float32 products of large matrices run at {facts['gemm_gflops']:.0f} GFLOP/s ({facts['cpu_capability']}). "
        f"{facts['system']}, Python {facts['python']}, {versions}. {facts['time']}."
    )


def speed_tables(measurements: Sequence[Measurement]) -> list[str]:
    """One table a section that was measured, with its title and its note."""
    texts = []
    for section, (title, columns, note) in _tables().items():
        lines = [line for line in measurements if line.section == section]
        lines = _join_variants(lines) if section == "fit" else [_with_further_names(line, lines[0]) for line in lines]
        if lines:
            texts.append(f"#### {title}\n\n{markdown_table(columns, lines)}\n\n{note}".strip())
    return texts


def speed_glance(measurements: Sequence[Measurement]) -> str:
    """The figures that a reader of README wants: fits beside the published recipe, and `inject` with all that it loads."""
    rows = []
    for line in _join_variants([line for line in measurements if line.section == "fit"]):
        if "icis-paper fit_seconds" in line.figures:
            times = f"{_times_as_fast(line)} times as fast as the published recipe"
            rows.append([f"fit a head of {line.case}", _seconds(line.figures["icis fit_seconds"]), times])
    for line in measurements:
        if line.section == "inject":
            without_load = f"of that `inject` without the encoder's load: {_without_load(line):.1f} s"
            rows.append([f"`inject` three names, {line.case}", _seconds(_whole(line)), without_load])
    return markdown_table(dict.fromkeys(["work", "time", ""], str), [], rows)


Column = Callable[[Measurement], str]


def _tables() -> dict[str, tuple[str, dict[str, Column], str]]:
    """Section -> title, columns and note."""
    case: Column = operator.attrgetter("case")
    fit = {
        "classes x row width": lambda line: line.case + ("" if line.figures["icis is_real"] else " (made up)"),
        "icis": _figure("icis fit_seconds", _seconds),
        "icis-paper": lambda line: _at_least(line) + _seconds(line.figures["icis-paper fit_seconds"]),
        "times as fast": _times_as_fast,
        "memory, icis": _figure("icis fit_bytes", _gigabytes),
        "memory, icis-paper": _figure("icis-paper fit_bytes", _gigabytes),
        "cosine / found, icis": lambda line: _quality(line, "icis"),
        "cosine / found, icis-paper": lambda line: "" if _at_least(line) else _quality(line, "icis-paper"),
        "Gram matrix (fit takes so many)": lambda line: _beside(line, "bounds gram_seconds", 0),
        "direct solve (fit takes so many)": lambda line: _beside(line, "bounds solve_seconds", 1),
    }
    inject = {
        "in the cache": case,
        **{stage: _figure(f"{stage}_seconds", "{:.2f}".format) for stage in (*STAGE_COLUMNS, "inject")},
        "all": lambda line: f"{_whole(line):.2f}",
        "inject less encoder load": lambda line: f"{_without_load(line):.2f}",
    }
    names = {
        "names": lambda line: f"{int(line.case):,}",
        "inject without the text": _figure("inject_seconds", _seconds),
        "ms a further name": _figure("further_seconds", _milliseconds),
        "memory above the start": _figure("above_bytes", _gigabytes),
        "new head": _figure("head_bytes", _gigabytes),
        "heads": lambda line: f"{line.figures['above_bytes'] / line.figures['head_bytes']:.1f}",
        "text": _figure("text_seconds", _seconds),
    }
    inference = {
        "tf_efficientnet_lite0": case,
        "patched, ms": _figure("patched_seconds", _milliseconds),
        "plain, ms": _figure("plain_seconds", _milliseconds),
        "ratio (middle half)": _ratio,
        "same operations and shapes": lambda line: "yes" if line.figures["same_operations"] else "NO",
    }
    evaluate = {
        "tf_efficientnet_lite0": case,
        "evaluate": _figure("evaluate_seconds", _seconds),
        "bare loop": _figure("bare_seconds", _seconds),
        "ratio (range of 3)": _ratio,
        "evaluate on the folder itself": _figure("folder_seconds", _seconds),
    }
    return {
        "fit": ("Mapper training", fit, _FIT_NOTE),
        "inject": ("`inject`, three new names, a head of 1000 classes, each time in a fresh process", inject, _INJECT_NOTE),
        "names": ("Many names into one head of 1000 classes", names, _NAMES_NOTE),
        "inference": ("The patched model against `create_model(num_classes=n + k)`", inference, _INFERENCE_NOTE),
        "evaluate": ("`evaluate` against a bare loop over the same loader", evaluate, ""),
    }


def _join_variants(lines: Sequence[Measurement]) -> list[Measurement]:
    """One line a case, with the figures of each variant under "variant figure"."""
    cases: dict[str, dict[str, float]] = {}
    for line in lines:
        cases.setdefault(line.case, {}).update({f"{line.variant} {name}": value for name, value in line.figures.items()})
    return [Measurement("fit", case, "", figures) for case, figures in cases.items()]


def _with_further_names(line: Measurement, first: Measurement) -> Measurement:
    """Beyond those of the first line, where lines are counts of names: with the seconds that a further name takes."""
    more = int(line.case) - int(first.case) if line.section == "names" else 0
    seconds = line.figures["inject_seconds"] - first.figures["inject_seconds"] if more else 0.0
    return replace(line, figures=line.figures | {"further_seconds": seconds / more}) if more else line


def _figure(name: str, show: Callable[[float], str]) -> Column:
    """A column of one figure; empty where it was not measured."""
    return lambda line: show(line.figures[name]) if name in line.figures else ""


def _quality(line: Measurement, variant: str) -> str:
    return f"{line.figures[f'{variant} cosine']:.3f} / {100 * line.figures[f'{variant} found']:.1f}"


def _beside(line: Measurement, bound: str, digits: int) -> str:
    return f"{_seconds(line.figures[bound])} ({line.figures['icis fit_seconds'] / line.figures[bound]:.{digits}f})"


def _ratio(line: Measurement) -> str:
    return f"{line.figures['ratio']:.3f} ({line.figures['low']:.3f} to {line.figures['high']:.3f})"


def _at_least(line: Measurement) -> str:
    """Some of the recipe's batches alone say at least how long it takes."""
    return "" if "icis-paper epochs" in line.figures else "at least "


def _times_as_fast(line: Measurement) -> str:
    return f"{_at_least(line)}{line.figures['icis-paper fit_seconds'] / line.figures['icis fit_seconds']:.0f}"


def _whole(line: Measurement) -> float:
    """Seconds of an injection with all that it loads."""
    return sum(line.figures[f"{stage}_seconds"] for stage in STAGE_COLUMNS)


def _without_load(line: Measurement) -> float:
    return line.figures["inject_seconds"] - line.figures["encoder load_seconds"]


def _seconds(value: float) -> str:
    if value < 1:
        return f"{1e3 * value:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _milliseconds(value: float) -> str:
    return f"{1e3 * value:.2f}"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB"
