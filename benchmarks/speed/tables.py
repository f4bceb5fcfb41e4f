"""The speed benchmark's measurements as markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    "not, so that ten thousand can be the quicker. A further name: beyond those of the line above. Heads: the memory beside the "
    "size of the new head. Text: what the default encoder takes on this machine, computed from 250 classes of ImageNet."
)
_INFERENCE_NOTE = "Batches of 8 images, and of 256 features, run in turn 30 times."


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of a table.

    Attributes:
        section: "fit", "inject", "names", "inference" or "evaluate".
        case: What was worked on.
        variant: What did the work.
        figures: Seconds, bytes, ratios and scores, by name; those that end in `_seconds` or `_bytes` say so.
        notes: What a reader must know to read the figures.
    """

    section: str
    case: str
    variant: str
    figures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Lines = Sequence[Measurement]


def machine_line(facts: dict[str, Any]) -> str:
    """The machine in one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads, {facts['memory_bytes'] / 1e9:.0f} GB of "
        f"memory, {facts['gpu'] or 'no GPU'}; "
        f"float32 products of large matrices run at {facts['gemm_gflops']:.0f} GFLOP/s ({facts['cpu_capability']}). "
        f"{facts['system']}, Python {facts['python']}, {versions}. {facts['time']}."
    )


def speed_tables(measurements: Lines) -> list[str]:
    """One table a section that was measured, with its title and its note."""
    tables: dict[str, tuple[str, Callable[[Lines], str], str]] = {
        "fit": ("Mapper training", _fit_table, _FIT_NOTE),
        "inject": ("`inject`, three new names, a head of 1000 classes, each time in a fresh process", _inject_table, _INJECT_NOTE),
        "names": ("Many names into one head of 1000 classes", _names_table, _NAMES_NOTE),
        "inference": ("The patched model against `create_model(num_classes=n + k)`", _inference_table, _INFERENCE_NOTE),
        "evaluate": ("`evaluate` against a bare loop over the same loader", _evaluate_table, ""),
    }
    texts = []
    for section, (title, make, note) in tables.items():
        lines = [line for line in measurements if line.section == section]
        if lines:
            texts.append(f"#### {title}\n\n{make(lines)}\n\n{note}".strip())
    return texts


def speed_glance(measurements: Lines) -> str:
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
            whole, own = _whole_and_own(line.figures)
            without_load = f"of that `inject` without the encoder's load: {own:.1f} s"
            rows.append([f"`inject` three names, {line.case}", _seconds(whole), without_load])
    return markdown_table(dict.fromkeys(["work", "time", ""], str), [], rows)


def _fit_table(lines: Lines) -> str:
    figures = {(line.case, line.variant): line.figures for line in lines}

    def ours(case: str) -> dict[str, float]:
        return figures[case, "icis"]

    def recipe(case: str) -> dict[str, float]:
        return figures[case, "icis-paper"]

    def beside(case: str, bound: str, digits: int) -> str:
        limit = figures[case, "bounds"][bound]
        return f"{_seconds(limit)} ({ours(case)['fit_seconds'] / limit:.{digits}f})"

    def quality(of: dict[str, float]) -> str:
        return f"{of['cosine']:.3f} / {100 * of['found']:.1f}"

    columns: dict[str, Callable[[str], str]] = {
        "classes x row width": lambda case: f"{case}{'' if ours(case)['is_real'] else ' (made up)'}",
        "icis": lambda case: _seconds(ours(case)["fit_seconds"]),
        "icis-paper": lambda case: _at_least(recipe(case)) + _seconds(recipe(case)["fit_seconds"]),
        "times as fast": lambda case: _times_as_fast(ours(case), recipe(case)),
        "memory, icis": lambda case: _gigabytes(ours(case)["fit_bytes"]),
        "memory, icis-paper": lambda case: "" if _at_least(recipe(case)) else _gigabytes(recipe(case)["fit_bytes"]),
        "cosine / found, icis": lambda case: quality(ours(case)),
        "cosine / found, icis-paper": lambda case: "" if _at_least(recipe(case)) else quality(recipe(case)),
        "Gram matrix (fit takes so many)": lambda case: beside(case, "gram_seconds", 0),
        "direct solve (fit takes so many)": lambda case: beside(case, "solve_seconds", 1),
    }
    return markdown_table(columns, dict.fromkeys(line.case for line in lines))


def _inject_table(lines: Lines) -> str:
    columns: dict[str, Callable[[Measurement], str]] = {"in the cache": lambda line: line.case}
    for stage in (*STAGE_COLUMNS, "inject"):
        columns[stage] = lambda line, stage=stage: f"{line.figures[f'{stage}_seconds']:.2f}"  # type: ignore[misc]
    columns["all"] = lambda line: f"{_whole_and_own(line.figures)[0]:.2f}"
    columns["inject less encoder load"] = lambda line: f"{_whole_and_own(line.figures)[1]:.2f}"
    return markdown_table(columns, lines)


def _names_table(lines: Lines) -> str:
    first, first_count = lines[0].figures["inject_seconds"], int(lines[0].case)

    def further(line: Measurement) -> str:
        more = int(line.case) - first_count
        return f"{1e3 * (line.figures['inject_seconds'] - first) / more:.2f}" if more else ""

    columns: dict[str, Callable[[Measurement], str]] = {
        "names": lambda line: f"{int(line.case):,}",
        "inject without the text": lambda line: _seconds(line.figures["inject_seconds"]),
        "ms a further name": further,
        "memory above the start": lambda line: _gigabytes(line.figures["above_bytes"]),
        "new head": lambda line: _gigabytes(line.figures["head_bytes"]),
        "heads": lambda line: f"{line.figures['above_bytes'] / line.figures['head_bytes']:.1f}",
        "text": lambda line: _seconds(line.figures["text_seconds"]),
    }
    return markdown_table(columns, lines)


def _inference_table(lines: Lines) -> str:
    columns: dict[str, Callable[[Measurement], str]] = {
        "tf_efficientnet_lite0": lambda line: line.case,
        "patched, ms": lambda line: f"{1e3 * line.figures['patched_seconds']:.2f}",
        "plain, ms": lambda line: f"{1e3 * line.figures['plain_seconds']:.2f}",
        "ratio (middle half)": _ratio,
        "same operations and shapes": lambda line: "yes" if line.figures["same_operations"] else "NO",
    }
    return markdown_table(columns, lines)


def _evaluate_table(lines: Lines) -> str:
    columns: dict[str, Callable[[Measurement], str]] = {
        "tf_efficientnet_lite0": lambda line: line.case,
        "evaluate": lambda line: _seconds(line.figures["evaluate_seconds"]),
        "bare loop": lambda line: _seconds(line.figures["bare_seconds"]),
        "ratio (range of 3)": _ratio,
        "evaluate on the folder itself": lambda line: _seconds(line.figures["folder_seconds"]),
    }
    return markdown_table(columns, lines)


def _ratio(line: Measurement) -> str:
    return f"{line.figures['ratio']:.3f} ({line.figures['low']:.3f} to {line.figures['high']:.3f})"


def _at_least(recipe: dict[str, float]) -> str:
    """Some of the recipe's batches alone say at least how long it takes."""
    return "" if "epochs" in recipe else "at least "


def _times_as_fast(ours: dict[str, float], recipe: dict[str, float]) -> str:
    return f"{_at_least(recipe)}{recipe['fit_seconds'] / ours['fit_seconds']:.0f}"


def _whole_and_own(figures: dict[str, float]) -> tuple[float, float]:
    """Seconds of an injection with all that it loads, and of `inject` without the encoder's load."""
    whole = sum(figures[f"{stage}_seconds"] for stage in STAGE_COLUMNS)
    return whole, figures["inject_seconds"] - figures["encoder load_seconds"]


def _seconds(value: float) -> str:
    if value < 1:
        return f"{1e3 * value:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB"
