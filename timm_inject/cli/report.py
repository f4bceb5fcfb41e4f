"""Results as lines of text, for the command line and the demo."""

import shutil
from collections.abc import Sequence

from timm_inject.cache import CacheReport
from timm_inject.calibration import Explanation, SelfScore
from timm_inject.images import GzslScores, Prediction
from timm_inject.injected import InjectionRecord
from timm_inject.text import ClassText, Sense, load_senses, match_key

__all__ = [
    "cache_lines",
    "count_classes",
    "explanation_lines",
    "how_to_write",
    "injection_lines",
    "look_up_lines",
    "prediction_lines",
    "price_lines",
    "score_lines",
    "self_score_lines",
]

_BAR_WIDTH = 24
_NAME_WIDTH = 28
_SHOWN_SENSES = 4
_LEAST_TEXT = 40


def prediction_lines(predictions: Sequence[Prediction]) -> list[str]:
    """One line a class: name, a bar as long as its probability, and a mark on new classes."""
    return [
        f"  {_clip(prediction.name):<{_NAME_WIDTH}} {_bar(prediction.probability)} {prediction.probability:6.1%}"
        f"{'  <- new' if prediction.is_new else ''}"
        for prediction in predictions
    ]


def price_lines(record: InjectionRecord) -> list[str]:
    """What the new classes are expected to cost and to win, in one sentence: the first thing to know of them."""
    score = record.self_score
    moved, before, after, won = (
        score.get(key) for key in ("moved_share", "seen_accuracy_before", "seen_accuracy", "unseen_accuracy")
    )
    parts = []
    if moved is not None:
        parts.append(f"Old classes give up {_about(moved)} of their images")
    elif after is not None:
        parts.append(f"Old classes win {_about(after)} of their images")
    if parts and before is not None and after is not None:
        parts[0] += f" ({after:.0%} right, {before:.0%} before)"
    if won is not None:
        parts.append(f"new ones win {_of_ten(won)} of theirs")
    if not parts:
        return []
    text = "; ".join(parts)
    return [f"{text[0].upper()}{text[1:]}. Estimated without images."]


def injection_lines(record: InjectionRecord, since: int = 0) -> list[str]:
    """One line an injected class: its logit, its text and where the text came from."""
    lines = []
    for entry in record.classes[since:]:
        origin = ", ".join(filter(None, [entry.description_source, entry.kind, entry.synset]))
        text = " / ".join(entry.descriptions) or entry.definition or "by its name alone"
        lines.append(f"  {entry.index}  {entry.name}: {text} ({origin})")
    return lines


def look_up_lines(texts: Sequence[ClassText]) -> list[str]:
    """A table: name, what it is taken to mean and whence; below it the other senses, and what to write for each.

    It is as wide as the terminal.
    """
    width = shutil.get_terminal_size((120, 24)).columns
    source_width = max(len("FROM"), *(len(text.source) for text in texts))
    name_width = min(max(len("NAME"), *(len(text.name) for text in texts)), _NAME_WIDTH)
    room = max(_LEAST_TEXT, width - name_width - source_width - 4)
    lines = [f"{'NAME':<{name_width}}  {'FROM':<{source_width}}  MEANS"]
    for text in texts:
        name = _clip(text.name, name_width)
        lines.append(f"{name:<{name_width}}  {text.source:<{source_width}}  {_clip(_meaning(text), room)}")
        indent = " " * (name_width + source_width + 4)
        shown = text.alternatives[:_SHOWN_SENSES]
        lines += [f"{indent}{_clip(f'or, written {how_to_write(text, sense)!r}, {_sense_line(sense)}', room)}" for sense in shown]
        if len(text.alternatives) > len(shown):
            lines.append(f"{indent}and {len(text.alternatives) - len(shown)} more (--json lists them)")
    return lines


