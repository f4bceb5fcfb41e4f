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
from timm_inject.text.synsets import Synsets, read_synsets, top_kind
from timm_inject.text.words import is_wnid, match_key, plurals, singulars, split_hint, without_side

__all__ = ["Sense", "Senses", "load_senses", "usual_kinds"]

# A top kind with so large a share of the commonest one's classes is usual for a head. Chosen as docs/design.md tells ("Senses").
_USUAL_SHARE = 0.1
_MOST_USUAL = 3
# How well a name fits a sense: as the usual name of a lexicon line, as another name of one, as a synset's first lemma, as another.
_USUAL, _OTHER, _FIRST_LEMMA, _OTHER_LEMMA = range(4)
# How much a word of a hint says: as a step of the kind or a name, as a word of what is said.
_HIT_IN_KIND, _HIT_IN_TEXT = 3, 1
# Steps of the tree are singular nouns; people also write these, and mean such a step.
_KIND_WORDS = {
    "beast": "animal", "beverage": "drink", "clothes": "clothing", "creature": "animal", "cutlery": "tool", "dish": "food",
    "electronics": "device", "fantasy": "mythical", "flower": "plant", "fungus": "plant", "game": "sport", "garment": "clothing",
    "human": "person", "job": "person", "landscape": "place", "machine": "device", "meal": "food", "music": "instrument",
    "profession": "person", "room": "place", "scenery": "place", "sport": "athlete", "utensil": "tool", "weapon": "tool",
    "wildlife": "animal",
}  # fmt: skip
# Artefacts, which WordNet does not tell apart by number.
_THINGS = frozenset((
    "building", "clothing", "container", "device", "furniture", "instrument", "object", "sport", "structure", "tool", "toy",
    "vehicle",
))  # fmt: skip


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

    def __init__(self, lines: Iterable[LexiconLine], synsets: Synsets) -> None:
        self._synsets = synsets
        self._lines = tuple(lines)
        self._line_of_wnid = {line.wnid: position for position, line in enumerate(self._lines) if line.wnid}
        # A sense stands at the position of its line, or after all lines at the position of its synset.
        self._wnids = tuple(synsets)
        self._num_positions = len(self._lines) + len(self._wnids)
        # match_key of a name -> its places: how well it fits, times `_num_positions`, and the position of the sense. Numbers alone,
        # as Python's search for garbage passes tuples of them by; tens of thousands of pairs would set off a whole one.
        self._places: dict[str, tuple[int, ...]] = {}
        for position, line in enumerate(self._lines):
            self._add_names(line.names, _USUAL, position)
        for position, wnid in enumerate(self._wnids, start=len(self._lines)):
            # What has a line in the lexicon is found by timm's words too, but last: they hold rare ones ("mole", a breakwater).
            self._add_names(synsets.lemmas(wnid), _FIRST_LEMMA, self._line_of_wnid.get(wnid, position))

    def _add_names(self, names: Iterable[str], fit: int, position: int) -> None:
        """Index a sense by its names, of which the first fits so well and the others one less."""
        place, places = fit * self._num_positions + position, self._places
        for name in names:
            key = match_key(name)
            known = places.get(key)
            places[key] = (*known, place) if known else (place,)
            place = (fit + 1) * self._num_positions + position

    @functools.cached_property
    def _by_joined(self) -> dict[str, tuple[str, ...]]:
        """Name without its spaces -> names; made when first needed, which for names that are known words is never."""
        joined: dict[str, tuple[str, ...]] = {}
        for key in self._places:
            if " " in key:
                form = key.replace(" ", "")
                joined[form] = (*joined.get(form, ()), key)
        return joined

    @functools.cached_property
    def _by_last_word(self) -> dict[str, tuple[int, ...]]:
        """Last word of the lexicon's names of several words -> the positions of their lines, those of usual names first."""
        positions: dict[str, tuple[int, ...]] = {}
        for usual in (True, False):
            for position, line in enumerate(self._lines):
                for name in line.names[:1] if usual else line.names[1:]:
                    _, space, word = match_key(name).rpartition(" ")
                    if space:
                        positions[word] = (*positions.get(word, ()), position)
        return positions

    @functools.cached_property
    def _top_kinds_of_step(self) -> dict[str, set[str]]:
        """Every step of the tree of kinds, as a word of a hint may name it -> the top kinds that have it; a top kind has itself."""
        tops: dict[str, set[str]] = {}
        for path in self.kind_counts:
            top, _, _ = path.partition("/")
            step = path.rpartition("/")[2]
            for word in (step, *step.split()):
                tops.setdefault(word, set()).add(top)
        return tops | {path: {path} for path in self.kind_counts if path and "/" not in path}

    @functools.cached_property
    def kind_counts(self) -> Counter[str]:
        """How many lines of the lexicon lie below each node of the tree of kinds; the tree itself is ""."""
        counts: Counter[str] = Counter()
        for kind, number in Counter(line.kind for line in self._lines).items():
            steps = kind.split("/")
            for depth in range(len(steps) + 1):
                counts["/".join(steps[:depth])] += number
        return counts

    def by_wnid(self, wnid: str) -> Sense | None:
        """The sense with this WordNet id, or None."""
        if wnid in self._line_of_wnid:
            return self._sense(self._line_of_wnid[wnid])
        return self._sense_of_synset(wnid) if wnid in self._synsets else None

    def by_key(self, key: str) -> Sense | None:
        """The sense with this `Sense.key`, or None."""
        if not key.startswith("lexicon:"):
            return self.by_wnid(key)
        name = key.removeprefix("lexicon:")
        found = (self._sense(place) for place in self._places.get(match_key(name), ()) if place < len(self._lines))
        return next((sense for sense in found if sense.key == key), None)

    def synset_names(self, wnid: str) -> tuple[str, ...]:
        """The lemmas that timm gives a synset, as its labels are written; () where it has none."""
        return self._synsets.lemmas(wnid) if wnid in self._synsets else ()

    def find(self, name: str, kinds: Collection[str] = ()) -> tuple[Sense, ...]:
        """Return the senses of a name, likeliest first; () where it has none.

        Lines of the lexicon come before other synsets, a usual name before another name, and a name as it stands before one whose
        plural or lost space must be undone. Senses of the top kinds in `kinds`, such as `usual_kinds` gives for a head, come before
        all others. A hint in brackets or after a comma puts the senses first that it fits; first of all what both together name:
        "trunk (car)" is a car trunk, "horn (instrument)" a French horn. A hint that names another kind of thing than every sense
        gives (), as a wrong meaning is worse than none. Labels of scenes are understood: "church outdoor" is a church, "stadium
        baseball" a baseball stadium. A WordNet id finds its sense.
        """
        if is_wnid(name):
            sense = self.by_wnid(name.strip())
            return () if sense is None else (sense,)
        found = self._find_word(name, kinds)
        if any(sense.sentence for sense in found):
            return found
        word, hint = split_hint(name)
        hinted = self._find_hinted(word, hint, kinds) if hint else ()
        return hinted or found or self._find_scene(name if hint else word, kinds)

    def word_key(self, name: str) -> str:
        """Return one key for all spellings of a word: its `match_key`, with a plural or a lost space undone.

        They are undone only where exactly one word is meant, and the name as it stands is no known word or its singular means the
        same, so that "tabbies" and "tabby" are the same, but "sunglasses" and "sunglass" are not.
        """
        key = match_key(name)
        if key in self._places:
            return next((form for form in singulars(key) if self._likeliest(form) == self._likeliest(key)), key)
        words = dict.fromkeys(self._number_variants(key) or self._spacing_variants(key))
        return next(iter(words)) if len(words) == 1 else key

    def says_more(self, name: str, sense: Sense) -> bool:
        """Whether the hint in a name says more than which sense is meant: "pizza (burnt)" does, "crane (bird)" not."""
        return any(_support(sense, [word]) < _HIT_IN_KIND for word in split_hint(name)[1])

    def kind_of_hint(self, name: str) -> str | None:
        """The kind that the hint in a name states, "jaguar (car)": "vehicle/road/car"; None where it states none."""
        for word in split_hint(name)[1]:
            for form in (word, *singulars(word)):
                paths = [path for path in self.kind_counts if path.rpartition("/")[2] == form]
                if paths:
                    return min(paths, key=lambda path: (path.count("/"), path))
        return None

    def head_noun(self, name: str, kinds: Collection[str] = ()) -> Sense | None:
        """The sense of the last words of a name that is not known itself: "flying scooter" is a scooter; None where it has none."""
        words = match_key(split_hint(name)[0]).split()
        for start in range(1, len(words)):
            found = self._find_word(" ".join(words[start:]), kinds)
            if found and found[0].kind:
                return found[0]
        return None

    def _find_scene(self, name: str, kinds: Collection[str]) -> tuple[Sense, ...]:
        if found := self._find_word(without_side(name), kinds):
            return found
        words = match_key(name).split()
        turned = self._find_in_lexicon([" ".join(words[::-1])]) if len(words) == 2 else None
        return (turned,) if turned else ()

    def _find_hinted(self, word: str, hint: Sequence[str], kinds: Collection[str]) -> tuple[Sense, ...]:
        stated = {top for each in hint for form in (each, *singulars(each)) for top in self._top_kinds_of(form)}
        picked = self._pick(self._find_word(word, kinds), hint, stated)
        together = next((found for each in ((*hint, word), (word, *hint)) if (found := self._find_compound(each))), None)
        if together is None and not any(sense.top_kind in stated for sense in picked):
            together = self._find_ending(word, hint, stated)
        return tuple(dict.fromkeys(picked if together is None else (together, *picked)))

    def _pick(self, senses: Sequence[Sense], hint: Sequence[str], stated: Collection[str]) -> tuple[Sense, ...]:
        """The senses that a hint fits first; () where it states other top kinds than all of them are of."""
        support = {sense.key: _support(sense, hint) for sense in senses}
        # "Nail (tool)" is no tool in the tree of kinds, but near enough.
        kinds = stated if _THINGS.isdisjoint(stated) else _THINGS.union(stated)
        if stated and not any(support.values()) and not any(_is_of(sense, kinds) for sense in senses):
            return ()
        return tuple(sorted(senses, key=lambda sense: -support[sense.key]))

    def _find_compound(self, words: Sequence[str]) -> Sense | None:
        """What the lexicon calls by all these words together."""
        key = " ".join(match_key(word) for word in words)
        return self._find_in_lexicon([key, *self._number_variants(key), *self._spacing_variants(key)])

    def _find_in_lexicon(self, keys: Iterable[str]) -> Sense | None:
        """The first line that has one of these keys, as its usual name if any does."""
        places = (place for key in keys for place in sorted(self._places.get(key, ())))
        return next(
            (self._sense(place % self._num_positions) for place in places if place < _FIRST_LEMMA * self._num_positions), None
        )

    def _find_ending(self, word: str, hint: Sequence[str], kinds: Collection[str]) -> Sense | None:
        """Of the lexicon's names that end with this word, and of the senses of these top kinds, the one that the hint fits best."""
        senses = (self._sense(position) for position in self._by_last_word.get(match_key(word), ()))
        fitting = [sense for sense in senses if sense.top_kind in kinds and _support(sense, hint) >= _HIT_IN_KIND]
        return max(fitting, key=lambda sense: _support(sense, hint), default=None)

    def _top_kinds_of(self, step: str) -> Collection[str]:
        tops = self._top_kinds_of_step
        return tops.get(step, set()) | tops.get(_KIND_WORDS.get(step, step), set())

    def _find_word(self, name: str, kinds: Collection[str]) -> tuple[Sense, ...]:
        key = match_key(name)
        found = self._senses_of([key, *self._number_variants(key)], kinds)
        return found or self._senses_of(self._spacing_variants(key), kinds)

    def _likeliest(self, key: str) -> int | None:
        """Where the sense stands that a key means by itself; None where it means nothing."""
        return min(self._places[key]) % self._num_positions if key in self._places else None

    def _number_variants(self, key: str) -> list[str]:
        return [form for form in (*singulars(key), *plurals(key)) if form in self._places]

    def _spacing_variants(self, key: str) -> list[str]:
        words: list[str] = []
        for form in (key, *singulars(key)):
            joined = form.replace(" ", "")
            words += [joined] if joined in self._places else self._by_joined.get(joined, ())
        return words

    def _senses_of(self, keys: Sequence[str], kinds: Collection[str]) -> tuple[Sense, ...]:
        # The lexicon before all synsets, whichever variant fits; then the name as it stands before its variants.
        places = [
            (rank >= _FIRST_LEMMA, variant, rank, position)
            for variant, key in enumerate(dict.fromkeys(keys))
            for rank, position in (divmod(place, self._num_positions) for place in self._places.get(key, ()))
        ]
        places.sort(key=lambda place: place[:3])
        ordered = list(dict.fromkeys(position for *_, position in places))
        senses = [self._sense(position) for position in ordered]
        if not kinds:
            return tuple(senses)
        best = {position: rank for _, _, rank, position in reversed(places)}
        # A rare word for something else of the head's kind must not win over the usual meaning.
        suits = [best[position] <= _OTHER and _is_of(sense, kinds) for sense, position in zip(senses, ordered, strict=True)]
        return tuple(sense for wanted in (True, False) for sense, suit in zip(senses, suits, strict=True) if suit is wanted)

    def _sense(self, position: int) -> Sense:
        if position >= len(self._lines):
            return self._sense_of_synset(self._wnids[position - len(self._lines)])
        line = self._lines[position]
        definition = self._synsets[line.wnid].definition if line.wnid and line.wnid in self._synsets else None
        return Sense(line.names, definition, line.sentence, line.kind, line.wnid)

    def _sense_of_synset(self, wnid: str) -> Sense:
        synset = self._synsets[wnid]
        return Sense(synset.lemmas, definition=synset.definition, wnid=wnid)


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
