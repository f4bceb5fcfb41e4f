"""The page's own texts as HTML. Whatever comes from a visitor, a model or an error is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from session import Added, Checked

from timm_inject import Explanation, Prediction
from timm_inject.hub import SCORE_NAMES
from timm_inject.text import ClassText

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

_SOURCES = {"user": "your own words", "config": "the model's config", "none": "nothing found: by its name alone"}


def alert_html(error: object) -> str:
    """An error in the words of the API, read out at once by screen readers."""
    return f'<div class="alert" role="alert">{escape(str(error))}</div>'


def definition_rows(checked: Checked) -> list[list[str]]:
    """Rows of the table: name, definition, where it is from."""
    return [[entry.name, next(iter(entry.descriptions), ""), _source(entry)] for entry in checked.texts]


def checked_html(checked: Checked) -> str:
    """How many names are new to which model."""
    number = len(checked.texts)
    names = "1 name is" if number == 1 else f"{number} names are"
    return (
        f'<p role="status">{names} new to <b>{escape(checked.model_name)}</b>, which knows {checked.num_seen} classes. '
        "Is each definition the thing you mean? If not, write your own into the table, best one of what can be seen, or one of the "
        "ids below it. An emptied cell is looked up again.</p>"
    )


def meanings_html(checked: Checked) -> str:
    """Further meanings of the names, with the ids that choose them; nothing where there are none."""
    entries = [entry for entry in checked.texts if entry.alternatives]
    if not entries:
        return ""
    lists = "".join(
        f"<h4>{escape(entry.name)}</h4><ul>"
        + "".join(
            f"<li><code>{escape(other.wnid or other.names[0])}</code> {escape(other.sentence or other.definition or '')}</li>"
            for other in entry.alternatives
        )
        + "</ul>"
        for entry in entries
    )
    plural = "name has" if len(entries) == 1 else "names have"
    return f"<details><summary>{len(entries)} {plural} other meanings too</summary>{lists}</details>"


def added_html(added: Added) -> str:
    """The warnings, then the self-score."""
    warned = "".join(f'<div class="warning" role="alert">{escape(text)}</div>' for text in added.warnings)
    if not added.record.self_score:
        return warned + "<p>No self-score: the model has too few classes.</p>"
    items = "".join(
        f'<div class="figure"><dt>{escape(SCORE_NAMES.get(name, name))}</dt><dd>{value:.0%}</dd></div>'
        for name, value in added.record.self_score.items()
    )
    about = (
        "Estimated without an image, by hiding classes that the model knows and predicting them back from their names. It speaks "
        "for names as varied as those; the bars below are for yours."
    )
    return f'{warned}<p>{about}</p><dl class="figures">{items}</dl>'


def estimates(added: Added) -> dict[str, float]:
    """Name -> share of its own images that it is expected to win, for the bars."""
    return {entry.name: entry.confidence for entry in added.record.classes if entry.confidence is not None}


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


def _source(entry: ClassText) -> str:
    return entry.kind or entry.wnid or _SOURCES.get(entry.source, entry.source)
