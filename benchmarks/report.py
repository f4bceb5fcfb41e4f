"""Results as markdown tables and JSON records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from statistics import fmean, median
from typing import Any, TypeVar

from benchmarks.published import ABLATION_CUB, FEWEST_EPOCHS, SEEN_CLASS_CURVE_CUB, TABLE, TRANSFER_ICIS, Published
from benchmarks.results import MAIN_MAPPERS, Result, Setting, group_results, select, summarize

_DEFAULT = MAIN_MAPPERS[0]
# What a reader in a hurry compares the default with: all that came near it or above it in some benchmark, calibrated as it is,
# and the published recipe as published.
_GLANCE = dict.fromkeys((_DEFAULT, "kernel-ridge", "ridge", "smo", "wavg"), "harmonic") | {"icis-paper": "none"}
_GLANCE_NAMES = {_DEFAULT: "`icis`, the default", "icis-paper": "`icis-paper`, as published: raw rows"}
_GLANCE_NOTE = (
    "T1: unseen classes among themselves; u, s: unseen and seen classes among all; H: harmonic mean of u and s; with "
    "the harmonic calibration where a line does not say raw. Percent; ± is the standard deviation, and a line without it was "
    "measured once."
)
_CALIBRATIONS_NOTE = (
    "T1 raw: of the rows as the mapper gives them. T1, area (under the seen-unseen curve) and best H (with the offset that is "
    "best on the test images: a bound) are of the calibrated rows. self T1 and self H: estimated without images. fit: one fit; "
    "all: fit, cross-fit, calibration and self-score."
)
_TEST_CLASSES_NOTE = (
    "Half of the classes, drawn once, are for choosing settings of the package on photos of them, and the figures above are of "
    "all photos. These are of photos of the other classes, on which none was chosen since 0.4.0. Hidden are the same classes."
)
_PROTOCOL_TITLES = {
    "held-out": "Held-out protocol: the base classifier's epochs are chosen on a fifth of its training images",
    "paper": "The paper's protocol: the base classifier's epoch is the best on the seen test images, which flatters s; raw rows",
}
# These do not tell groups of results apart.
_REPEATS = ("seed", "fold", "data")

Item = TypeVar("Item")
Group = Sequence[Result]
Cell = Callable[[Group], str]


def markdown_table(columns: Mapping[str, Callable[[Item], str]], items: Iterable[Item], more: Iterable[Sequence[str]] = ()) -> str:
    """A table with a line an item: header -> what a line shows of its item, and further lines as they are."""
    lines = [list(columns), ["---"] * len(columns), *([cell(item) for cell in columns.values()] for item in items), *more]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(
    opening: str,
    results: Iterable[Result],
    by: Sequence[str],
    columns: Mapping[str, Cell],
    note: str,
    *,
    best: Callable[[Group], float] | None = None,
    more: Iterable[Sequence[str]] = (),
) -> str:
    """A table with a line a group of successful results, what stands above it and what below; "" without results.

    Args:
        opening: Markdown.
        results: Failures among them are left out.
        by: Fields of a setting; results of a group differ in others.
        columns: Header -> what a line shows of its group; see `percent` and its neighbours.
        note: Markdown.
        best: Of a group; the largest comes first. None keeps the order in which groups first appear.
        more: Further lines, as they are.
    """
    groups = list(group_results(results, by).values())
    if best is not None:
        groups.sort(key=best, reverse=True)
    return f"{opening}\n\n{markdown_table(columns, groups, more)}\n\n{note}" if groups else ""


def percent(score: str, calibration: str = "", *, own: bool = False, spread: bool = True) -> Cell:
    """A column: a mean score and the standard deviation of several.

    Args:
        score: Its name.
        calibration: Only results under this one count; "" for all.
        own: Whether it is the self-score, which is shown without spread.
        spread: Whether the standard deviation is shown.
    """

    def cell(group: Group) -> str:
        summary = summarize((result.self_score if own else result.scores).get(score) for result in _under(calibration, group))
        if summary is None:
            return "-"
        return f"{100 * summary.mean:.1f}" + (
            f" ± {100 * summary.spread:.1f}" if spread and not own and summary.spread is not None else ""
        )

    return cell


def triple(calibration: str = "") -> Cell:
    """A column: u / s / H; ± belongs to H."""
    unseen, seen = (percent(f"{name}_accuracy", calibration, spread=False) for name in ("unseen", "seen"))
    both = percent("harmonic_mean", calibration)
    return lambda group: "-" if unseen(group) == seen(group) == "-" else f"{unseen(group)} / {seen(group)} / **{both(group)}**"


def seconds(name: str, calibration: str = "") -> Cell:
    """A column: the median of a time, as a machine that is busy for a moment spoils a mean."""
    return lambda group: "-" if (value := _median_seconds(_under(calibration, group), name)) is None else f"{value:.2f}"


def field(name: str) -> Cell:
    """A column: what the settings of a group have in common."""
    return lambda group: str(getattr(group[0].setting, name))


def mean_of(score: str, calibration: str = "") -> Callable[[Group], float]:
    """For `best` of a table."""
    return lambda group: fmean([value for r in _under(calibration, group) if (value := r.scores.get(score)) is not None] or [-1.0])


def _under(calibration: str, group: Group) -> Group:
    return select(group, calibration=calibration) if calibration else group


def _median_seconds(group: Group, name: str) -> float | None:
    known = [result.seconds[name] for result in group if name in result.seconds]
    return median(known) if known else None


def _spread_note(results: Group) -> str:
    seeds = sorted({result.setting.seed for result in results if not result.error})
    if len(seeds) == 1:
        return f"Percent; one seed ({seeds[0]})."
    return f"Percent, mean ± standard deviation over seeds {', '.join(map(str, seeds))}."


_METHOD = {"method": field("method")}
_T1 = {"T1": percent("zsl_accuracy")}
_U_S_H = {"u": percent("unseen_accuracy"), "s": percent("seen_accuracy"), "H": percent("harmonic_mean")}
_AREA_BEST = {"area": percent("area"), "best H": percent("best_harmonic_mean")}
_FIT = {"fit, s": seconds("fit")}


def glance_table(results: Group, about: str) -> str:
    """The few figures that fit on a first page: T1, u, s and H of the default and what it is measured against, best H first.

    Args:
        results: Of one protocol and one kind of texts or descriptors.
        about: What was measured, a sentence or two.
    """
    good = [result for result in results if not result.error]
    raw_only = all(result.setting.calibration == "none" for result in good)
    chosen = [
        r
        for name, calibration in _GLANCE.items()
        for r in select(good, method=name, calibration="none" if raw_only else calibration)
    ]
    columns = {
        "method": lambda group: _GLANCE_NAMES.get(group[0].setting.method, f"`{group[0].setting.method}`"),
        **_T1,
        **_U_S_H,
        "H": lambda group: f"**{percent('harmonic_mean')(group)}**",
    }
    return section(about, chosen, ["method"], columns, _GLANCE_NOTE, best=mean_of("harmonic_mean"))


def main_table(results: Group, protocol: str, *, is_published_data: bool) -> str:
    """One protocol's table, a line a method, best first.

    Args:
        results: Of one dataset and one kind of descriptors.
        protocol: "held-out": every calibration beside the self-score. "paper": the published figures beside.
        is_published_data: Whether the classes are those of the publication; if not, its figures say little.
    """
    chosen = select(results, part="table", protocol=protocol)
    title, note = f"#### {_PROTOCOL_TITLES[protocol]}", _spread_note(chosen)
    if protocol == "held-out":
        return _calibrations_table(title, chosen, {"T1": percent("zsl_accuracy", "harmonic")}, f"{_CALIBRATIONS_NOTE} {note}")
    note = f"{note} {speed_note(chosen)}".strip()
    if not is_published_data:
        note += " The published figures are for the full dataset and features fine-tuned on its seen classes; this is other data."
    published = TABLE.get(chosen[0].setting.benchmark, {}) if chosen else {}
    columns = {**_METHOD, **_T1, **_U_S_H, **_AREA_BEST, **_FIT}
    columns["published T1 / u / s / H"] = lambda group: _published(published.get(group[0].setting.method))
    more = [
        [f"{name} (published only)", *[""] * (len(columns) - 2), _published(scores)]
        for name, scores in published.items()
        if name not in {result.setting.method for result in chosen}
    ]
    return section(title, chosen, ["method"], columns, note, best=mean_of("harmonic_mean"), more=more)


def _published(scores: Published | None) -> str:
    return "" if scores is None else " / ".join("-" if figure is None else f"{figure:g}" for figure in scores)


def _calibrations_table(title: str, results: Group, first_columns: Mapping[str, Cell], note: str) -> str:
    """A line a method with its scores under every calibration."""
    columns = {
        **_METHOD,
        "T1 raw": percent("zsl_accuracy", "none"),
        **first_columns,
        "area": percent("area", "harmonic"),
        "raw rows: u / s / H": triple("none"),
        "harmonic: u / s / H": triple("harmonic"),
        "keep-seen: u / s / H": triple("keep-seen"),
        **({"moved, keep-seen": percent("moved_share", "keep-seen")} if "moved" in first_columns else {}),
        "self T1": percent("zsl_accuracy", "harmonic", own=True),
        "self H": percent("harmonic_mean", "harmonic", own=True),
        "best H": percent("best_harmonic_mean", "harmonic"),
        "fit, s": seconds("fit", "harmonic"),
        "all, s": seconds("predict", "harmonic"),
    }
    return section(title, results, ["method"], columns, note, best=mean_of("harmonic_mean", "harmonic"))


def speed_note(results: Group, *, at_least: bool = False) -> str:
    """How many times as fast the default fits as the published recipe, or at least, where the recipe was cut short."""
    own, published = (_median_seconds(select(results, method=name), "fit") for name in (_DEFAULT, "icis-paper"))
    if not own or not published:
        return ""
    times = f"{'at least ' if at_least else ''}{published / own:.0f} times as fast as the published recipe in the same run"
    end = f", which was stopped after {FEWEST_EPOCHS} epochs, the fewest that its rule allows." if at_least else "."
    return f"`{_DEFAULT}` fits {times}{end}"


def ablation_table(results: Group, *, is_published_data: bool) -> str:
    """What each part of the paper's objective adds."""
    chosen = select(results, part="ablation")

    def published(group: Group) -> str:
        told = ABLATION_CUB.get(group[0].setting.method) if group[0].setting.benchmark == "cub" else None
        return f"{told[0]} / {told[1]}" if told else ""

    columns = {"objective": field("method"), **_T1, "H": percent("harmonic_mean"), **_FIT, "published T1 / H": published}
    note = _spread_note(chosen) + ("" if is_published_data else " Published: full CUB, fine-tuned features.")
    return section("#### The paper's ablation, in its protocol", chosen, ["method"], columns, note)


