"""What timm knows about words: ImageNet's synsets, with their names and short definitions.

A synset is one meaning. Its lemmas are the words for it ("tabby, tabby cat"), and a word may stand for several
meanings: "crane" is a bird and a machine. A word may carry a hint that picks one: "crane (bird)" or "crane, bird".
"""

import contextlib
import functools
import gc
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from timm.data.imagenet_info import ImageNetInfo

__all__ = ["Lexicon", "Synset", "is_wnid", "label_set_wnids", "load_lexicon", "match_key", "usual_fields"]

# timm has no list of all synsets, but together these two label sets hold every one that it has words for.
_LABEL_SETS_WITH_ALL_SYNSETS = ("imagenet-21k-goog", "imagenet-22k-ms")

_WNID = re.compile(r"n\d{8}")
_SEPARATORS = re.compile(r"[\s_\-\u2010-\u2015\u2212/\\,.;:()\[\]{}\"\u201c\u201d]+")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'", "\u00b4": "'"})
_POSSESSIVE = re.compile(r"(?<=\w)'s?(?!\w)")
# Accents are dropped from Latin letters alone: in other scripts such a mark makes another letter.
_LATIN_ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")
_HINT = re.compile(r"(?P<word>[^(,]+?)\s*(?:\((?P<in_brackets>[^()]+)\)|,(?P<after_comma>.+))\s*")

_IRREGULAR_SINGULARS = {
    "cacti": "cactus", "children": "child", "dice": "die", "feet": "foot", "fungi": "fungus", "geese": "goose",
    "lice": "louse", "mice": "mouse", "oxen": "ox", "people": "person", "teeth": "tooth",
}  # fmt: skip

