"""Which classes the model is to learn: names that it does not have yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, DescriptionError, list_some
from timm_inject.text.names import (
    ClassName,
    check_strings,
    class_from_label,
    join_with_and,
    kinds_of_classes,
    raise_name_problems,
    sense_of_class,
    unusable_names,
)
from timm_inject.text.senses import load_senses
from timm_inject.text.words import is_wnid, match_key

__all__ = ["resolve_unseen_class_names"]


def resolve_unseen_class_names(
    unseen_class_names: Iterable[str] | Mapping[str, str | None],
    seen: Sequence[ClassName],
    *,
    num_seen: int | None = None,
    what: str = "unseen class names cannot be added",
) -> list[ClassName]:
    """Check the names of the classes to add, and report everything that is wrong with them at once.

    Names are stripped and otherwise kept as they are. Two names are the same class where they differ only in case,
    accents, underscores, hyphens or possessives, or in a plural or a space that can be undone without doubt
    (`Senses.word_key`), or where a new one is taken in the sense of one that the model has. A synonym of a seen class that means
    something else on its own is no clash: "hedgehog" is one of WordNet's words for the porcupine, and an animal of its own.
    Another sense of a word that the model knows needs a hint, which makes it another name: "mouse (rodent)"; so does a kind of a
    class that it knows: "pizza (with pineapple)". A WordNet id stands for its sense, and is shown as the first lemma.

    Args:
        unseen_class_names: Names, or a mapping name -> description (None for no description).
        seen: The classes that the model already has, in logit order.
        num_seen: How many of these it was trained on, for the error's text; None for all. The others were injected.
        what: What the error says of the names.

    Raises:
        ArgumentTypeError: Not a list of strings, or a mapping with such keys.
        ArgumentValueError: There is no name at all.
        ClassNameError: A name is empty, has control characters, is given twice, or is already one of the model's.
        DescriptionError: A description in the mapping is not a text.
    """
    given = _as_list(unseen_class_names)
    if not given:
        raise ArgumentValueError("`unseen_class_names` is empty. Give at least one name, such as ['okapi'].")
    check_strings("unseen_class_names", given)
    names = [name.strip() for name in given]
    descriptions = _read_descriptions(unseen_class_names) if isinstance(unseen_class_names, Mapping) else {}
    unseen = [
        replace(class_from_label(name) if is_wnid(name) and load_senses().by_wnid(name) else ClassName(name), description=text)
        for name, text in ((name, descriptions.get(key)) for name, key in zip(names, given, strict=True))
    ]
    num_seen = len(seen) if num_seen is None else num_seen
    problems = unusable_names(names) | _clashing_names(names, unseen, seen, num_seen)
    raise_name_problems(what, problems, len(names), "Remove or rename")
    return unseen


def _as_list(names: object) -> list[Any]:
    must_be = "`unseen_class_names` must be a list of names, got"
    if isinstance(names, str):
        raise ArgumentTypeError(f"{must_be} the string {names!r}. Write [{names!r}] for a single class.")
    if isinstance(names, set | frozenset):
        raise ArgumentTypeError(f"{must_be} a {type(names).__name__}, which has no order for the new outputs. Write sorted(…).")
    if isinstance(names, bytes | bytearray) or not isinstance(names, Iterable):
        raise ArgumentTypeError(f"{must_be} {type(names).__name__}. Write ['okapi'] for a single class.")
    return list(names)


def _read_descriptions(given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the descriptions of a mapping name -> description, less the names that have none."""
    wrong = [name for name, text in given.items() if text is not None and not (isinstance(text, str) and text.strip())]
    if wrong:
        raise DescriptionError(
            f"{len(wrong)} of {len(given)} descriptions in `unseen_class_names` are not texts: "
            f"{list_some(f'{name!r} has {given[name]!r}' for name in wrong)}. Give a text, or None for no description."
        )
    return {name: text.strip() for name, text in given.items() if text is not None}


def _clashing_names(names: Sequence[str], unseen: Sequence[ClassName], seen: Sequence[ClassName], num_seen: int) -> dict[int, str]:
    """Find names that the model has already or that are given twice: position -> what is wrong."""
    kinds = kinds_of_classes(seen[:num_seen])
    known = _positions_by_key(seen, kinds)
    given_at: dict[str, list[int]] = {}
    for position, entry in enumerate(unseen):
        if match_key(entry.name):
            given_at.setdefault(_own_key(entry), []).append(position)
    problems: dict[int, str] = {}
    for key, positions in given_at.items():
        first = positions[0]
        known_at = next((known[each] for each in (key, *_further_keys(unseen[first], kinds)) if each in known), None)
        if known_at is not None:
            number = "class" if len(known_at) == 1 else "classes"
            called = "" if match_key(seen[known_at[0]].name) == match_key(names[first]) else f" ({seen[known_at[0]].name!r})"
            kind = "seen" if known_at[0] < num_seen else "injected"
            problems |= dict.fromkeys(positions, "")
            problems[first] = f"{names[first]!r} is already {kind} {number} {join_with_and(known_at)}{called}"
        elif len(positions) > 1:
            problems |= dict.fromkeys(positions[1:], "")
            problems[positions[1]] = _given_twice(names[first], positions, names)
    return problems


def _given_twice(first: str, positions: Sequence[int], names: Sequence[str]) -> str:
    times = "twice" if len(positions) == 2 else f"{len(positions)} times"
    spellings = list(dict.fromkeys(repr(names[position]) for position in positions))
    written = f", as {join_with_and(spellings)}" if len(spellings) > 1 else ""
    return f"{first!r} is given {times} (positions {join_with_and(positions)}{written})"


def _own_key(entry: ClassName) -> str:
    """A name that was given as an id means that sense alone; any other is told by its spelling."""
    return entry.sense.key if entry.sense else load_senses().word_key(entry.name)


def _further_keys(entry: ClassName, kinds: frozenset[str]) -> list[str]:
    """What else a new class may be known by: the sense that is taken, unless its hint or the user describes another thing."""
    keys = [] if entry.sense else [match_key(entry.name)]
    sense = None if entry.description else sense_of_class(entry, kinds)
    if sense and not load_senses().says_more(entry.name, sense):
        keys.append(sense.key)
    return keys


def _positions_by_key(seen: Sequence[ClassName], kinds: frozenset[str]) -> dict[str, list[int]]:
    """Index the known classes by their names, labels and senses; what the config describes has not for certain its usual sense."""
    positions: dict[str, list[int]] = {}
    senses = load_senses()
    for position, entry in enumerate(seen):
        sense = entry.sense if entry.description else sense_of_class(entry, kinds)
        names = [entry.name, *([entry.label] if entry.label else []), *_safe_synonyms(entry, sense, kinds)]
        keys = {match_key(name) for name in names} | ({sense.key} if sense else set())
        if entry.sense is None:
            keys.add(senses.word_key(entry.name))
        for key in keys - {""}:
            positions.setdefault(key, []).append(position)
    return positions


def _safe_synonyms(entry: ClassName, sense: Any, kinds: frozenset[str]) -> list[str]:
    """Synonyms that mean this class when said alone."""
    senses = load_senses()
    found = ((synonym, senses.find(synonym, kinds)) for synonym in entry.synonyms)
    return [synonym for synonym, meant in found if not meant or (sense is not None and meant[0].key == sense.key)]