def parts_table(results: Group) -> str:
    """What each part of the default mapper adds; "" where it was not measured."""
    chosen = select(results, part="parts")
    heads = [head for head in dict.fromkeys(result.setting.head for result in chosen) if head]
    over = f"Percent, means over the heads {', '.join(heads)} and their folds." if heads else _spread_note(chosen)
    note = f"Before calibration: its shorter rows raise area and best H of each line, its offset changes none of them. {over}"
    columns = {"rows": field("method"), **_T1, **_AREA_BEST, **_FIT}
    return section("#### What each part of the default adds", chosen, ["method"], columns, note)


def curve_table(results: Group) -> str:
    """T1 by the number of seen classes that the mapper learns from."""
    chosen = select(results, part="curve")

    def of_size(group: Group, size: int) -> str:
        return percent("zsl_accuracy")(select(group, num_seen=size))

    sizes = sorted({result.setting.num_seen for result in chosen}, reverse=True)
    columns: dict[str, Cell] = {"T1 from so many seen classes": field("method")}
    columns |= {str(size): partial(of_size, size=size) for size in sizes}
    note = _spread_note(chosen)
    if chosen and chosen[0].setting.benchmark == "cub":
        note += f" Published for ICIS on full CUB: {', '.join(f'{size}: {value}' for size, value in SEEN_CLASS_CURVE_CUB.items())}."
    return section("#### Seen-class curve", chosen, ["method"], columns, note)


