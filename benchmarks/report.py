"""Results as markdown and JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ablation import ABLATION_STEPS
from benchmarks.errors import BenchmarkDataError
from benchmarks.parts import PARTS_STEPS
from benchmarks.published import ABLATION_CUB, LATER_METHOD, PublishedScores, SEEN_CLASS_CURVE_CUB, TABLE, TRANSFER_ICIS
from benchmarks.results import Result, Setting, summarize
from benchmarks.slow import FEWEST_EPOCHS
from timm_inject.errors import ArgumentValueError

__all__ = [
    "ablation_table",
    "curve_table",
    "descriptors_table",
    "glance_table",
    "group_results",
    "heldout_tables",
    "image_links",
    "main_table",
    "markdown_table",
    "parts_table",
    "replace_blocks",
    "self_score_points",
    "speed_note",
    "summary_records",
    "table_of_test_classes",
    "transfer_table",
]

_SCORE_COLUMNS = {
    "T1": "zsl_accuracy",
    "u": "unseen_accuracy",
    "s": "seen_accuracy",
    "H": "harmonic_mean",
    "area": "area",
    "best H": "best_harmonic_mean",
}
_DEFAULT = "icis"
# What a reader in a hurry compares the default with: all that came near it or above it in some benchmark, calibrated as it is,
# and the published recipe as published.
_GLANCE = dict.fromkeys((_DEFAULT, "kernel-ridge", "ridge", "smo", "wavg"), "harmonic") | {"icis-paper": "none"}
_GLANCE_NAMES = {_DEFAULT: "`icis`, the default", "icis-paper": "`icis-paper`, as published: raw rows"}
_PLOT_TITLES = {
    "bars": "Scores by method",
    "seen-unseen": "Seen against unseen accuracy, for every offset",
    "seen-classes": "Accuracy among the unseen classes, by the number of seen classes",
    "estimates": "Estimated and measured accuracy of groups of hidden classes",
    "self-score": "Self-score and real score",
}
_HELDOUT_COLUMNS = {
    "T1": "zsl_accuracy",
    "top-5": "zsl_top5",
    "u": "unseen_accuracy",
    "s": "seen_accuracy",
    "H": "harmonic_mean",
    "area": "area",
    "best H": "best_harmonic_mean",
    "moved": "moved_share",
}
_CALIBRATION_TITLES = {"none": "raw rows", "harmonic": "harmonic", "keep-seen": "keep-seen"}
_CALIBRATIONS_NOTE = (
    "T1 raw: of the rows as the mapper gives them. T1, area (under the seen-unseen curve) and best H (with the offset that is "
    "best on the test images: a bound) are of the calibrated rows. self T1 and self H: estimated without images. fit: one fit; "
    "all: fit, cross-fit, calibration and self-score."
)
_PROTOCOL_TITLES = {
    "held-out": "Held-out protocol: the base classifier's epochs are chosen on a fifth of its training images",
    "paper": "The paper's protocol: the base classifier's epoch is the best on the seen test images, which flatters s; raw rows",
}

Key = tuple[str, ...]


def group_results(results: Iterable[Result], by: Callable[[Setting], Key]) -> dict[Key, list[Result]]:
    """Successful results in groups, in the order in which groups first appear."""
    groups: dict[Key, list[Result]] = {}
    for result in results:
        if not result.error:
            groups.setdefault(by(result.setting), []).append(result)
    return groups


def glance_table(results: Sequence[Result], about: str) -> str:
    """The few figures that fit on a first page: T1, u, s and H of the default and what it is measured against.

    Args:
        results: Of one protocol and one kind of texts or descriptors.
        about: What was measured, a sentence or two.

    Returns:
        Markdown, best H first; "" where none of these methods was measured.
    """
    groups = group_results(results, lambda setting: (setting.method, setting.calibration))
    raw_only = {calibration for _, calibration in groups} == {"none"}
    wanted = {method: "none" if raw_only else calibration for method, calibration in _GLANCE.items()}
    chosen = [(method, groups[method, wanted[method]]) for method in _GLANCE if (method, wanted[method]) in groups]
    lines = [
        [
            _GLANCE_NAMES.get(method, f"`{method}`"),
            _percent(group, "zsl_accuracy"),
            _percent(group, "unseen_accuracy"),
            _percent(group, "seen_accuracy"),
            f"**{_percent(group, 'harmonic_mean')}**",
        ]
        for method, group in sorted(chosen, key=lambda item: -_mean(item[1], "harmonic_mean"))
    ]
    if not lines:
        return ""
    note = (
        "T1: unseen classes among themselves; u, s: unseen and seen classes among all; H: harmonic mean of u and s; with "
        "the harmonic calibration where a line does not say raw. Percent; ± is the standard deviation, and a line without it was "
        "measured once."
    )
    return "\n\n".join([about, markdown_table(["method", "T1", "u", "s", "H"], lines), note])


def main_table(results: Sequence[Result], protocol: str, *, is_published_data: bool) -> str:
    """One protocol's table, a line a method, best first.

    Args:
        results: Of one dataset and one kind of descriptors.
        protocol: "held-out": every calibration beside the self-score. "paper": the published figures beside.
        is_published_data: Whether the classes are those of the publication; if not, its figures say little.
    """
    chosen = [result for result in results if result.setting.part == "table" and result.setting.protocol == protocol]
    if not chosen:
        return ""
    title = f"#### {_PROTOCOL_TITLES[protocol]}"
    if protocol == "held-out":
        return "\n\n".join(
            [title, _calibrations_table(chosen, {"T1": "zsl_accuracy"}), f"{_CALIBRATIONS_NOTE} {_spread_note(chosen)}"]
        )
    note = f"{_spread_note(chosen)} {speed_note(chosen)}".strip()
    if not is_published_data:
        note += " The published figures are for the full dataset and features fine-tuned on its seen classes; this is other data."
    return "\n\n".join([title, _paper_table(chosen), note])


def _paper_table(results: Sequence[Result]) -> str:
    groups = group_results(results, lambda setting: (setting.method,))
    published = TABLE.get(results[0].setting.benchmark, {})
    later = LATER_METHOD.get(results[0].setting.benchmark)
    lines = [
        [
            method,
            *(_percent(group, name) for name in _SCORE_COLUMNS.values()),
            _seconds(group, "fit"),
            _published(published.get(method)),
        ]
        for (method,), group in sorted(groups.items(), key=lambda item: -_mean(item[1], "harmonic_mean"))
    ]
    empty = [""] * (len(_SCORE_COLUMNS) + 1)
    measured = {key[0] for key in groups}
    lines += [
        [f"{name} (published only)", *empty, _published(scores)] for name, scores in published.items() if name not in measured
    ]
    if later:
        lines.append(["AAAI 2026, texts by a language model (published only)", *empty, _published(later)])
    return markdown_table(["method", *_SCORE_COLUMNS, "fit, s", "published T1 / u / s / H"], lines)


def speed_note(results: Sequence[Result], *, at_least: bool = False) -> str:
    """How many times as fast the default fits as the published recipe, or at least, where the recipe was cut short."""
    groups = group_results(results, lambda setting: (setting.method,))
    own, published = (_median_seconds(groups.get((name,), []), "fit") for name in (_DEFAULT, "icis-paper"))
    if not own or not published:
        return ""
    if at_least:
        return (
            f"`{_DEFAULT}` fits at least {published / own:.0f} times as fast as the published recipe in the same run, which was "
            f"stopped after {FEWEST_EPOCHS} epochs, the fewest that its rule allows."
        )
    return f"`{_DEFAULT}` fits {published / own:.0f} times as fast as the published recipe in the same run."


def _calibrations_table(results: Sequence[Result], first_columns: dict[str, str]) -> str:
    """A line a method with its scores under every calibration; ± belongs to H."""
    groups = group_results(results, lambda setting: (setting.method, setting.calibration))
    methods = list(dict.fromkeys(key[0] for key in groups))

    def group(method: str, calibration: str) -> list[Result]:
        return groups.get((method, calibration), [])

    methods.sort(key=lambda method: -_mean(group(method, "harmonic"), "harmonic_mean"))
    header = ["method", "T1 raw", *first_columns, "area", *(f"{name}: u / s / H" for name in _CALIBRATION_TITLES.values())]
    header += ["moved, keep-seen"] * ("moved" in first_columns)
    lines = [
        [
            method,
            _percent(group(method, "none"), "zsl_accuracy"),
            *(_percent(group(method, "harmonic"), name) for name in (*first_columns.values(), "area")),
            *(_triple(group(method, calibration)) for calibration in _CALIBRATION_TITLES),
            *[_percent(group(method, "keep-seen"), "moved_share")] * ("moved" in first_columns),
            _own_percent(group(method, "harmonic"), "zsl_accuracy"),
            _own_percent(group(method, "harmonic"), "harmonic_mean"),
            _percent(group(method, "harmonic"), "best_harmonic_mean"),
            _seconds(group(method, "harmonic"), "fit"),
            _seconds(group(method, "harmonic"), "predict"),
        ]
        for method in methods
    ]
    return markdown_table([*header, "self T1", "self H", "best H", "fit, s", "all, s"], lines)


def _triple(group: Sequence[Result]) -> str:
    unseen, seen = (summarize(r.scores.get(name) for r in group) for name in ("unseen_accuracy", "seen_accuracy"))
    if unseen is None and seen is None:
        return "-"
    shown = [f"{100 * value.mean:.1f}" if value else "-" for value in (unseen, seen)]
    return f"{shown[0]} / {shown[1]} / **{_percent(group, 'harmonic_mean')}**"


def ablation_table(results: Sequence[Result], *, is_published_data: bool) -> str:
    """What each part of the paper's objective adds."""
    chosen = [result for result in results if result.setting.part == "ablation"]
    groups = group_results(chosen, lambda setting: (setting.method,))
    if not groups:
        return ""
    published = ABLATION_CUB if chosen[0].setting.benchmark == "cub" else {}
    lines = []
    for step in ABLATION_STEPS:
        group = groups.get((step.name,), [])
        told = published.get(step.name)
        scores = [_percent(group, "zsl_accuracy"), _percent(group, "harmonic_mean"), _seconds(group, "fit")]
        lines.append([step.name, *scores, f"{told[0]} / {told[1]}" if told else ""])
    table = markdown_table(["objective", "T1", "H", "fit, s", "published T1 / H"], lines)
    other = "" if is_published_data else " Published: full CUB, fine-tuned features."
    return f"#### The paper's ablation, in its protocol\n\n{table}\n\n{_spread_note(chosen)}{other}"


