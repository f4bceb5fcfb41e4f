"""What a name may mean: one sense a class of the lexicon or a synset of timm's, the likeliest on a photo first.

A word may stand for several senses: "crane" is a bird and a machine. A hint picks one: "crane (machine)" or "crane, machine". A
head that knows only animals takes its crane as a bird, one of vehicles as a machine.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from timm_inject.text.lexicon import LexiconLine, read_lexicon
from timm_inject.text.synsets import Synset, read_synsets, top_kind
from timm_inject.text.words import is_wnid, match_key, singulars, split_hint

__all__ = ["Sense", "Senses", "load_senses", "usual_kinds"]

# A top kind with so large a share of the commonest one's classes is usual for a head. Chosen as docs/design.md tells ("Senses").
_USUAL_SHARE = 0.1
_MOST_USUAL = 3
# How well a name fits a sense: as the usual name of a lexicon line, as another name of one, as a synset's first lemma, as another.
_USUAL, _OTHER, _FIRST_LEMMA, _OTHER_LEMMA = range(4)
# How much a word of a hint says: a step of the kind or a name, a word of what is said, the field that all artefacts share.
_HIT_IN_KIND, _HIT_IN_TEXT = 3, 1
# Steps of the tree are singular nouns; people also write these.
_KIND_WORDS = {
    "beast": "animal", "beverage": "drink", "clothes": "clothing", "creature": "animal", "cutlery": "tool", "dish": "food",
    "electronics": "device", "flower": "plant", "fungus": "plant", "game": "sport", "garment": "clothing", "human": "person",
    "job": "person", "landscape": "place", "machine": "device", "meal": "food", "profession": "person", "room": "place",
    "scenery": "place", "utensil": "tool", "weapon": "tool", "wildlife": "animal",
}  # fmt: skip
# Artefacts that WordNet does not tell apart by number.
_THINGS = frozenset(
    (
        "building",
        "clothing",
        "container",
        "device",
        "furniture",
        "instrument",
        "object",
        "sport",
        "structure",
        "tool",
        "toy",
        "vehicle",
    )
)


@dataclass(frozen=True, slots=True)
class Sense:
    """One meaning.

    Attributes:
        names: The words for it, the usual one first.
        definition: What it is, as timm's synsets say; None where they lack it.
        sentence: What a photo of it shows, as the lexicon says; None where it lacks it.
        kind: Path in the lexicon's tree, "food/baked/flat bread"; None where it lacks it.
        wnid: WordNet id, or None.
    """

    names: tuple[str, ...]
    definition: str | None = None
    sentence: str | None = None
    kind: str | None = None
    wnid: str | None = None

    @property
    def key(self) -> str:
        """Tells senses apart: the WordNet id, else the usual name in the lexicon."""
        return self.wnid or f"lexicon:{self.names[0]}"

    @property
    def top_kind(self) -> str | None:
        """What it is in one word: "animal", "food", …; None for what is no thing."""
        return self.kind.partition("/")[0] if self.kind else top_kind(self.wnid or "n0")


class Senses:
    """Finds the senses of a name.

    Args:
        lines: The lexicon; of lines with the same name, usual names come first, then the order counts.
        synsets: timm's, by id; what has a line in the lexicon takes its definition from here.
    """

    def __init__(self, lines: Iterable[LexiconLine], synsets: dict[str, Synset]) -> None:
        self._synsets = synsets
        self._lines = tuple(lines)
        self._line_of_wnid = {line.wnid: position for position, line in enumerate(self._lines) if line.wnid}
        # match_key of a name -> (how well it fits, where the sense stands: a line's position or a synset's id).
        self._places: dict[str, list[tuple[int, int | str]]] = {}
        for position, line in enumerate(self._lines):
            for rank, name in enumerate(line.names):
                self._places.setdefault(match_key(name), []).append((_OTHER if rank else _USUAL, position))
        for wnid, synset in synsets.items():
            # What has a line in the lexicon is found by timm's words too, but last: they hold rare ones ("mole", a breakwater).
            where = self._line_of_wnid.get(wnid, wnid)
            for rank, lemma in enumerate(synset.lemmas):
                self._places.setdefault(match_key(lemma), []).append((_OTHER_LEMMA if rank else _FIRST_LEMMA, where))

    @functools.cached_property
    def _by_singular(self) -> dict[str, tuple[str, ...]]:
        """Singular of a plural name -> names."""
        return _invert((form, key) for key in self._places for form in singulars(key))

    @functools.cached_property
    def _by_joined(self) -> dict[str, tuple[str, ...]]:
        """Name without its spaces -> names."""
        return _invert((key.replace(" ", ""), key) for key in self._places)

    @functools.cached_property
    def _kind_steps(self) -> frozenset[str]:
        """Every step of the tree of kinds, as a word of a hint may name it."""
        return frozenset(word for line in self._lines for step in line.kind.split("/") for word in (step, *step.split()))

    @functools.cached_property
    def kind_counts(self) -> Counter[str]:
        """How many lines of the lexicon lie below each node of the tree of kinds; the tree itself is ""."""
        counts: Counter[str] = Counter()
        for line in self._lines:
            steps = line.kind.split("/")
            counts.update("/".join(steps[:depth]) for depth in range(len(steps) + 1))
        return counts

    def by_wnid(self, wnid: str) -> Sense | None:
        """The sense with this WordNet id, or None."""
        if wnid in self._line_of_wnid:
            return self._sense(self._line_of_wnid[wnid])
        return self._sense(wnid) if wnid in self._synsets else None

    def by_key(self, key: str) -> Sense | None:
        """The sense with this `Sense.key`, or None."""
        if not key.startswith("lexicon:"):
            return self.by_wnid(key)
        name = key.removeprefix("lexicon:")
        found = (self._sense(where) for rank, where in self._places.get(match_key(name), ()) if rank == _USUAL)
        return next((sense for sense in found if sense.key == key), None)

    def synset_names(self, wnid: str) -> tuple[str, ...]:
        """The lemmas that timm gives a synset, as its labels are written; () where it has none."""
        return self._synsets[wnid].lemmas if wnid in self._synsets else ()

    def find(self, name: str, kinds: Collection[str] = ()) -> tuple[Sense, ...]:
        """Return the senses of a name, likeliest first; () where it has none.

        Lines of the lexicon come before other synsets, a usual name before another name, and a name as it stands before one whose
        plural or lost space must be undone. Senses of the top kinds in `kinds`, such as `usual_kinds` gives for a head, come before
        all others. A hint in brackets or after a comma puts the senses first that it fits; one that names another kind of thing
        than every sense gives (), as a wrong meaning is worse than none. A WordNet id finds its sense.
        """
        if is_wnid(name):
            sense = self.by_wnid(name.strip())
            return () if sense is None else (sense,)
        if found := self._find_word(name, kinds):
            return found
        word, hint = split_hint(name)
        return self._pick(self._find_word(word, kinds), hint) if hint else ()

    def word_key(self, name: str) -> str:
        """Return one key for all spellings of a word: its `match_key`, with a plural or a lost space undone.

        They are undone only where the name as it stands is no known word and exactly one word is meant, so that "tabbies" and
        "tabby" are the same, but "sunglasses" and "sunglass" are not.
        """
        key = match_key(name)
        if key in self._places:
            return key
        words = dict.fromkeys(self._number_variants(key) or self._spacing_variants(key))
        return next(iter(words)) if len(words) == 1 else key

    def kind_of_hint(self, name: str) -> str | None:
        """The kind that the hint in a name states, "jaguar (car)": "vehicle/road/car"; None where it states none."""
        for word in split_hint(name)[1]:
            for form in (word, *singulars(word)):
                paths = [path for path in self.kind_counts if path.rpartition("/")[2] == form]
                if paths:
                    return min(paths, key=lambda path: (path.count("/"), path))
        return None

    def head_noun(self, name: str, kinds: Collection[str] = ()) -> Sense | None:
        """The sense of the last words of a name that is not known itself, as "garden scooter" is a scooter; or None."""
        words = match_key(split_hint(name)[0]).split()
        for start in range(1, len(words)):
            found = self._find_word(" ".join(words[start:]), kinds)
            if found and found[0].kind:
                return found[0]
        return None

    def _pick(self, senses: Sequence[Sense], hint: Sequence[str]) -> tuple[Sense, ...]:
        support = {sense.key: _support(sense, hint) for sense in senses}
        if any(support.values()):
            return tuple(sorted(senses, key=lambda sense: -support[sense.key]))
        states_a_kind = any(form in self._kind_steps or form in _KIND_WORDS for word in hint for form in (word, *singulars(word)))
        return () if states_a_kind else tuple(senses)

    def _find_word(self, name: str, kinds: Collection[str]) -> tuple[Sense, ...]:
        key = match_key(name)
        found = self._senses_of([key, *self._number_variants(key)], kinds)
        return found or self._senses_of(self._spacing_variants(key), kinds)

    def _number_variants(self, key: str) -> list[str]:
        forms = [form for form in singulars(key) if form in self._places]
        return [*forms, *self._by_singular.get(key, ())]

    def _spacing_variants(self, key: str) -> list[str]:
        words: list[str] = []
        for form in (key, *singulars(key)):
            joined = form.replace(" ", "")
            words += [joined] if joined in self._places else self._by_joined.get(joined, ())
        return words

    def _senses_of(self, keys: Sequence[str], kinds: Collection[str]) -> tuple[Sense, ...]:
        # The lexicon before all synsets, whichever variant fits; then the name as it stands before its variants.
        places = [
            (rank >= _FIRST_LEMMA, variant, rank, where)
            for variant, key in enumerate(dict.fromkeys(keys))
            for rank, where in self._places.get(key, ())
        ]
        places.sort(key=lambda place: place[:3])
        ordered = list(dict.fromkeys(where for *_, where in places))
        senses = [self._sense(where) for where in ordered]
        if not kinds:
            return tuple(senses)
        best = {where: rank for _, _, rank, where in reversed(places)}
        # A rare word for something else of the head's kind must not win over the usual meaning.
        suits = [best[where] <= _OTHER and _is_of(sense, kinds) for sense, where in zip(senses, ordered, strict=True)]
        return tuple(sense for wanted in (True, False) for sense, suit in zip(senses, suits, strict=True) if suit is wanted)

    def _sense(self, where: int | str) -> Sense:
        if isinstance(where, str):
            synset = self._synsets[where]
            return Sense(synset.lemmas, definition=synset.definition, wnid=where)
        line = self._lines[where]
        definition = self._synsets[line.wnid].definition if line.wnid in self._synsets else None
        return Sense(line.names, definition, line.sentence, line.kind, line.wnid)


@functools.cache
def load_senses() -> Senses:
    """The lexicon and timm's synsets together, read once in a process."""
    return Senses(read_lexicon(), read_synsets())


