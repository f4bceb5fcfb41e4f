"""Results as lines of text, for the command line and the demo."""

from collections.abc import Sequence

from timm_inject.cache import CacheReport
from timm_inject.calibration import SelfScore
from timm_inject.images import GzslScores, Prediction
from timm_inject.injected import InjectionRecord

__all__ = ["cache_lines", "injection_lines", "prediction_lines", "score_lines", "self_score_lines"]

_BAR_WIDTH = 24
_NAME_WIDTH = 28


def prediction_lines(predictions: Sequence[Prediction]) -> list[str]:
    """One line a class: name, a bar as long as its probability, and a mark on new classes."""
    return [
        f"  {_clip(prediction.name):<{_NAME_WIDTH}} {_bar(prediction.probability)} {prediction.probability:6.1%}"
        f"{'  <- new' if prediction.is_new else ''}"
        for prediction in predictions
    ]


def injection_lines(record: InjectionRecord, since: int = 0) -> list[str]:
    """One line an injected class: its logit, its text and where the text came from."""
    lines = []
    for entry in record.classes[since:]:
        origin = ", ".join(filter(None, [entry.description_source, entry.kind, entry.synset]))
        text = " / ".join(entry.descriptions) or entry.definition or "by its name alone"
        lines.append(f"  {entry.index}  {entry.name}: {text} ({origin})")
    return lines


def score_lines(scores: GzslScores) -> list[str]:
    """The scores, one a line, percentages of classes' means."""
    figures = [
        ("seen accuracy", scores.seen_accuracy),
        ("unseen accuracy", scores.unseen_accuracy),
        ("harmonic mean", scores.harmonic_mean),
        ("unseen accuracy among new classes only", scores.zsl_accuracy),
        ("seen images moved to a new class", scores.moved_share),
    ]
    shown = [f"  {name:<40} {'no images' if value is None else f'{value:.1%}'}" for name, value in figures]
    images = "1 image" if scores.num_images == 1 else f"{scores.num_images} images"
    classes = "1 class" if len(scores.accuracy_of_class) == 1 else f"{len(scores.accuracy_of_class)} classes"
    return [f"{images} of {classes}", *shown]


def self_score_lines(score: SelfScore) -> list[str]:
    """The estimates, one a line, and the classes that did worst and best."""
    figures = [
        ("accuracy among the new classes only", f"{score.zsl_accuracy:.1%}"),
        ("unseen accuracy", f"{score.unseen_accuracy:.1%}"),
        ("seen accuracy", f"{score.seen_accuracy:.1%}"),
        ("harmonic mean", f"{score.harmonic_mean:.1%}"),
        ("cosine of predicted and true row", f"{score.row_cosine:.3f}"),
        ("median rank of the true row", f"{score.median_rank:g}"),
    ]
    by_cosine = sorted(score.classes, key=lambda entry: entry.cosine)
    return [
        f"Estimated without images, {score.num_new} of {score.num_seen} classes hidden at a time, mapper {score.mapper}:",
        *(f"  {name:<40} {value}" for name, value in figures),
        f"  hardest: {', '.join(entry.name for entry in by_cosine[:5])}",
        f"  easiest: {', '.join(entry.name for entry in reversed(by_cosine[-5:]))}",
    ]


def cache_lines(report: CacheReport, *, cleared: bool) -> list[str]:
    """The cache's folder, and one line a kind of entry."""
    if report.directory is None:
        return ["The cache is switched off."]
    lines = [f"  {kind:<12} {number:>6} files  {report.sizes[kind] / 1e6:8.1f} MB" for kind, number in report.entries.items()]
    limit = "" if cleared else f", at most {report.max_bytes / 1e6:.0f} MB"
    return [f"{'Deleted from' if cleared else 'Cache in'} {report.directory}{limit}", *lines]


def _bar(share: float) -> str:
    filled = round(share * _BAR_WIDTH)
    return "█" * filled + "·" * (_BAR_WIDTH - filled)


def _clip(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