def parts_table(results: Sequence[Result]) -> str:
    """What each part of the default mapper adds; "" where it was not measured."""
    chosen = [result for result in results if result.setting.part == "parts" and not result.error]
    groups = group_results(chosen, lambda setting: (setting.method,))
    if not groups:
        return ""
    scores = ("zsl_accuracy", "area", "best_harmonic_mean")
    lines = [
        [step, *(_percent(groups.get((step,), []), score) for score in scores), _seconds(groups.get((step,), []), "fit")]
        for step in PARTS_STEPS
    ]
    heads = [head for head in dict.fromkeys(result.setting.head for result in chosen) if head]
    over = f"Percent, means over the heads {', '.join(heads)} and their folds." if heads else _spread_note(chosen)
    return (
        f"#### What each part of the default adds\n\n{markdown_table(['rows', 'T1', 'area', 'best H', 'fit, s'], lines)}\n\n"
        f"Before calibration: its shorter rows raise area and best H of each line, its offset changes none of them. {over}"
    )


def curve_table(results: Sequence[Result]) -> str:
    """T1 by the number of seen classes that the mapper learns from."""
    chosen = [result for result in results if result.setting.part == "curve"]
    groups = group_results(chosen, lambda setting: (setting.method, str(setting.num_seen)))
    if not groups:
        return ""
    sizes = sorted({int(key[1]) for key in groups}, reverse=True)
    methods = list(dict.fromkeys(key[0] for key in groups))
    lines = [[method, *(_percent(groups.get((method, str(size)), []), "zsl_accuracy") for size in sizes)] for method in methods]
    table = markdown_table(["T1 from so many seen classes", *(str(size) for size in sizes)], lines)
    note = _spread_note(chosen)
    if chosen[0].setting.benchmark == "cub":
        told = ", ".join(f"{size}: {value}" for size, value in SEEN_CLASS_CURVE_CUB.items())
        note += f" Published for ICIS on full CUB: {told}."
    return f"#### Seen-class curve\n\n{table}\n\n{note}"


