"""Pictures of results, for a talk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.published import SEEN_CLASS_CURVE_CUB
from benchmarks.results import MAIN_MAPPERS, Result, Summary, group_results, summarize

_STYLE: Any = {
    "font.size": 13,
    "axes.titlesize": 15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "white",
    "figure.constrained_layout.use": True,
}
# Of the Okabe-Ito palette, which colour-blind people can tell apart.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C", "#7A5195", "#B8A100")
_MARKERS = "osD^vP*X"


def plot_bars(results: Sequence[Result], path: Path, *, title: str) -> bool:
    """T1 and H of each method as bars; H without and with calibration where both were measured."""
    groups = group_results(results, ["method", "calibration"])
    if not groups:
        return False
    has_calibration = any(calibration == "harmonic" for _, calibration in groups)
    series = {"T1": ("harmonic" if has_calibration else "none", "zsl_accuracy"), "H, raw rows": ("none", "harmonic_mean")}
    if has_calibration:
        series["H, calibrated"] = ("harmonic", "harmonic_mean")

    def lengths_of(label: str, method: str) -> tuple[float, float]:
        calibration, score = series[label]
        return _percent(summarize(result.scores.get(score) for result in groups.get((method, calibration), [])))

    methods = sorted(dict.fromkeys(method for method, _ in groups), key=lambda method: lengths_of(list(series)[-1], method)[0])
    with _figure(path, (9, 1.6 + 0.55 * len(methods)), title, ("percent", ""), "lower right") as axes:
        height = 0.8 / len(series)
        for offset, label in enumerate(series):
            places = [index + (len(series) / 2 - offset - 0.5) * height for index in range(len(methods))]
            lengths, spreads = zip(*(lengths_of(label, method) for method in methods), strict=True)
            axes.barh(places, lengths, height * 0.92, xerr=spreads, label=label, color=_COLORS[offset], ecolor="#444444")
            for place, length, spread in zip(places, lengths, spreads, strict=True):
                axes.text(length + spread + 0.8, place, f"{length:.0f}", va="center", fontsize=10, color="#333333")
        axes.set_yticks(range(len(methods)), methods)
    return True


def plot_seen_unseen(results: Sequence[Result], path: Path, *, title: str) -> bool:
    """Seen accuracy against unseen accuracy as one offset moves, a line a method, with the calibrated point on it."""
    groups = group_results(results, ["method", "calibration"])
    calibrations = ("harmonic", "none") if any(key[1] == "harmonic" for key in groups) else ("none",)
    chosen = {key[0]: group for key, group in groups.items() if key[1] == calibrations[0] and group[0].curve}
    if not chosen:
        return False
    areas = {method: _percent(summarize(result.scores.get("area") for result in group))[0] for method, group in chosen.items()}
    with _figure(path, (9, 6.5), title, ("unseen accuracy, percent", "seen accuracy, percent"), "lower left") as axes:
        for color, method in zip(_COLORS, sorted(chosen, key=lambda method: -areas[method]), strict=False):
            unseen, seen = zip(*chosen[method][0].curve, strict=True)
            style: dict[str, Any] = {"linewidth": 3, "zorder": 3} if method == MAIN_MAPPERS[0] else {"linewidth": 1.6, "zorder": 2}
            label = f"{method} (area {areas[method]:.0f})"
            axes.plot([100 * value for value in unseen], [100 * value for value in seen], color=color, label=label, **style)
            for calibration, marker in zip(calibrations, ("o", "x"), strict=False):
                for result in groups.get((method, calibration), [])[:1]:
                    point = [100 * (result.scores[name] or 0) for name in ("unseen_accuracy", "seen_accuracy")]
                    axes.plot(*point, marker, color=color, ms=9)
        if len(calibrations) == 2:
            axes.plot([], [], "o", color="#444444", label="calibrated without images")
            axes.plot([], [], "x", color="#444444", label="raw rows")
        axes.set_xlim(left=-1)
        axes.set_ylim(bottom=0)
    return True


def plot_curve_by_seen_classes(results: Sequence[Result], path: Path, *, title: str) -> bool:
    """T1 against the number of seen classes that the mapper learned from."""
    groups = group_results(results, ["method", "num_seen"])
    if not groups:
        return False
    with _figure(path, (9, 5.5), title, ("seen classes that the mapper learns from", "T1, percent"), "lower right") as axes:
        for color, method in zip(_COLORS, dict.fromkeys(key[0] for key in groups), strict=False):
            sizes = sorted(int(key[1]) for key in groups if key[0] == method)
            values = [_percent(summarize(r.scores.get("zsl_accuracy") for r in groups[method, str(size)])) for size in sizes]
            means, spreads = zip(*values, strict=True)
            axes.errorbar(sizes, means, yerr=spreads, fmt="o-", color=color, label=method, linewidth=2, capsize=3)
        if results[0].setting.benchmark == "cub":
            published = SEEN_CLASS_CURVE_CUB
            label = "published ICIS, full CUB, 50 unseen"
            axes.plot(list(published), list(published.values()), "s--", color="#8C8C8C", label=label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    return True


def plot_self_score(points: Sequence[tuple[str, float, float]], path: Path, *, title: str) -> float | None:
    """Self-score against real score, a colour a head or dataset and a marker a text.

    Args:
        points: ("head, text", self-score, real score), fractions in [0, 1].
        path: The picture; its name ends with "-" and what is scored.
        title: Over it.

    Returns:
        Spearman's rank correlation; None, and no picture, for fewer than 3 points.
    """
    if len(points) < 3:
        return None
    from scipy.stats import spearmanr

    name = path.stem.rpartition("-")[2]
    correlation = float(spearmanr([point[1] for point in points], [point[2] for point in points]).statistic)
    title = f"{title}\nSpearman's rank correlation {correlation:.2f}, n = {len(points)}"
    labels = (f"{name}, estimated without images, percent", f"{name}, measured on photos, percent")
    with _figure(path, (8, 6.5), title, labels, "upper left") as axes:
        top = 105 * max(max(point[1:]) for point in points)
        axes.plot([0, top], [0, top], ":", color="#BBBBBB", zorder=1)
        head_and_text = {point[0]: point[0].rsplit(", ", 1) for point in points}
        heads, texts = (dict.fromkeys(names) for names in zip(*head_and_text.values(), strict=True))
        color_of, marker_of = dict(zip(heads, cycle(_COLORS))), dict(zip(texts, cycle(_MARKERS)))
        for group, (head, text) in head_and_text.items():
            own = [point for point in points if point[0] == group]
            style = {"color": color_of[head], "marker": marker_of[text], "label": group, "s": 45, "alpha": 0.85}
            axes.scatter([100 * p[1] for p in own], [100 * p[2] for p in own], **style)
    return correlation


def _percent(summary: Summary | None) -> tuple[float, float]:
    """Mean and spread; 0 where there is none."""
    return (100 * summary.mean, 100 * (summary.spread or 0.0)) if summary else (0.0, 0.0)


@contextmanager
def _figure(path: Path, size: tuple[float, float], title: str, labels: tuple[str, str], legend: str) -> Iterator[Any]:
    """A figure of its own, with labels of both axes: neither pyplot's state nor the caller's backend is touched."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        axes: Any = figure.subplots()
        yield axes
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_title(title, loc="left")
        axes.legend(loc=legend, fontsize=11)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
