"""The project's own lexicon: what photos of each class show, one class a line, one file a field.

Four columns, separated by tabs: names (the usual one first, separated by "; "), the WordNet id of this meaning where it is one
of ImageNet's, the kind (a path in the project's own tree, "food/baked/flat bread"), and one sentence of what is seen.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LexiconLine", "read_lexicon"]


@dataclass(frozen=True, slots=True)
class LexiconLine:
    """One class.

    Attributes:
        names: The usual name first, then other names.
        wnid: WordNet id of the meaning, or None.
        kind: Path in the tree of kinds.
        sentence: What a photo of it shows.
    """

    names: tuple[str, ...]
    wnid: str | None
    kind: str
    sentence: str


@functools.cache
def read_lexicon() -> tuple[LexiconLine, ...]:
    """Every line, in the order of the files' names; read once in a process."""
    return tuple(_read_lines())


def _read_lines() -> Iterator[LexiconLine]:
    folder = importlib.resources.files(__name__)
    for file in sorted((file for file in folder.iterdir() if file.name.endswith(".tsv")), key=lambda file: file.name):
        for line in file.read_text(encoding="utf-8").splitlines():
            names, wnid, kind, sentence = line.split("\t")
            yield LexiconLine(tuple(names.split("; ")), wnid or None, kind, sentence)
