"""The README.md that goes with a patched model: says which rows are synthetic and where they came from."""

from __future__ import annotations

import html
import json
import re

from torch import nn

from timm_inject.record import InjectedClass, InjectionRecord

__all__ = ["CARD_NAME", "render_model_card"]

CARD_NAME = "README.md"
_MAX_ROWS = 200


def render_model_card(model: nn.Module, record: InjectionRecord) -> str:
    """Write the card as Markdown with the Hub's metadata in front.

    Class names and descriptions are the user's text: they are escaped, so that markup in them shows as it was typed.
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    architecture = str(config.get("architecture") or type(model).__name__)
    count = len(record.classes)
    return "\n".join(
        [
            *_metadata(config),
            f"# {_escape(architecture)} with {count} injected {'class' if count == 1 else 'classes'}",
            "",
            f"A timm model with {record.num_seen + count} outputs. Logits 0 to {record.num_seen - 1} are the original classifier, "
            f"bit for bit. **Logits {record.num_seen} to {record.num_seen + count - 1} are synthetic:** their rows were predicted "
            "from text by timm_inject; no image of these classes was seen. Check them on your own images before you rely "
            "on them.",
            "",
            "## Load it",
            "",
            "timm_inject is not needed. Put this folder's path, or `hf-hub:` and the repository's id, in place of `FOLDER`.",
            "",
            "```python",
            "import timm",
            'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()',
            "```",
            "",
            "## Synthetic classes",
            "",
            "| logit | name | text beside the name | text from | mapper | calibration | encoder | seed |",
            "|---|---|---|---|---|---|---|---|",
            *(_table_row(entry) for entry in record.classes[:_MAX_ROWS]),
            *([f"\nand {count - _MAX_ROWS} more: see `timm_inject` in config.json."] if count > _MAX_ROWS else []),
            "",
            *_self_score(record),
            "## Made with",
            "",
            ", ".join(f"{package} {version}" for package, version in record.versions.items()) + ".",
            "",
            "Method: Christensen, Mancini, Koepke, Winther, Akata, *Image-free Classifier Injection for Zero-Shot "
            "Classification*, ICCV 2023, [arXiv 2308.10599](https://arxiv.org/abs/2308.10599).",
            "",
        ]
    )


def _metadata(config: dict[str, object]) -> list[str]:
    lines = ["---", "library_name: timm", "tags:", "- image-classification", "- timm", "- timm_inject"]
    if config.get("license"):
        # JSON strings are YAML strings, whatever is in them.
        lines.append(f"license: {json.dumps(config['license'])}")
    return [*lines, "---"]


def _table_row(entry: InjectedClass) -> str:
    cells = [
        str(entry.index),
        _escape(entry.name),
        _escape(" / ".join(entry.descriptions)) or "-",
        " ".join(filter(None, [entry.description_source, entry.synset])),
        entry.mapper,
        entry.calibration or "none",
        _escape(entry.encoder),
        str(entry.seed),
    ]
    return f"| {' | '.join(cells)} |"


def _self_score(record: InjectionRecord) -> list[str]:
    if not record.self_score:
        return []
    figures = [f"- {name.replace('_', ' ')}: {value:.3f}" for name, value in record.self_score.items()]
    about = (
        "Estimated without images: seen classes were hidden, their rows predicted from text, and both tried on features drawn "
        "from the head's weights. These are estimates for classes as varied as the seen ones; look-alike names do worse."
    )
    return ["## Self-score", "", about, "", *figures, ""]


def _escape(text: str) -> str:
    """Show the text as it was typed: no HTML, no Markdown, no broken table."""
    escaped = html.escape(re.sub(r"\s+", " ", text).strip())
    return re.sub(r"([\\`*_{}\[\]()#+!|~>-])", r"\\\1", escaped)
