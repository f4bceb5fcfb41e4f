"""The page's own texts as HTML. Whatever comes from a visitor, a model or an error is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from session import Added, Checked

from timm_inject import ClassText, Explanation, Prediction, Sense

__all__ = [
    "added_html",
    "alert_html",
    "checked_html",
    "definition_rows",
    "estimates",
    "explanation_html",
    "meanings_html",
    "prediction_shares",
    "pushed_html",
]

# What the seen classes pay and the new ones win comes first; other scores follow.
_PRICE_NAMES = {
    "moved_share": "images of seen classes that go to a new one",
    "seen_accuracy_before": "images of seen classes that were right before",
    "seen_accuracy": "images of seen classes that are right now",
    "unseen_accuracy": "images of new classes that are right",
}
_SCORE_NAMES = {
    "zsl_accuracy": "new classes, told apart from each other",
    "harmonic_mean": "harmonic mean of seen and new classes",
}


def alert_html(error: object) -> str:
    """An error in the words of the API, read out at once by screen readers."""
    return f'<div class="alert" role="alert">{escape(str(error))}</div>'


def definition_rows(checked: Checked) -> list[list[str]]:
    """Rows of the table: name, the first text that it has, what it is taken to mean."""
    return [[entry.name, next(iter(entry.descriptions), ""), _meaning(entry)] for entry in checked.texts]


def checked_html(checked: Checked) -> str:
    """How many names are new to which model."""
    number = len(checked.texts)
    names = "1 name is" if number == 1 else f"{number} names are"
    return (
        f'<p role="status">{names} new to <b>{escape(checked.model_name)}</b>, which knows {checked.num_seen} classes. '
        "Is each the thing that you mean? If another meaning is, write its id, which stands below the table, in the place of the "
        "text. A text of your own, best one of what can be seen, stands beside the meaning. An emptied cell is looked up again.</p>"
    )


def meanings_html(checked: Checked) -> str:
    """Further meanings of the names, each with what picks it; nothing where there are none."""
    entries = [entry for entry in checked.texts if entry.alternatives]
    if not entries:
        return ""
    lists = "".join(
        f"<h4>{escape(entry.name)}</h4><ul>"
        + "".join(
            f"<li>{_picked_by(entry, other)}: {escape(other.sentence or other.definition or '')} "
            f'<span class="kind">{escape(other.kind or "")}</span></li>'
            for other in entry.alternatives
        )
        + "</ul>"
        for entry in entries
    )
    plural = "name has" if len(entries) == 1 else "names have"
    return f"<details><summary>{len(entries)} {plural} other meanings too</summary>{lists}</details>"


def added_html(added: Added) -> str:
    """The warnings, what is doubtful in words, what the new classes cost, and then how good they will be."""
    warned = "".join(f'<div class="warning" role="alert">{escape(text)}</div>' for text in added.warnings)
    doubtful = "".join(
        f"<li><b>{escape(entry.name)}</b>: {escape(entry.warning)}</li>" for entry in added.record.classes if entry.warning
    )
    warned += f'<ul class="doubtful">{doubtful}</ul>' if doubtful else ""
    scores = added.record.self_score
    if not scores:
        return warned + "<p>No self-score: the model has too few classes.</p>"
    price = {_PRICE_NAMES[name]: scores[name] for name in _PRICE_NAMES if name in scores}
    others = {_SCORE_NAMES.get(name, name): value for name, value in scores.items() if name not in _PRICE_NAMES}
    about = (
        "Estimated without an image, by hiding classes that the model knows and predicting them back from their names. It speaks "
        "for names as varied as those; the bars below are for yours."
    )
    return f"{warned}<h3>What it costs, and what it brings</h3>{_figures(price)}<p>{about}</p>{_figures(others)}"


def estimates(added: Added) -> dict[str, float]:
    """Name -> share of its own images that it is expected to win, for the bars; what is doubtful is told in words instead."""
    return {entry.name: entry.confidence for entry in added.record.classes if entry.confidence is not None and not entry.warning}


def explanation_html(explanation: Explanation) -> str:
    """Say in a sentence what the bars show."""
    taken = (
        "the second the seen classes whose images it may take, and the share of them."
        if explanation.takes_from
        else "and it is not expected to take images from any seen class."
    )
    return (
        f"<p>The first chart shows the seen classes whose rows make up that of <b>{escape(explanation.name)}</b> (output "
        f"{explanation.index}), {taken}</p>"
    )


def prediction_shares(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Class -> probability, for the bars: new classes are marked, and two classes of one name keep apart."""
    shares: dict[str, float] = {}
    for entry in predictions:
        name = f"{entry.name} (new)" if entry.is_new else entry.name
        shares[f"{name} ({entry.index})" if name in shares else name] = entry.probability
    return shares


def pushed_html(url: str, warnings: Sequence[str]) -> str:
    """Where the model is now, after what the library has to say."""
    warned = "".join(f'<div class="warning" role="alert">{escape(text)}</div>' for text in warnings)
    # What a server answers must not become a script.
    place = f'<a href="{escape(url)}" rel="noopener" target="_blank">{escape(url)}</a>' if url.startswith("http") else escape(url)
    return f'{warned}<p role="status">Pushed: {place}</p>'


def _meaning(entry: ClassText) -> str:
    """The kind of thing that a name is taken for, and where that is from if not from the lexicon."""
    if entry.source == "user":
        return f"your own words, and {entry.kind}" if entry.kind else "your own words"
    if entry.source == "none":
        return f"{entry.kind}, by the name alone" if entry.kind else "nothing found: by its name alone"
    return entry.kind or entry.wnid or "the model's config"


def _picked_by(entry: ClassText, other: Sense) -> str:
    """What a visitor writes to take another meaning: its id in the table, or the name with a hint in the names box."""
    if other.wnid:
        return f"<code>{escape(other.wnid)}</code>"
    hint = (other.kind or "").rpartition("/")[2]
    return f"<code>{escape(entry.name)} ({escape(hint)})</code> in the names box"


def _figures(values: Mapping[str, float]) -> str:
    items = "".join(f'<div class="figure"><dt>{escape(name)}</dt><dd>{value:.0%}</dd></div>' for name, value in values.items())
    return f'<dl class="figures">{items}</dl>' if items else ""