def how_to_write(text: ClassText, sense: Sense) -> str:
    """The name with what picks another of its senses: a hint in brackets, or else the WordNet id as its description."""
    senses = load_senses()
    word = text.name.partition("(")[0].partition(",")[0].strip() or text.name
    steps = sense.kind.split("/") if sense.kind else [sense.top_kind or ""]
    # The head's kinds count too, so the hint has to do whatever they are.
    kinds = [(), *({other.top_kind or ""} for other in (*text.alternatives, *([text.sense] if text.sense else [])))]
    for hint in (*steps, *sense.names):
        written = f"{word} ({hint})"
        if hint and match_key(hint) != match_key(word):
            found = [senses.find(written, each) for each in kinds]
            if all(each and each[0].key == sense.key for each in found):
                return written
    return f"{text.name}: {sense.wnid}" if sense.wnid else f"{word} ({sense.names[0]})"


def explanation_lines(explanation: Explanation) -> list[str]:
    """What a row leans on and whose images it may take."""
    taken = _shares(explanation.takes_from) or "no old class, as far as can be told without images"
    return [
        f"{explanation.name} (class {explanation.index})",
        f"  leans on    {_shares(explanation.leans_on) or 'no old class'}",
        f"  takes from  {taken}",
    ]


def score_lines(scores: GzslScores) -> list[str]:
    """The scores, one a line, percentages of classes' means."""
    before = getattr(scores, "seen_accuracy_before", None)
    figures = [
        ("seen accuracy", scores.seen_accuracy),
        *([] if before is None else [("seen accuracy before the injection", before)]),
        ("unseen accuracy", scores.unseen_accuracy),
        ("harmonic mean", scores.harmonic_mean),
        ("unseen accuracy among new classes only", scores.zsl_accuracy),
        ("seen images moved to a new class", scores.moved_share),
    ]
    shown = [f"  {name:<40} {'no images' if value is None else f'{value:.1%}'}" for name, value in figures]
    images = "1 image" if scores.num_images == 1 else f"{scores.num_images} images"
    classes = "1 class" if len(scores.accuracy_of_class) == 1 else f"{len(scores.accuracy_of_class)} classes"
    size = getattr(scores, "input_size", None)
    return [f"{images} of {classes}{f', read at {size[1]} x {size[2]}' if size else ''}", *shown]


def self_score_lines(score: SelfScore) -> list[str]:
    """The estimates, one a line, and the classes that did worst and best."""
    further = {"seen_accuracy_before": "seen accuracy before", "moved_share": "seen images moved to a new class"}
    figures = [
        ("accuracy among the new classes only", f"{score.zsl_accuracy:.1%}"),
        ("unseen accuracy", f"{score.unseen_accuracy:.1%}"),
        ("seen accuracy", f"{score.seen_accuracy:.1%}"),
        ("harmonic mean", f"{score.harmonic_mean:.1%}"),
        *((text, f"{value:.1%}") for key, text in further.items() if (value := getattr(score, key, None)) is not None),
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


def count_classes(num_new: int, num_seen: int) -> str:
    """Say how many classes a model has, and how many of them are new."""
    return f"{num_seen + num_new} classes, {num_new} of them new" if num_new else f"its {num_seen} original classes"


def _meaning(text: ClassText) -> str:
    """The kind and the first text."""
    if not text.descriptions:
        return f"{text.kind}, by its words alone; no description" if text.kind else "nothing is known but its name"
    known_as = text.sense.names[0] if text.sense and match_key(text.sense.names[0]) != match_key(text.name) else None
    return ": ".join(part for part in (text.kind, known_as, text.descriptions[0]) if part)


def _sense_line(sense: Sense) -> str:
    said = sense.sentence or sense.definition or ", ".join(sense.names)
    return f"{sense.kind or sense.wnid}: {said}"


def _shares(shares: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.0%}" if share >= 0.005 else f"{name} <1%" for name, share in shares)


def _about(share: float) -> str:
    if share < 0.005:
        return "fewer than 1%" if share > 0 else "none"
    return f"about {share:.0%}"


def _of_ten(share: float) -> str:
    tenths = round(10 * share)
    if tenths in (0, 10):
        return "nearly all" if tenths else "fewer than 1 of 10"
    return f"about {tenths} of 10"


def _bar(share: float) -> str:
    filled = round(share * _BAR_WIDTH)
    return "█" * filled + "·" * (_BAR_WIDTH - filled)


def _clip(text: str, width: int = _NAME_WIDTH) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
