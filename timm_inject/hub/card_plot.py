"""The picture in the model card. Drawn where matplotlib is installed; a card without it is complete too."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm_inject.hub.card import SCORE_NAMES
from timm_inject.injected import InjectedClass, InjectionRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_card_plot"]

_MAX_CLASSES = 20
_MAX_LEANS = 3
_MAX_CHARACTERS = 40
_FEWEST_CHARACTERS = 4
_CHARACTERS_ACROSS = 55  # of the small labels, from 0 to 1
_BLUE, _GREY = "#4c72b0", "#b0b0b0"


def draw_card_plot(record: InjectionRecord, path: Path) -> bool:
    """Draw the self-score and, where the record has it, what each new class leans on.

    Args:
        record: What was injected.
        path: The PNG file to write.

    Returns:
        Whether it was drawn: not without matplotlib, nor where the record holds nothing to draw.
    """
    leaning = [entry for entry in record.classes if entry.leans_on][:_MAX_CLASSES]
    if not record.self_score or importlib.util.find_spec("matplotlib") is None:
        return False
    # The figure alone, without pyplot: that would choose a backend for the whole program.
    from matplotlib.figure import Figure

    height = max(2.4, 1.2 + 0.45 * len(leaning))
    figure = Figure(figsize=(10.0 if leaning else 6.0, height), layout="constrained")
    axes = figure.subplots(1, 2 if leaning else 1, squeeze=False)[0]
    _draw_score(axes[0], record.self_score)
    if leaning:
        _draw_leans(axes[1], leaning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's font lacks some scripts, and says so for each letter
        figure.savefig(path, dpi=120, format="png", metadata={"Software": None})
    return True


def _draw_score(axes: Axes, score: dict[str, float]) -> None:
    names = [SCORE_NAMES.get(name, name.replace("_", " ")) for name in score]
    bars = axes.barh(range(len(names)), list(score.values()), color=_BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    _label(axes, names, "self-score, estimated without images")
    axes.set_xlim(0, 1.15)  # room for the figures
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])


def _draw_leans(axes: Axes, entries: list[InjectedClass]) -> None:
    for position, entry in enumerate(entries):
        left = 0.0
        for number, (name, share) in enumerate(entry.leans_on[:_MAX_LEANS]):
            axes.barh(position, share, left=left, color=_BLUE if number == 0 else _GREY, edgecolor="white")
            # parse_math off: a dollar sign in a class name is a dollar sign.
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "parse_math": False, "clip_on": True}
            room = int(share * _CHARACTERS_ACROSS)
            if room >= _FEWEST_CHARACTERS:
                axes.text(left + share / 2, position, _clip(name, room), **style)
            left += share
    _label(axes, [entry.name for entry in entries], "seen classes that it leans on, by share")
    axes.set_xlim(0, 1)


def _label(axes: Axes, names: list[str], title: str) -> None:
    axes.set_yticks(range(len(names)), [_clip(name, _MAX_CHARACTERS) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _clip(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
