"""The README.md that goes with a patched model: says which rows are synthetic, where they came from and how to undo them."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from timm_inject.injected import InjectedClass, InjectionRecord
from timm_inject.text import is_wnid

__all__ = ["BIBTEX", "CARD_NAME", "PLOT_NAME", "SCORE_NAMES", "escape", "is_own_card", "render_model_card", "sign_card"]

CARD_NAME = "README.md"
PLOT_NAME = "timm_inject.png"
_MAX_ROWS = 200
_MAX_CHARACTERS = 400
_MAX_LEANS = 3
# Of the licences that timm's tags state, those that the Hub knows by an id; it refuses a card that names any other as `license`.
_HUB_LICENSES = frozenset(
    {
        "apache-2.0",
        "apple-amlr",
        "apple-ascl",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "fair-noncommercial-research-license",
        "gemma",
        "mit",
        "other",
        "unknown",
    }
)
_MARK = re.compile(r"<!-- written by timm_inject; ([0-9a-f]{16}) -->\s*\Z")
# These reorder what stands beside them on the page.
_BIDI_CONTROLS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_IDS_TEXT = (
    '\nLabels such as `n01440764` are WordNet ids. `model.pretrained_cfg["label_descriptions"]` says what they mean; transformers '
    "shows the ids."
)
_CHANGED = "its row was changed after it was predicted, by further training or by hand"
SCORE_NAMES = {
    "zsl_accuracy": "new classes, told apart from each other",
    "seen_accuracy": "seen classes, among all",
    "unseen_accuracy": "new classes, among all",
    "harmonic_mean": "harmonic mean of the last two",
}

BIBTEX = """@inproceedings{christensen2023icis,
  title     = {Image-free Classifier Injection for Zero-Shot Classification},
  author    = {Christensen, Anders and Mancini, Massimiliano and Koepke, A. Sophia and Winther, Ole and Akata, Zeynep},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2023}
}"""


def render_model_card(
    config: Mapping[str, Any],
    record: InjectionRecord,
    *,
    repo_id: str | None = None,
    has_plot: bool = False,
    details: Mapping[str, Any] | None = None,
) -> str:
    """Write the card as Markdown with the Hub's metadata in front.

    Class names, descriptions and everything else that may come from a user or a file are escaped, so that markup in them shows
    as it was typed.

    Args:
        config: The model's `pretrained_cfg`, with its `architecture` and `label_names`.
        record: What was injected.
        repo_id: Where the model will be on the Hub; None for a folder.
        has_plot: Whether `PLOT_NAME` lies beside the card.
        details: Further content under timm's own keys of a `model_card`: `tags`, `license`, `license_name`, `license_link`,
            `description`, `details`, `usage`, `citation`; this is the caller's own Markdown, and is not escaped.
    """
    details = details or {}
    count = len(record.classes)
    what = f"{count} injected {'class' if count == 1 else 'classes'}"
    first, last = record.num_seen, record.num_classes - 1
    logits = f"Logit {first} is" if count == 1 else f"Logits {first} to {last} are"
    rows = "row was" if count == 1 else "rows were"
    parts = [
        *_metadata(config, record, details),
        f"# {escape(str(config.get('architecture') or 'timm model'))} with {what}",
        "",
        f"A timm model with {record.num_classes} outputs. Logits 0 to {first - 1} are the original classifier, bit for bit; an "
        f"image of theirs may go to a new class now. **{logits} synthetic:** {'its' if count == 1 else 'their'} {rows} predicted "
        f"from text by timm_inject; no image of {'this class' if count == 1 else 'these classes'} was seen. Check "
        f"{'it' if count == 1 else 'them'} on your own images before you rely on them.",
        "",
        *([str(details["description"]), ""] if details.get("description") else []),
        *_load(repo_id, config.get("label_names") or ()),
        *_classes(record),
        *_doubts(record),
        *_self_score(record, has_plot),
        *_made_with(record),
        *_undo(record),
        *_further(details),
        *_citation(details),
    ]
    return sign_card("\n".join(parts))


def sign_card(text: str) -> str:
    """Put a mark at the end by which `is_own_card` knows the text again, as long as nobody changes it."""
    body = text.rstrip() + "\n\n"
    return f"{body}<!-- written by timm_inject; {_digest(body)} -->\n"


def is_own_card(text: str) -> bool:
    """Whether timm_inject wrote this README.md and nobody has changed it since; only then it may be replaced."""
    text = text.replace("\r\n", "\n")
    mark = _MARK.search(text)
    return mark is not None and mark[1] == _digest(text[: mark.start()])


def escape(text: str) -> str:
    """Show the text as it was typed: no HTML, no Markdown, no link, no broken table; at most 400 characters."""
    text = re.sub(r"\s+", " ", _BIDI_CONTROLS.sub("", text)).strip()
    if len(text) > _MAX_CHARACTERS:
        text = text[: _MAX_CHARACTERS - 1] + "…"
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~>-])", r"\\\1", html.escape(text, quote=False))
    # Bare addresses become links in the Hub's Markdown.
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _metadata(config: Mapping[str, Any], record: InjectionRecord, details: Mapping[str, Any]) -> list[str]:
    tags = details.get("tags") or ["image-classification", "timm", "transformers", "timm_inject"]
    lines = ["---", "library_name: timm", "pipeline_tag: image-classification", *_yaml_list("tags", tags)]
    licence = {key: details.get(key) or config.get(key) for key in ("license", "license_name", "license_link")}
    stated = licence["license"]
    if isinstance(stated, str) and "license" not in details and stated not in _HUB_LICENSES:
        licence |= {"license": "other", "license_name": licence["license_name"] or stated}
    lines += [f"{key}: {_yaml(value)}" for key, value in licence.items() if isinstance(value, str)]
    if record.base_model:
        lines.append(f"base_model: {_yaml(record.base_model)}")
    return [*lines, *_yaml_list("datasets", record.datasets), "---"]


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string, whatever is in it


def _yaml_list(key: str, values: Iterable[object]) -> list[str]:
    items = [f"- {_yaml(str(value))}" for value in values]
    return [f"{key}:", *items] if items else []


def _load(repo_id: str | None, labels: Iterable[object]) -> list[str]:
    where = f"hf-hub:{repo_id}" if repo_id else "local-dir:FOLDER"
    about = "timm_inject is not needed." + ("" if repo_id else " Put this folder's path in place of `FOLDER`.")
    pipeline = [
        "",
        "With transformers:",
        "",
        "```python",
        "from transformers import pipeline",
        f'classify = pipeline("image-classification", model="{repo_id or "FOLDER"}")',
        "```",
    ]
    return [
        "## Load it",
        "",
        about,
        "",
        "```python",
        "import timm",
        f'model = timm.create_model("{where}", pretrained=True).eval()',
        'labels = model.pretrained_cfg["label_names"]',
        "```",
        *pipeline,
        *([_IDS_TEXT] if any(isinstance(label, str) and is_wnid(label) for label in labels) else []),
        "",
    ]


def _classes(record: InjectionRecord) -> list[str]:
    shown = record.classes[:_MAX_ROWS]
    with_leans = any(entry.leans_on for entry in shown)
    with_confidence = any(entry.confidence is not None for entry in shown)
    columns = ["logit", "name", "text beside the name", "text from"]
    columns += ["leans on"] * with_leans + ["confidence"] * with_confidence
    more = len(record.classes) - len(shown)
    return [
        "## Synthetic classes",
        "",
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(_cells(entry, with_leans, with_confidence))} |" for entry in shown),
        *([f"\nand {more} more: see `timm_inject` in config.json."] if more else []),
        "",
        *([_confidence_text(shown[-1].activation), ""] if with_confidence else []),
        *(["A class that leans on few seen ones is likely to be taken for them.", ""] if with_leans else []),
    ]


def _confidence_text(activation: str) -> str:
    what = "that a class is expected to win over all others"
    if activation == "sigmoid":
        what = "on which a class is expected to pass one half and to lead the new classes"
    return f"Confidence is the share of its own images {what}. It is estimated without images."


def _cells(entry: InjectedClass, with_leans: bool, with_confidence: bool) -> list[str]:
    cells = [
        str(entry.index),
        escape(entry.name),
        escape(" / ".join(entry.descriptions) or entry.definition or "") or "-",
        escape(" ".join(filter(None, [entry.description_source, entry.synset]))),
    ]
    if with_leans:
        leans = ", ".join(f"{escape(name)} {share:.0%}" for name, share in entry.leans_on[:_MAX_LEANS])
        cells.append(leans or "-")
    if with_confidence:
        cells.append("-" if entry.confidence is None else f"{entry.confidence:.2f}")
    return cells


def _doubts(record: InjectionRecord) -> list[str]:
    doubts = {entry.name: [*([_CHANGED] if entry.changed else []), *filter(None, [entry.warning])] for entry in record.classes}
    doubtful = [(name, texts) for name, texts in doubts.items() if texts]
    if not doubtful:
        return []
    lines = [f"- **{escape(name)}**: {escape('; '.join(texts))}" for name, texts in doubtful[:_MAX_ROWS]]
    more = len(doubtful) - len(lines)
    return ["## Doubtful classes", "", *lines, *([f"- and {more} more"] if more else []), ""]


def _self_score(record: InjectionRecord, has_plot: bool) -> list[str]:
    if not record.self_score:
        return []
    figures = [
        f"- {escape(SCORE_NAMES.get(name, name.replace('_', ' ')))}: {value:.3f}" for name, value in record.self_score.items()
    ]
    about = (
        "Estimated without images: seen classes were hidden, as many at a time as new ones were added (at most a fifth of them), "
        "their rows predicted from text, and both tried on features drawn from the head's weights. These are estimates for so many "
        "classes, as varied as the seen ones: more new classes, and look-alike ones, do worse."
    )
    plot = ["", f"![The self-score, and the seen classes that each new one leans on]({PLOT_NAME})"] if has_plot else []
    return ["## Self-score", "", about, "", *figures, *plot, ""]


def _made_with(record: InjectionRecord) -> list[str]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for entry in record.classes:
        how = (entry.mapper, str(entry.calibration or "none"), entry.activation, entry.encoder, str(entry.seed))
        groups.setdefault(how, []).append(entry.index)
    rows = [f"| {_ranges(logits)} | {' | '.join(map(escape, how))} |" for how, logits in groups.items()]
    versions = ", ".join(f"{escape(package)} {escape(version)}" for package, version in record.versions.items())
    return [
        "## Made with",
        "",
        "| logits | mapper | calibration | activation | encoder | seed |",
        "|---|---|---|---|---|---|",
        *rows[:_MAX_ROWS],
        "",
        f"{versions}." if versions else "",
        "",
    ]


def _ranges(logits: list[int]) -> str:
    """Write 3, 4, 5, 9 as "3 to 5, 9"."""
    parts: list[list[int]] = []
    for logit in logits:
        if parts and parts[-1][-1] == logit - 1:
            parts[-1].append(logit)
        else:
            parts.append([logit])
    texts = [str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts]
    return ", ".join(texts[:10]) + (", …" if len(texts) > 10 else "")


def _undo(record: InjectionRecord) -> list[str]:
    base = f" The base model is {escape(record.base_model)}." if record.base_model else ""
    return [
        "## Undo it",
        "",
        f"With timm_inject, this gives back the original classifier, bit for bit.{base}",
        "",
        "```python",
        "import timm_inject",
        "names = [entry.name for entry in timm_inject.injection_record(model).classes]",
        "timm_inject.remove(model, names)  # or only some of them",
        "```",
        "",
        f"Without it: the first {record.num_seen} rows of the classifier's weight and bias are the original ones.",
        "",
    ]


def _further(details: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    facts = details.get("details")
    if isinstance(facts, Mapping):
        shown = [f"- **{key}:** {', '.join(map(str, v)) if isinstance(v, list | tuple) else v}" for key, v in facts.items()]
        lines += ["## Model details", "", *shown, ""]
    if details.get("usage"):
        lines += ["## Usage", "", str(details["usage"]), ""]
    return lines


def _citation(details: Mapping[str, Any]) -> list[str]:
    more = details.get("citation") or []
    citations = [BIBTEX, *([more] if isinstance(more, str) else more)]
    about = (
        "Method: Christensen, Mancini, Koepke, Winther, Akata, *Image-free Classifier Injection for Zero-Shot Classification*, "
        "ICCV 2023, [arXiv 2308.10599](https://arxiv.org/abs/2308.10599)."
    )
    blocks = [line for text in citations for line in ("```bibtex", str(text), "```", "")]
    return ["## Citation", "", about, "", *blocks]