def descriptors_table(results: Sequence[Result]) -> str:
    """What each kind of descriptors is worth, in the held-out protocol, calibrated; "" for a single kind."""
    chosen = [r for r in results if r.setting.part == "table" and r.setting.protocol == "held-out"]
    chosen = [r for r in chosen if r.setting.method in (_DEFAULT, "kernel-ridge") and r.setting.calibration == "harmonic"]
    groups = group_results(chosen, lambda setting: (setting.descriptors, setting.method))
    if len({key[0] for key in groups}) < 2:
        return ""
    lines = [
        [*key, _percent(group, "zsl_accuracy"), _percent(group, "area"), _triple(group), _own_percent(group, "harmonic_mean")]
        for key, group in groups.items()
    ]
    table = markdown_table(["descriptors", "method", "T1", "area", "harmonic: u / s / H", "self H"], lines)
    note = "att: attributes. names: definitions looked up by the package, encoded. wiki2vec, conceptnet: vectors of the names."
    return f"#### By descriptors, held-out protocol\n\n{table}\n\n{note} {_spread_note(chosen)}"


def transfer_table(results: Sequence[Result]) -> str:
    """From an ImageNet head by class name."""
    chosen = [result for result in results if result.setting.part == "transfer"]
    groups = group_results(chosen, lambda setting: (setting.method, setting.calibration))
    if not groups:
        return ""
    setting = chosen[0].setting
    told = TRANSFER_ICIS.get(setting.benchmark, {}).get(setting.descriptors)
    columns = {name: field for name, field in _SCORE_COLUMNS.items() if name in ("T1", "u", "s", "H")}
    lines = [
        [*key, *(_percent(group, field) for field in columns.values()), _seconds(group, "fit")]
        for key, group in sorted(groups.items(), key=lambda item: -_mean(item[1], "zsl_accuracy"))
    ]
    table = markdown_table(["method", "calibration", *columns, "fit, s"], lines)
    note = _spread_note(chosen) + (f" Published T1 of ICIS with a ResNet-101 head: {told}." if told else "")
    return f"#### From the ImageNet head {setting.head} by class name ({setting.descriptors})\n\n{table}\n\n{note}"


