"""Pictures of results, for a talk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.published import SEEN_CLASS_CURVE_CUB
from benchmarks.report import group_results
from benchmarks.results import Result, summarize

__all__ = ["plot_bars", "plot_curve_by_seen_classes", "plot_seen_unseen", "plot_self_score"]

_STYLE: Any = {
    "font.size": 13,
    "axes.titlesize": 15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "white",
    "figure.constrained_layout.use": True,
}
# Of the Okabe-Ito palette, which colour-blind people can tell apart.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C", "#7A5195", "#B8A100")
_MARKERS = "osD^vP*X"
_OWN = "icis"


def plot_bars(results: Sequence[Result], path: Path, *, title: str) -> bool:
    """T1 and H of each method as bars; H without and with calibration where both were measured."""
    groups = group_results(results, lambda setting: (setting.method, setting.calibration))
    if not groups:
        return False
    has_calibration = any(calibration == "harmonic" for _, calibration in groups)
    series = {"T1": ("harmonic" if has_calibration else "none", "zsl_accuracy"), "H, raw rows": ("none", "harmonic_mean")}
    if has_calibration:
        series["H, calibrated"] = ("harmonic", "harmonic_mean")
    methods = list(dict.fromkeys(method for method, _ in groups))
    means = {
        label: {method: summarize(r.scores.get(name) for r in groups.get((method, calibration), [])) for method in methods}
        for label, (calibration, name) in series.items()
    }
    last = list(means.values())[-1]
    methods.sort(key=lambda method: last[method].mean if last[method] else -1.0)  # type: ignore[union-attr]
    with _figure(path, (9, 1.6 + 0.55 * len(methods))) as axes:
        height = 0.8 / len(series)
        for offset, (label, values) in enumerate(means.items()):
            places = [index + (len(series) / 2 - offset - 0.5) * height for index in range(len(methods))]
            known = [values[method] for method in methods]
            lengths = [100 * value.mean if value else 0.0 for value in known]
            spreads = [100 * value.spread if value and value.spread else 0.0 for value in known]
            axes.barh(places, lengths, height * 0.92, xerr=spreads, label=label, color=_COLORS[offset], ecolor="#444444")
            for place, length, spread in zip(places, lengths, spreads, strict=True):
                axes.text(length + spread + 0.8, place, f"{length:.0f}", va="center", fontsize=10, color="#333333")
        axes.set_yticks(range(len(methods)), methods)
        axes.set_xlabel("percent")
        axes.set_title(title, loc="left")
        axes.legend(loc="lower right")
    return True


def plot_seen_unseen(results: Sequence[Result], path: Path, *, title: str) -> bool:
    """Seen accuracy against unseen accuracy as one offset moves, a line a method, with the calibrated point on it."""
    groups = group_results(results, lambda setting: (setting.method, setting.calibration))
    calibrations = ("harmonic", "none") if any(key[1] == "harmonic" for key in groups) else ("none",)
    chosen = {key[0]: group for key, group in groups.items() if key[1] == calibrations[0] and group[0].curve}
    if not chosen:
        return False
    areas = {method: summarize(result.scores.get("area") for result in group) for method, group in chosen.items()}
    order = sorted(chosen, key=lambda method: -areas[method].mean if areas[method] else 0.0)  # type: ignore[union-attr]
    with _figure(path, (9, 6.5)) as axes:
        for color, method in zip(_COLORS, order, strict=False):
            unseen, seen = zip(*chosen[method][0].curve, strict=True)
            area = areas[method]
            label = f"{method} (area {100 * area.mean:.0f})" if area else method
            axes.plot(
                [100 * value for value in unseen], [100 * value for value in seen],
                color=color, label=label, linewidth=3 if method == _OWN else 1.6, zorder=3 if method == _OWN else 2,
            )  # fmt: skip
            for calibration, marker in zip(calibrations, ("o", "x"), strict=False):
                for result in groups.get((method, calibration), [])[:1]:
                    point = result.scores
                    axes.plot(100 * (point["unseen_accuracy"] or 0), 100 * (point["seen_accuracy"] or 0), marker, color=color, ms=9)
        if len(calibrations) == 2:
            axes.plot([], [], "o", color="#444444", label="calibrated without images")
        axes.plot([], [], "x" if len(calibrations) == 2 else "o", color="#444444", label="raw rows")
        axes.set_xlabel("unseen accuracy, percent")
        axes.set_ylabel("seen accuracy, percent")
        axes.set_xlim(left=-1)
        axes.set_ylim(bottom=0)
        axes.set_title(title, loc="left")
        axes.legend(loc="lower left", fontsize=11)
    return True


def plot_curve_by_seen_classes(results: Sequence[Result], path: Path, *, title: str) -> bool:
    """T1 against the number of seen classes that the mapper learned from."""
    groups = group_results(results, lambda setting: (setting.method, str(setting.num_seen)))
    if not groups:
        return False
    with _figure(path, (9, 5.5)) as axes:
        for color, method in zip(_COLORS, dict.fromkeys(key[0] for key in groups), strict=False):
            sizes = sorted(int(key[1]) for key in groups if key[0] == method)
            values = [summarize(r.scores.get("zsl_accuracy") for r in groups[method, str(size)]) for size in sizes]
            means = [100 * value.mean if value else float("nan") for value in values]
            spreads = [100 * value.spread if value and value.spread else 0.0 for value in values]
            axes.errorbar(sizes, means, yerr=spreads, fmt="o-", color=color, label=method, linewidth=2, capsize=3)
        if results[0].setting.benchmark == "cub":
            sizes, means = list(SEEN_CLASS_CURVE_CUB), list(SEEN_CLASS_CURVE_CUB.values())
            axes.plot(sizes, means, "s--", color="#8C8C8C", label="published ICIS, full CUB, 50 unseen")
        axes.set_xlabel("seen classes that the mapper learns from")
        axes.set_ylabel("T1, percent")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_title(title, loc="left")
        axes.legend(loc="lower right")
    return True


def plot_self_score(points: Sequence[tuple[str, float, float]], path: Path, *, title: str, name: str) -> float | None:
    """Self-score against real score, a colour a head or dataset and a marker a text.

    Args:
        points: ("head, text", self-score, real score), fractions in [0, 1].
        path: The picture.
        title: Over it.
        name: What is scored, for the axes.

    Returns:
        Spearman's rank correlation; None, and no picture, for fewer than 3 points.
    """
    if len(points) < 3:
        return None
    from scipy.stats import spearmanr

    correlation = float(spearmanr([point[1] for point in points], [point[2] for point in points]).statistic)
    with _figure(path, (8, 6.5)) as axes:
        top = 105 * max(max(point[1:]) for point in points)
        axes.plot([0, top], [0, top], ":", color="#BBBBBB", zorder=1)
        head_and_text = {point[0]: point[0].rsplit(", ", 1) for point in points}
        heads, texts = (dict.fromkeys(names) for names in zip(*head_and_text.values(), strict=True))
        color_of, marker_of = dict(zip(heads, cycle(_COLORS))), dict(zip(texts, cycle(_MARKERS)))
        for group, (head, text) in head_and_text.items():
            own = [point for point in points if point[0] == group]
            style = {"color": color_of[head], "marker": marker_of[text], "label": group, "s": 45, "alpha": 0.85}
            axes.scatter([100 * p[1] for p in own], [100 * p[2] for p in own], **style)
        axes.set_xlabel(f"{name}, estimated without images, percent")
        axes.set_ylabel(f"{name}, measured on photos, percent")
        axes.set_title(f"{title}\nSpearman's rank correlation {correlation:.2f}, n = {len(points)}", loc="left")
        axes.legend(fontsize=10, loc="upper left")
    return correlation


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A figure of its own: neither pyplot's state nor the caller's backend is touched."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        yield figure.subplots()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