def descriptors_table(results: Group) -> str:
    """What each kind of descriptors is worth, in the held-out protocol, calibrated; "" for a single kind."""
    chosen = select(results, part="table", protocol="held-out", calibration="harmonic")
    chosen = [result for result in chosen if result.setting.method in MAIN_MAPPERS and not result.error]
    if len({result.setting.descriptors for result in chosen}) < 2:
        return ""
    columns = {"descriptors": field("descriptors"), **_METHOD, **_T1, "area": percent("area")}
    columns |= {"harmonic: u / s / H": triple(), "self H": percent("harmonic_mean", own=True)}
    note = "att: attributes. names: texts looked up by the package, encoded. wiki2vec, conceptnet: vectors of the names."
    title = "#### By descriptors, held-out protocol"
    return section(title, chosen, ["descriptors", "method"], columns, f"{note} {_spread_note(chosen)}")


def transfer_table(results: Group) -> str:
    """From an ImageNet head by class name."""
    chosen = [result for result in select(results, part="transfer") if not result.error]
    if not chosen:
        return ""
    setting = chosen[0].setting
    told = TRANSFER_ICIS.get(setting.benchmark, {}).get(setting.descriptors)
    columns = {**_METHOD, "calibration": field("calibration"), **_T1, **_U_S_H, **_FIT}
    note = _spread_note(chosen) + (f" Published T1 of ICIS with a ResNet-101 head: {told}." if told else "")
    title = f"#### From the ImageNet head {setting.head} by class name ({setting.descriptors})"
    return section(title, chosen, ["method", "calibration"], columns, note, best=mean_of("zsl_accuracy"))


