"""Spelling: when two names are the same, what a plural is the plural of, and the hint that a name may carry."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = ["is_wnid", "match_key", "plurals", "singulars", "split_hint", "without_side"]

_WNID = re.compile(r"n\d{8}")
# A plus separates words only between them, as in "grizzly+bear".
_SEPARATORS = re.compile(r"(?:[\s_\-\u2010-\u2015\u2212/\\,.;:?!()\[\]{}\"\u201c\u201d]|(?<=\w)\+(?=\w))+")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'", "\u00b4": "'"})
_POSSESSIVE = re.compile(r"(?<=\w)'s?(?!\w)")
# Accents are dropped from Latin letters alone: in other scripts such a mark makes another letter.
_LATIN_ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")
_HINT = re.compile(r"(?P<word>[^(,]+?)\s*(?:\((?P<in_brackets>[^()]+)\)|,(?P<after_comma>.+))\s*")

_IRREGULAR_SINGULARS = {
    "cacti": "cactus", "children": "child", "dice": "die", "feet": "foot", "fungi": "fungus", "geese": "goose",
    "lice": "louse", "mice": "mouse", "oxen": "ox", "people": "person", "teeth": "tooth",
}  # fmt: skip
_IRREGULAR_PLURALS = {singular: plural for plural, singular in _IRREGULAR_SINGULARS.items()}
# How plurals end -> how their singulars do, beside the irregular ones.
_ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("s", ""), ("es", ""), ("es", "is"))
# Labels of scenes say so from where they are seen: "church/outdoor".
_SIDES = ("indoor", "indoors", "inside", "interior", "outdoor", "outdoors", "outside", "exterior")
# Of a hint, these say nothing about what is meant.
_STOP_WORDS = frozenset(
    ("a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "its", "of", "on", "or", "that", "the", "to", "with")
)


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
        return " ".join(text.split())  # nearly every name, and nothing below would change it
    text = text.translate(_APOSTROPHES)
    if not text.isascii():
        text = _LATIN_ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold())
        text = unicodedata.normalize("NFC", text)
    text = _SEPARATORS.sub(" ", text.replace(" & ", " and "))
    return " ".join(_POSSESSIVE.sub("", text).replace("'", "").split())


def singulars(key: str) -> Iterator[str]:
    """Yield what a key may be the plural of; most are no words, so look each up."""
    start, space, word = key.rpartition(" ")
    for singular in _singulars_of_word(word):
        yield f"{start}{space}{singular}"


def plurals(key: str) -> Iterator[str]:
    """Yield what may be the plural of a key: every name that has it among its `singulars`."""
    start, space, word = key.rpartition(" ")
    for plural in _plurals_of_word(word):
        yield f"{start}{space}{plural}"


def split_hint(name: str) -> tuple[str, tuple[str, ...]]:
    """Split "tie (clothing)" or "tie, clothing" into the word and the words of its hint; () where there is none."""
    found = _HINT.fullmatch(name.strip())
    if found is None:
        return name, ()
    hint = match_key(found["in_brackets"] or found["after_comma"])
    return found["word"], tuple(word for word in hint.split() if word not in _STOP_WORDS)


def without_side(name: str) -> str:
    """Take off what says from where a place is seen: "church outdoor" -> "church"."""
    place, _, side = match_key(name).rpartition(" ")
    return place if place and side in _SIDES else name


def _singulars_of_word(word: str) -> Iterator[str]:
    if word in _IRREGULAR_SINGULARS:
        yield _IRREGULAR_SINGULARS[word]
    if word.endswith("men"):
        yield f"{word[:-3]}man"
    if len(word) < 4 or word.endswith("ss"):
        return
    for plural, singular in _ENDINGS:
        if word.endswith(plural):
            yield f"{word.removesuffix(plural)}{singular}"


def _plurals_of_word(word: str) -> Iterator[str]:
    if word in _IRREGULAR_PLURALS:
        yield _IRREGULAR_PLURALS[word]
    if word.endswith("man"):
        yield f"{word[:-3]}men"
    for plural, singular in _ENDINGS:
        form = f"{word.removesuffix(singular)}{plural}"
        if word.endswith(singular) and len(form) >= 4 and not form.endswith("ss"):
            yield form