def usual_kinds(senses: Iterable[Sense]) -> frozenset[str]:
    """The top kinds, such as animals, that a specialised head knows: a word for another class of it likely means one of those.

    Returns:
        The kinds that many of the senses are of; () where there are more than three, as such a head knows things of all kinds.
    """
    counts = Counter(kind for sense in senses if (kind := sense.top_kind) is not None)
    usual = [kind for kind, count in counts.items() if count >= _USUAL_SHARE * max(counts.values())]
    return frozenset(usual) if len(usual) <= _MOST_USUAL else frozenset()


def _is_of(sense: Sense, kinds: Collection[str]) -> bool:
    """Whether a sense is of one of these top kinds; WordNet's numbers do not tell one kind of artefact from another."""
    if sense.kind is None and sense.top_kind == "object":
        return not _THINGS.isdisjoint(kinds)
    return sense.top_kind in kinds


def _support(sense: Sense, hint: Sequence[str]) -> int:
    """Say how well a hint fits a sense; 0 for not at all."""
    steps = sense.kind.split("/") if sense.kind else [sense.top_kind or ""]
    strong = {word for text in (*steps, *sense.names) for word in (text, *match_key(text).split())}
    if not sense.kind and sense.top_kind == "object":
        strong |= _THINGS
    said = set(match_key(f"{sense.definition or ''} {sense.sentence or ''}").split())
    said |= {form for word in said for form in singulars(word)}
    support = 0
    for word in hint:
        forms = {word, *singulars(word)}
        forms |= {_KIND_WORDS[form] for form in forms if form in _KIND_WORDS}
        support += _HIT_IN_KIND if forms & strong else _HIT_IN_TEXT if forms & said else 0
    return support


def _invert(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    inverted: dict[str, tuple[str, ...]] = {}
    for form, key in pairs:
        if form != key:
            inverted[form] = (*inverted.get(form, ()), key)
    return inverted