def heldout_tables(results: Group) -> list[str]:
    """The held-out benchmark: every method, then the heads one by one and what the texts are worth, then the test classes alone."""
    good = [result for result in select(results, part="table") if not result.error]
    heads, texts = (list(dict.fromkeys(getattr(result.setting, name) for result in good)) for name in ("head", "descriptors"))
    sections = []
    if good:
        first = select(good, descriptors=texts[0])
        note = (
            f"{_CALIBRATIONS_NOTE} moved: seen images that go to a new class, under harmonic and under keep-seen. "
            f"{_senses_note(first)} Percent, means over the heads {', '.join(heads)} and their folds; ± is the standard deviation "
            "over both."
        )
        scores = {"T1": "zsl_accuracy", "top-5": "zsl_top5", "moved": "moved_share"}
        columns = {name: percent(score, "harmonic") for name, score in scores.items()}
        sections.append(_calibrations_table(f"#### Every method, hidden classes told by: {texts[0]}", first, columns, note))
    lines = {**_T1, "top-5": percent("zsl_top5"), **_U_S_H, **_AREA_BEST, "moved": percent("moved_share")}
    lines |= {"self T1": percent("zsl_accuracy", own=True), "self H": percent("harmonic_mean", own=True)}
    if len(heads) + len(texts) > 2:
        title = f"#### The default mapper (`{_DEFAULT}`, harmonic) by head and text"
        note = "How classes are told: `python -m benchmarks imagenet --help`. ± is the standard deviation over folds."
        own = select(good, method=_DEFAULT, calibration="harmonic")
        keys = {"head": field("head"), "texts": field("descriptors")}
        sections.append(section(title, own, ["head", "descriptors"], keys | lines, note))
    title = "#### On photos of the test classes alone"
    sections.append(section(title, select(results, part="test"), ["method"], _METHOD | lines, _TEST_CLASSES_NOTE))
    return [text for text in sections if text]


def _senses_note(results: Group) -> str:
    folds = {(r.setting.seed, r.setting.fold): r for r in results if r.setting.head == results[0].setting.head}
    counts = (summarize(r.notes.get(name) for r in folds.values()) for name in ("new_names", "other_sense", "no_definition"))
    means = [count.mean for count in counts if count]
    if len(means) < 3:
        return ""
    names, other, lost = means
    return f"Of {names:.0f} hidden names a fold, {other:.1f} on average were taken in another sense and {lost:.1f} found none."


def self_score_points(results: Iterable[Result], score: str) -> list[tuple[str, float, float]]:
    """("head, text", self-score, real score) for each head, text and method under "harmonic", means over folds and seeds."""
    # Those of the test classes are the same self-scores, on fewer photos.
    measured = [result for result in select(results, calibration="harmonic") if result.setting.part != "test"]
    points = []
    for key, group in group_results(measured, ["head", "benchmark", "descriptors", "method"]).items():
        own = summarize(result.self_score.get(score) for result in group)
        real = summarize(result.scores.get(score) for result in group if score in result.self_score)
        if own and real:
            points.append((f"{key[0] or key[1]}, {key[2]}", own.mean, real.mean))
    return points


def summary_records(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One JSON-able record a group of results that differ in seed and fold alone; failures stand by themselves."""
    kept = [field.name for field in fields(Setting) if field.name not in _REPEATS]
    records: list[dict[str, Any]] = []
    for group in group_results(results, kept).values():
        record: dict[str, Any] = {name: getattr(group[0].setting, name) for name in kept}
        for kind in ("scores", "self_score", "seconds"):
            parts = [getattr(result, kind) for result in group]
            names = ("fit", "predict") if kind == "seconds" else dict.fromkeys(name for part in parts for name in part)
            summaries = {name: summarize(part.get(name) for part in parts) for name in names}
            record[kind] = {name: asdict(summary) if summary else None for name, summary in summaries.items()}
        record["seeds"] = sorted({result.setting.seed for result in group})
        record["folds"] = sorted({result.setting.fold for result in group} - {-1})
        records.append(record)
    return records + [{**asdict(result.setting), "error": result.error} for result in results if result.error]