def heldout_tables(results: Sequence[Result]) -> list[str]:
    """The held-out benchmark: every method, then the heads one by one and what the texts are worth."""
    good = [result for result in results if not result.error and result.setting.part == "table"]
    if not good:
        return []
    heads = list(dict.fromkeys(result.setting.head for result in good))
    texts = list(dict.fromkeys(result.setting.descriptors for result in good))
    first = [result for result in good if result.setting.descriptors == texts[0]]
    sections = [
        f"#### Every method, hidden classes told by: {texts[0]}",
        _calibrations_table(first, {"T1": "zsl_accuracy", "top-5": "zsl_top5", "moved": "moved_share"}),
        f"{_CALIBRATIONS_NOTE} moved: seen images that go to a new class, under harmonic and under keep-seen. "
        f"{_senses_note(first)} Percent, means over the heads {', '.join(heads)} and their folds; ± is the standard deviation over "
        "both.",
    ]
    own = [result for result in good if result.setting.method == _DEFAULT and result.setting.calibration == "harmonic"]
    if own and len(heads) + len(texts) > 2:
        sections += [
            f"#### The default call (`{_DEFAULT}`, harmonic) by head and text",
            _heldout_lines(own, ("head", "descriptors")),
            "lemma: the first lemma, its definition looked up, perhaps of another sense. synset: the right definition. words: as "
            "lemma, without the place in WordNet. name: no definitions. described: the user's texts. wiki2vec, conceptnet: "
            "vectors. ± is the standard deviation over folds.",
        ]
    return sections