# WordNet numbers its nouns field by field, so the number of a synset tells a hint such as "(animal)" what it is about
# where the definition itself does not use the word.
_FIELDS = (
    (range(1_300_000, 2_665_985), "animal beast creature wildlife"),
    (range(2_665_985, 4_700_000), "artifact building clothing device machine object thing tool vehicle"),
    (range(7_550_000, 7_970_000), "dish drink food meal"),
    (range(9_190_000, 9_500_000), "landscape nature place"),
    (range(9_600_000, 10_900_000), "human person profession"),
    (range(11_530_000, 13_252_000), "flower fungus plant tree"),
)
# A field with so large a share of the commonest field's classes is usual for a head. Chosen with ImageNet-12k's classes outside
# ImageNet-1k: in heads of 40 neighbours in WordNet, 87% instead of 79% of the ambiguous names of 20 others are taken in the right
# sense, with 0.05 to 0.5 alike; in heads of 1000 classes of all kinds it changes nothing up to 0.1 and does harm from 0.5 on.
_USUAL_SHARE = 0.1
# Of a hint, these say nothing about what is meant.
_STOP_WORDS = frozenset(
    ("a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "its", "of", "on", "or", "that", "the", "to", "with")
)
_HIT_IN_TEXT = 2
_HIT_IN_FIELD = 1


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning.

    Attributes:
        wnid: Its WordNet id, such as "n02123045".
        lemmas: The words for it, the usual one first.
        definition: What it is, in a few words.
    """

    wnid: str
    lemmas: tuple[str, ...]
    definition: str


class Lexicon:
    """Finds the meanings of a word.

    Args:
        synsets: All meanings; their order decides between equally good matches.
        pictured: Ids of those that people photograph, which come before others.
    """

    def __init__(self, synsets: Iterable[Synset], pictured: Collection[str] = ()) -> None:
        # Things before ideas, well-pictured things before others.
        self._synsets = tuple(sorted(synsets, key=lambda synset: _standing(synset, pictured)))
        self._pictured = pictured
        self._position = {synset.wnid: position for position, synset in enumerate(self._synsets)}
        # Key of a lemma -> places of its synsets: the position where it is the synset's first lemma, else the position and their
        # number. Tuples of numbers, as Python's search for garbage passes them by; lists of pairs would set off a whole one.
        self._by_lemma: dict[str, tuple[int, ...]] = {}
        for position, synset in enumerate(self._synsets):
            for rank, lemma in enumerate(synset.lemmas):
                key = match_key(lemma)
                place = position + (len(self._synsets) if rank else 0)
                self._by_lemma[key] = (*self._by_lemma.get(key, ()), place)

    # Made when first needed, which for names that are words of the lexicon is never.
    @functools.cached_property
    def _by_singular(self) -> dict[str, tuple[str, ...]]:
        """Singular of a plural lemma -> lemmas."""
        return _invert((form, key) for key in self._by_lemma for form in _singulars(key))

    @functools.cached_property
    def _by_joined(self) -> dict[str, tuple[str, ...]]:
        """Lemma without its spaces -> lemmas."""
        return _invert((key.replace(" ", ""), key) for key in self._by_lemma)

    def __len__(self) -> int:
        return len(self._synsets)

    def by_wnid(self, wnid: str) -> Synset | None:
        """Return the synset with this id, or None."""
        position = self._position.get(wnid)
        return None if position is None else self._synsets[position]

    def find(self, name: str, fields: Collection[str] = ()) -> tuple[Synset, ...]:
        """Return the meanings of a name, likeliest first; () where it has none.

        A synset whose first lemma is the name comes before one that has it as a further lemma, and that before one
        that needs a plural undone. Only where none of these fits are spaces ignored ("sea shore" for "seashore").
        Among the equally good, things come before ideas, what people photograph before other things, and meanings from
        `fields`, such as `usual_fields` gives for a head, before others. Ties keep the order of the lexicon.

        A hint in brackets or after a comma puts the meanings that it fits first; a hint that fits none gives (),
        as a wrong definition is worse than no definition. A WordNet id finds its synset.
        """
        if is_wnid(name):
            synset = self.by_wnid(name.strip())
            return () if synset is None else (synset,)
        found = self._find_word(name, fields)
        support = {} if found else self._support_of_senses(name, fields)
        return found or (tuple(sorted(support, key=lambda synset: -support[synset])) if any(support.values()) else ())

    def hinted_sense(self, name: str) -> Synset | None:
        """Return the meaning that the hint in a name tells from all others of its word.

        None where the name has no hint or is a word with it, where the word has one meaning, which the hint only qualifies
        ("pizza (with pineapple)"), and where the hint fits several meanings alike, or none.
        """
        support = self._support_of_senses(name, ())
        if len(support) < 2 or self._find_word(name, ()):
            return None
        best, second = sorted(support.values(), reverse=True)[:2]
        return max(support, key=lambda synset: support[synset]) if best > second else None

    def _support_of_senses(self, name: str, fields: Collection[str]) -> dict[Synset, int]:
        """How well the hint in a name fits each meaning of its word; {} where it has none."""
        hint = _HINT.fullmatch(name.strip())
        if hint is None:
            return {}
        hint_words = [word for word in match_key(hint["in_brackets"] or hint["after_comma"]).split() if word not in _STOP_WORDS]
        return {synset: _support(synset, hint_words) for synset in self._find_word(hint["word"], fields)}

    def word_key(self, name: str) -> str:
        """Return one key for all spellings of a word: its `match_key`, with a plural or a lost space undone.

        They are undone only where the name as it stands is no word of the lexicon and exactly one word of it is
        meant, so that "tabbies" and "tabby" are the same, but "sunglasses" and "sunglass" are not.
        """
        key = match_key(name)
        if key in self._by_lemma:
            return key
        words = dict.fromkeys(self._number_variants(key) or self._spacing_variants(key))
        return next(iter(words)) if len(words) == 1 else key

    def _find_word(self, name: str, fields: Collection[str]) -> tuple[Synset, ...]:
        key = match_key(name)
        found = self._synsets_of([key, *self._number_variants(key)], fields)
        return found or self._synsets_of(self._spacing_variants(key), fields)

    def _number_variants(self, key: str) -> list[str]:
        singulars = [form for form in _singulars(key) if form in self._by_lemma]
        return [*singulars, *self._by_singular.get(key, ())]

    def _spacing_variants(self, key: str) -> list[str]:
        words: list[str] = []
        for form in (key, *_singulars(key)):
            joined = form.replace(" ", "")
            words += [joined] if joined in self._by_lemma else self._by_joined.get(joined, ())
        return words

    def _synsets_of(self, keys: Iterable[str], fields: Collection[str]) -> tuple[Synset, ...]:
        def order(place: int) -> tuple[object, ...]:
            rank, position = divmod(place, len(self._synsets))
            synset = self._synsets[position]
            return rank, _standing(synset, self._pictured), _field_of(synset.wnid) not in fields, position

        places: list[int] = []
        for key in keys:
            found = self._by_lemma.get(key, ())
            places += sorted(found, key=order if fields else None) if len(found) > 1 else found
        return tuple(self._synsets[position] for position in dict.fromkeys(place % len(self._synsets) for place in places))


@functools.cache
def load_lexicon() -> Lexicon:
    """Read the synsets that timm ships, once in a process.

    timm's public `ImageNetInfo` gives all of it, so neither its data files nor its private attributes are touched.
    """
    with _without_garbage_collection():
        first, second = _LABEL_SETS_WITH_ALL_SYNSETS
        info = ImageNetInfo(first)  # each label set's object describes every synset
        wnids = {*info.label_names(), *label_set_wnids(second)}
        pictured = frozenset(label_set_wnids("imagenet-12k"))
        return Lexicon((_read_synset(info, wnid) for wnid in sorted(wnids)), pictured)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Python looks for garbage each time that many objects were made; beside all of torch's that takes longer than making these."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def usual_fields(synsets: Iterable[Synset]) -> frozenset[str]:
    """The fields, such as animals, that many of these are from: a word for another class of theirs likely means one of those."""
    counts = Counter(field for synset in synsets if (field := _field_of(synset.wnid)) is not None)
    return frozenset(field for field, count in counts.items() if count >= _USUAL_SHARE * max(counts.values()))


def _standing(synset: Synset, pictured: Collection[str]) -> tuple[bool, bool]:
    """Sorts things before ideas, and among things those that people photograph before others."""
    return _field_of(synset.wnid) is None, synset.wnid not in pictured


def _field_of(wnid: str) -> str | None:
    """The words for the field that a synset is from, or None where it is no animal, thing, food, person, place or plant."""
    number = int(wnid[1:])
    return next((words for numbers, words in _FIELDS if number in numbers), None)


@functools.cache
def label_set_wnids(label_set: str) -> tuple[str, ...]:
    """Return the WordNet ids of a label set that timm ships, in the order of its outputs."""
    return tuple(ImageNetInfo(label_set).label_names())


def _read_synset(info: ImageNetInfo, wnid: str) -> Synset:
    lemmas = info.label_name_to_description(wnid)
    detailed = info.label_name_to_description(wnid, detailed=True)
    return Synset(wnid, tuple(lemmas.split(", ")), detailed.removeprefix(f"{lemmas}: "))


def is_wnid(name: str) -> bool:
    """Tell whether a name has the form of a WordNet noun id, such as "n02123045"."""
    return _WNID.fullmatch(name.strip()) is not None


def match_key(name: str) -> str:
    """Return the normal form in which names are compared.

    Case, accents on Latin letters, underscores, hyphens, brackets, commas, repeated spaces and possessive "'s" do not
    count: "Brewer_Blackbird" and "Brewer's blackbird" have the same key, "crane" and "crane (machine)" have not.
    """
    text = name.casefold()
    if text.isascii() and text.replace(" ", "").isalnum():
        return " ".join(text.split())  # nearly every lemma, and nothing below would change it
    text = text.translate(_APOSTROPHES)
    if not text.isascii():
        text = _LATIN_ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold())
        text = unicodedata.normalize("NFC", text)
    text = _SEPARATORS.sub(" ", text)
    return " ".join(_POSSESSIVE.sub("", text).replace("'", "").split())


def _singulars(key: str) -> Iterator[str]:
    """Yield what a key may be the plural of; most are no words, so look each up."""
    start, space, word = key.rpartition(" ")
    for singular in _singulars_of_word(word):
        yield f"{start}{space}{singular}"


def _singulars_of_word(word: str) -> Iterator[str]:
    if word in _IRREGULAR_SINGULARS:
        yield _IRREGULAR_SINGULARS[word]
    if word.endswith("men"):
        yield f"{word[:-3]}man"
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return
    if word.endswith("ies"):
        yield f"{word[:-3]}y"
    if word.endswith("ves"):
        yield f"{word[:-3]}f"
        yield f"{word[:-3]}fe"
    yield word[:-1]
    if word.endswith("es"):
        yield word[:-2]
        yield f"{word[:-2]}is"


def _support(synset: Synset, hint_words: list[str]) -> int:
    """Say how well a hint fits a meaning; 0 for not at all."""
    text = set(match_key(" ".join([synset.definition, *synset.lemmas])).split())
    text.update([form for word in text for form in _singulars_of_word(word)])
    field = set((_field_of(synset.wnid) or "").split())
    support = 0
    for word in hint_words:
        forms = {word, *_singulars_of_word(word)}
        support += _HIT_IN_TEXT if forms & text else _HIT_IN_FIELD if forms & field else 0
    return support


def _invert(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    inverted: dict[str, tuple[str, ...]] = {}
    with _without_garbage_collection():
        for form, key in pairs:
            if form != key:
                inverted[form] = (*inverted.get(form, ()), key)
    return inverted
