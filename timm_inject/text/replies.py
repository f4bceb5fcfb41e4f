"""What a language model answered, as a description in the lexicon's manner: cleaned, and checked by the lexicon's own rules."""

from __future__ import annotations

import re
from dataclasses import dataclass

from timm_inject.text.words import match_key, split_hint

__all__ = ["MAX_WORDS", "MIN_WORDS", "UNKNOWN", "Reply", "read_reply"]

MIN_WORDS, MAX_WORDS = 12, 40
# What the model is asked to answer where it does not know a name.
UNKNOWN = "UNKNOWN"

_THOUGHTS = re.compile(r"<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
# Templates that open the thoughts themselves leave the closing tag alone.
_END_OF_THOUGHTS = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
# Of gpt-oss: what comes before the last message are its thoughts.
_CHANNELS = re.compile(r"\A.*<\|message\|>", re.DOTALL)
_SPECIAL_TOKENS = re.compile(r"<\|[^|<>]*\|>|</?s>")
_FENCE = re.compile(r"```\w*")
_MARKUP = re.compile(r"[*`]+|^#+\s*")
_BULLET = re.compile(r"^(?:[-+\u2022\u2013\u2014]|\(?\d{1,3}[.):])\s+")
_LABEL = re.compile(r"^(?:answer|caption|description|output|phrase|sentence|text)\s*:\s*", re.IGNORECASE)
_OPENING = re.compile(
    r"^(?:an?|the)\s+(?:typical\s+)?(?:image|photo|photograph|picture)s?\b.{0,80}?\b(?:depicts?|features?|shows?)\s+", re.IGNORECASE
)
_QUOTES = "\"'\u2018\u2019\u201c\u201d\u00ab\u00bb"
_TALKS = re.compile(r"\b(?:I|me|my|you|your|please|sorry|cannot|can't|language model)\b", re.IGNORECASE)
_HEDGES = re.compile(r"\b(?:may|might|perhaps|possibly|typically|usually)\b", re.IGNORECASE)
_HISTORY = re.compile(
    r"\b(?:century|invented|originat\w+|historically|traditionally|known (?:as|for)|named after|used (?:for|to|in))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        text: The description; what is left of the answer where it is none.
        fault: What is wrong with it, as the end of a sentence "the answer ..."; None where nothing is.
        is_usable: Whether it is a description all the same, only not in the manner that was asked for.
        is_unknown: Whether the model says that it does not know the name.
    """

    text: str
    fault: str | None = None
    is_usable: bool = True
    is_unknown: bool = False


def read_reply(content: str, name: str, *, is_cut_off: bool = False) -> Reply:
    """Clean and check an answer.

    Args:
        content: As the model gave it.
        name: What it was asked to describe.
        is_cut_off: Whether it ended for want of tokens.
    """
    lines = _clean_lines(content, name)
    text = " ".join(lines)
    if re.sub(r"\W", "", text).upper() == UNKNOWN:
        return Reply(text, "says that the name is unknown", is_usable=False, is_unknown=True)
    fault = _find_fault(text, len(lines), is_cut_off)
    if fault:
        return Reply(text, fault, is_usable=False)
    return Reply(text, _find_flaw(text, name))


def _clean_lines(content: str, name: str) -> list[str]:
    text = _END_OF_THOUGHTS.sub("", _THOUGHTS.sub("", _CHANNELS.sub("", content)))
    text = _FENCE.sub("", _SPECIAL_TOKENS.sub("", text))
    lines = [cleaned for line in text.splitlines() if (cleaned := _clean_line(line, name))]
    # "Here is the sentence:" is no part of it.
    return [line for line in lines if not line.endswith(":")]


def _clean_line(line: str, name: str) -> str:
    text = " ".join(_MARKUP.sub("", line.strip()).split())
    text = _LABEL.sub("", _BULLET.sub("", text)).strip()
    text = re.sub(rf"^{re.escape(name)}\s*(?::|\s[-\u2013\u2014])\s+", "", text, flags=re.IGNORECASE)
    while len(text) > 1 and text[0] in _QUOTES and text.rstrip(".")[-1:] in _QUOTES:
        text = text.rstrip(".")[1:-1].strip()
    text = _OPENING.sub("", text).rstrip(". ")
    # As the lexicon's lines begin.
    return text[0].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _find_fault(text: str, num_lines: int, is_cut_off: bool) -> str | None:
    """Say why an answer is no description, or None."""
    num_words = len(text.split())
    if not text:
        return "is empty"
    if is_cut_off:
        return "was cut off"
    if _TALKS.search(text):
        return "talks to the reader"
    if num_lines > 1:
        return f"has {num_lines} lines, not one"
    if not MIN_WORDS <= num_words <= MAX_WORDS:
        return f"has {num_words} words, not {MIN_WORDS} to {MAX_WORDS}"
    return None


def _find_flaw(text: str, name: str) -> str | None:
    """Say what in a description is not in the lexicon's manner, or None."""
    key = match_key(split_hint(name)[0])
    if re.search(rf"\b{re.escape(key)}s?\b", match_key(text)):
        return "holds the name"
    for pattern, fault in ((_HEDGES, "says {!r}, which a photo does not show"), (_HISTORY, "tells more than a photo shows: {!r}")):
        if found := pattern.search(text):
            return fault.format(found[0])
    return None