def table_of_test_classes(results: Sequence[Result]) -> str:
    """The held-out benchmark on the classes that no setting was chosen on; "" where it was not measured."""
    chosen = [result for result in results if result.setting.part == "test" and not result.error]
    if not chosen:
        return ""
    return (
        f"#### On photos of the test classes alone\n\n{_heldout_lines(chosen, ('method',))}\n\n"
        "Half of the classes, drawn once, are for choosing settings of the package on photos of them, and the figures above are of "
        "all photos. These are of photos of the other classes, on which none was chosen since 0.4.0. Hidden are the same classes."
    )


def self_score_points(results: Sequence[Result], score: str) -> list[tuple[str, float, float]]:
    """(head, self-score, real score) for each head, text and method under "harmonic", means over folds and seeds."""
    measured = [result for result in results if result.setting.part != "test"]  # the same self-scores, on fewer photos
    chosen = [result for result in measured if result.setting.calibration == "harmonic" and score in result.self_score]
    groups = group_results(chosen, lambda setting: (setting.head or setting.benchmark, setting.descriptors, setting.method))
    points = []
    for key, group in groups.items():
        own, real = (
            summarize(r.self_score.get(score) for r in group),
            summarize(r.scores.get(score) for r in group),
        )
        if own and real:
            points.append((f"{key[0]}, {key[1]}", own.mean, real.mean))
    return points


def _heldout_lines(results: Sequence[Result], by: Sequence[str]) -> str:
    groups = group_results(results, lambda setting: tuple(str(getattr(setting, name)) for name in by))
    lines = [
        [
            *key,
            *(_percent(group, field) for field in _HELDOUT_COLUMNS.values()),
            _own_percent(group, "zsl_accuracy"),
            _own_percent(group, "harmonic_mean"),
        ]
        for key, group in groups.items()
    ]
    shown = ["texts" if name == "descriptors" else name for name in by]
    return markdown_table([*shown, *_HELDOUT_COLUMNS, "self T1", "self H"], lines)


def _senses_note(results: Sequence[Result]) -> str:
    folds = {(r.setting.seed, r.setting.fold): r for r in results if r.setting.head == results[0].setting.head}
    names, senses, lost = (
        summarize(r.notes.get(name) for r in folds.values()) for name in ("new_names", "other_sense", "no_definition")
    )
    if names is None or senses is None or lost is None:
        return ""
    return (
        f"Of {names.mean:.0f} hidden names a fold, {senses.mean:.1f} on average were taken in another sense and {lost.mean:.1f} "
        f"found no definition."
    )


