"""What timm knows about words: ImageNet's synsets, with their names and short definitions, and its label sets."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from timm.data.imagenet_info import ImageNetInfo

__all__ = ["Synset", "Synsets", "label_set_wnids", "read_synsets", "top_kind"]

# timm has no list of all synsets, but together these two label sets hold every one that it has words for.
_LABEL_SETS_WITH_ALL_SYNSETS = ("imagenet-21k-goog", "imagenet-1k")
# WordNet numbers its nouns field by field, so the number of a synset tells what it is about; None is no thing. Source: Fellbaum
# (ed.), "WordNet: An Electronic Lexical Database", 1998; ids are byte offsets of WordNet 3.0's noun file.
_FIELDS = (
    ("n01300000", "animal"),
    ("n02665985", "object"),
    ("n04700000", None),
    ("n07550000", "food"),
    ("n07970000", None),
    ("n09190000", "place"),
    ("n09500000", None),
    ("n09600000", "person"),
    ("n10900000", None),
    ("n11530000", "plant"),
    ("n13252000", None),
)
_FIELD_STARTS = [start for start, _ in _FIELDS]


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


class Synsets(Mapping[str, Synset]):
    """Synsets by id; each is made when it is asked for, as most of them never are.

    Args:
        lemmas: Id -> the words as timm writes them, "tabby, tabby cat"; of equally good meanings, this order counts.
        definition: Gives the definition of an id.
    """

    def __init__(self, lemmas: Mapping[str, str], definition: Callable[[str], str]) -> None:
        self._lemmas = lemmas
        self._definition = definition

    def __getitem__(self, wnid: str) -> Synset:
        return Synset(wnid, self.lemmas(wnid), self._definition(wnid))

    def __contains__(self, wnid: object) -> bool:
        return wnid in self._lemmas

    def __iter__(self) -> Iterator[str]:
        return iter(self._lemmas)

    def __len__(self) -> int:
        return len(self._lemmas)

    def lemmas(self, wnid: str) -> tuple[str, ...]:
        """The words for a synset, the usual one first."""
        return tuple(self._lemmas[wnid].split(", "))


@functools.cache
def read_synsets() -> Synsets:
    """The synsets that timm ships, those of things that people photograph first; read once in a process.

    timm's public `ImageNetInfo` gives all of it, so neither its data files nor its private attributes are touched.
    """
    first, second = _LABEL_SETS_WITH_ALL_SYNSETS
    info = ImageNetInfo(first)  # each label set's object describes every synset
    pictured = frozenset(label_set_wnids("imagenet-12k"))
    wnids = {*info.label_names(), *label_set_wnids(second)}
    ordered = sorted(wnids, key=lambda wnid: (top_kind(wnid) is None, wnid not in pictured, wnid))

    def definition(wnid: str) -> str:
        lemmas: str = info.label_name_to_description(wnid)
        detailed: str = info.label_name_to_description(wnid, detailed=True)
        return detailed.removeprefix(f"{lemmas}: ")

    return Synsets({wnid: info.label_name_to_description(wnid) for wnid in ordered}, definition)


@functools.cache
def label_set_wnids(label_set: str) -> tuple[str, ...]:
    """Return the WordNet ids of a label set that timm ships, in the order of its outputs."""
    return tuple(ImageNetInfo(label_set).label_names())


def top_kind(wnid: str) -> str | None:
    """The first step of a synset's kind as far as its number tells; None for what is no thing."""
    field = bisect_right(_FIELD_STARTS, wnid) - 1
    return _FIELDS[field][1] if field >= 0 else None
