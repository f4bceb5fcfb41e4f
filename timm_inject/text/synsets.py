"""What timm knows about words: ImageNet's synsets, with their names and short definitions, and its label sets."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from timm.data.imagenet_info import ImageNetInfo

__all__ = ["Synset", "label_set_wnids", "read_synsets", "top_kind"]

# timm has no list of all synsets, but together these two label sets hold every one that it has words for.
_LABEL_SETS_WITH_ALL_SYNSETS = ("imagenet-21k-goog", "imagenet-22k-ms")
# WordNet numbers its nouns field by field, so the number of a synset tells what it is about. Source: Fellbaum (ed.), "WordNet: An
# Electronic Lexical Database", 1998; ids are byte offsets of WordNet 3.0's noun file.
_FIELDS = (
    (range(1_300_000, 2_665_985), "animal"),
    (range(2_665_985, 4_700_000), "object"),
    (range(7_550_000, 7_970_000), "food"),
    (range(9_190_000, 9_500_000), "place"),
    (range(9_600_000, 10_900_000), "person"),
    (range(11_530_000, 13_252_000), "plant"),
)


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning as WordNet tells it.

    Attributes:
        wnid: Its WordNet id, such as "n02123045".
        lemmas: The words for it, the usual one first.
        definition: What it is, in a few words.
    """

    wnid: str
    lemmas: tuple[str, ...]
    definition: str


@functools.cache
def read_synsets() -> dict[str, Synset]:
    """The synsets that timm ships by id, those of things that people photograph first; read once in a process.

    timm's public `ImageNetInfo` gives all of it, so neither its data files nor its private attributes are touched.
    """
    first, second = _LABEL_SETS_WITH_ALL_SYNSETS
    info = ImageNetInfo(first)  # each label set's object describes every synset
    pictured = frozenset(label_set_wnids("imagenet-12k"))
    wnids = {*info.label_names(), *label_set_wnids(second)}
    ordered = sorted(wnids, key=lambda wnid: (top_kind(wnid) is None, wnid not in pictured, wnid))
    return {wnid: _read_synset(info, wnid) for wnid in ordered}


@functools.cache
def label_set_wnids(label_set: str) -> tuple[str, ...]:
    """Return the WordNet ids of a label set that timm ships, in the order of its outputs."""
    return tuple(ImageNetInfo(label_set).label_names())


def top_kind(wnid: str) -> str | None:
    """The first step of a synset's kind as far as its number tells; None for what is no thing."""
    number = int(wnid[1:])
    return next((kind for numbers, kind in _FIELDS if number in numbers), None)


def _read_synset(info: ImageNetInfo, wnid: str) -> Synset:
    lemmas = info.label_name_to_description(wnid)
    detailed = info.label_name_to_description(wnid, detailed=True)
    return Synset(wnid, tuple(lemmas.split(", ")), detailed.removeprefix(f"{lemmas}: "))