def _own_percent(group: Sequence[Result], name: str) -> str:
    summary = summarize(result.self_score.get(name) for result in group)
    return "-" if summary is None else f"{100 * summary.mean:.1f}"


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table with a header line."""
    rows = [list(header), ["---"] * len(header), *(list(line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def summary_records(results: Iterable[Result]) -> list[dict[str, Any]]:
    """One JSON-able record a group of results that differ in seed and fold alone; failures stand by themselves."""
    results = list(results)

    def key(setting: Setting) -> Key:
        fields = asdict(setting)
        return tuple(str(value) for name, value in fields.items() if name not in ("seed", "fold", "data"))

    records: list[dict[str, Any]] = []
    for group in group_results(results, key).values():
        fields = {name: value for name, value in asdict(group[0].setting).items() if name not in ("seed", "fold", "data")}
        names = dict.fromkeys(name for result in group for name in result.scores)
        scores = {name: summarize(result.scores.get(name) for result in group) for name in names}
        seconds = {name: summarize(result.seconds.get(name) for result in group) for name in ("fit", "predict")}
        own = {name: summarize(result.self_score.get(name) for result in group) for name in group[0].self_score}
        records.append(
            fields
            | {
                "scores": {name: asdict(value) if value else None for name, value in scores.items()},
                "self_score": {name: asdict(value) if value else None for name, value in own.items()},
                "seconds": {name: asdict(value) if value else None for name, value in seconds.items()},
                "seeds": sorted({result.setting.seed for result in group}),
                "folds": sorted({result.setting.fold for result in group} - {-1}),
            }
        )
    failed = [{**asdict(result.setting), "error": result.error} for result in results if result.error]
    return records + failed


def replace_blocks(path: Path, texts: Mapping[str, str]) -> None:
    """Put each text between `<!-- benchmark:NAME -->` and `<!-- /benchmark:NAME -->` of a file.

    Args:
        path: The file.
        texts: Name -> text. Those that the file has no markers for are left out, as long as it has some.

    Raises:
        ArgumentValueError: The file cannot be read or written.
        BenchmarkDataError: It has none of these blocks, or one of them twice.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentValueError(f"The file '{path}' could not be read as UTF-8 text: {error}") from error
    counts = {}
    for name, text in texts.items():
        start, end = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
        blocks = re.findall(f"{re.escape(start)}.*?{re.escape(end)}", content, re.DOTALL)
        counts[f"'{start}' to '{end}'"] = len(blocks)
        if len(blocks) == 1:
            content = content.replace(blocks[0], f"{start}\n{text.strip()}\n{end}")
    if not any(counts.values()) or max(counts.values()) > 1:
        told = " and ".join(f"{count} blocks from {markers}" for markers, count in counts.items())
        raise BenchmarkDataError(
            f"'{path}' has {told}, expected one of one or more. Put the two lines once where the tables belong."
        )
    path.write_text(content, encoding="utf-8")


def image_links(plots: Iterable[Path], page: Path) -> str:
    """Markdown that shows the plots in the file `page`."""
    links = []
    for plot in plots:
        title = next((title for kind, title in _PLOT_TITLES.items() if plot.name.startswith(kind)), plot.stem)
        links.append(f"![{title}]({Path(os.path.relpath(plot, page.parent)).as_posix()})")
    return "\n\n".join(links)


def _percent(group: Sequence[Result], name: str) -> str:
    summary = summarize(result.scores.get(name) for result in group)
    if summary is None:
        return "-"
    spread = "" if summary.spread is None else f" ± {100 * summary.spread:.1f}"
    return f"{100 * summary.mean:.1f}{spread}"


def _seconds(group: Sequence[Result], name: str) -> str:
    seconds = _median_seconds(group, name)
    return "-" if seconds is None else f"{seconds:.2f}"


def _median_seconds(group: Sequence[Result], name: str) -> float | None:
    """The median, as a machine that is busy for a moment spoils a mean."""
    known = [result.seconds[name] for result in group if name in result.seconds]
    return median(known) if known else None


def _mean(group: Sequence[Result], name: str) -> float:
    summary = summarize(result.scores.get(name) for result in group)
    return summary.mean if summary else -1.0


def _published(scores: PublishedScores | None) -> str:
    if scores is None:
        return ""
    figures = (scores.zsl_accuracy, scores.unseen_accuracy, scores.seen_accuracy, scores.harmonic_mean)
    return " / ".join("-" if figure is None else f"{figure:g}" for figure in figures)


def _spread_note(results: Sequence[Result]) -> str:
    seeds = sorted({result.setting.seed for result in results if not result.error})
    if len(seeds) == 1:
        return f"Percent; one seed ({seeds[0]})."
    return f"Percent, mean ± standard deviation over seeds {', '.join(map(str, seeds))}."
