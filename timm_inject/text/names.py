"""Which classes the model knows (seen), and which ones it is to learn (unseen)."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from timm_inject.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ClassNameError,
    DescriptionError,
    UnknownSeenClassesError,
    list_some,
)
from timm_inject.text.synsets import Lexicon, Synset, is_wnid, label_set_wnids, load_lexicon, match_key, usual_fields

__all__ = [
    "ClassName",
    "fields_of_classes",
    "label_names_for_config",
    "match_key",
    "resolve_seen_class_names",
    "resolve_unseen_class_names",
    "synset_of_text",
]

# The label sets that timm ships, under the names that timm gives them.
_LABEL_SETS = (
    "imagenet-1k",
    "imagenet-12k",
    "imagenet-21k-goog",
    "imagenet-21k-miil",
    "imagenet-22k",
    "imagenet-22k-ms",
)
_LABEL_SET_ALIASES = {"imagenet-21k": "imagenet-21k-goog"}

# What the dataset part of a pretrained tag may mean. "in21k" is Google's 21843 classes or MIIL's 11221, and "in22k" is
# the full 21841 or Microsoft's reordered 21842; within a family the number of outputs tells them apart.
_LABEL_SETS_BY_TAG_PART = {
    "in1k": ("imagenet-1k",),
    "in12k": ("imagenet-12k",),
    "in21k": ("imagenet-21k-goog", "imagenet-21k-miil"),
    "in22k": ("imagenet-22k", "imagenet-22k-ms"),
}

# Ids that say nothing to a reader or an encoder: Open Images' machine ids, and bare numbers.
_OPAQUE_LABEL = re.compile(r"/[mg]/\w+|\d+")
# Other control characters (Cf) are part of how some scripts are written.
_UNWRITABLE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
MAX_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class ClassName:
    """One class.

    Attributes:
        name: The name to show and to embed.
        synset: Its meaning, where the label names it for certain (never found by looking the name up).
        description: What the user or the model's config says about it.
        synonyms: Further names of the same class.
        label: Its id in the model's config, where that differs from what is shown; for ImageNet the WordNet id.
    """

    name: str
    synset: Synset | None = None
    description: str | None = None
    synonyms: tuple[str, ...] = ()
    label: str | None = None


def resolve_seen_class_names(model: object, num_seen: int, seen_class_names: Sequence[str] | str | None = None) -> list[ClassName]:
    """Find the names of the classes that the model already knows, in logit order.

    Args:
        model: The timm model; only its `pretrained_cfg` is read, and only where `seen_class_names` is None.
        num_seen: How many outputs the model has.
        seen_class_names: One name an output, in logit order, or the name of a label set that timm ships, such as
            "imagenet-1k". WordNet ids ("n01440764") and timm's own descriptions ("tench, Tinca tinca") are understood.
            None takes the config's `label_names`, or else the dataset that its pretrained tag ends with.

    Raises:
        UnknownSeenClassesError: The names are not stated, the label set is unknown, or the count does not fit.
        ArgumentTypeError: `seen_class_names` is something else, or holds something other than strings.
        ClassNameError: A name is empty or has control characters.
    """
    if seen_class_names is None:
        return _names_from_config(getattr(model, "pretrained_cfg", None), num_seen)
    if isinstance(seen_class_names, str):
        return _names_from_label_set(_find_label_set(seen_class_names), num_seen)
    return _names_from_list(seen_class_names, num_seen)


def resolve_unseen_class_names(
    unseen_class_names: Iterable[str] | Mapping[str, str | None],
    seen: Sequence[ClassName],
    *,
    num_seen: int | None = None,
    what: str = "unseen class names cannot be added",
) -> list[ClassName]:
    """Check the names of the classes to add, and report everything that is wrong with them at once.

    Names are stripped and otherwise kept as they are. Two names are the same class where they differ only in case,
    accents, underscores, hyphens or possessives, or in a plural or a space that the lexicon can undo without doubt
    (`Lexicon.word_key`). A synonym of a seen class, in the likeliest meaning of its name, counts as a name too.
    Another sense of a word that the model knows needs a hint, which makes it another name: "mouse (rodent)". Where the hint tells
    the very synset of a seen class from the word's other meanings, it is that class.
    A WordNet id stands for its synset, and is shown as the first lemma.

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
    _check_strings("unseen_class_names", given)
    names = [name.strip() for name in given]
    descriptions = _read_descriptions(unseen_class_names) if isinstance(unseen_class_names, Mapping) else {}
    lexicon = load_lexicon()
    unseen = [
        replace(_from_label(name) if lexicon.by_wnid(name) else ClassName(name), description=descriptions.get(key))
        for name, key in zip(names, given, strict=True)
    ]
    num_seen = len(seen) if num_seen is None else num_seen
    problems = _unusable_names(names) | _clashing_names(names, unseen, seen, num_seen, lexicon)
    _raise_problems(what, problems, len(names), "Remove or rename")
    return unseen


def fields_of_classes(seen: Sequence[ClassName], lexicon: Lexicon) -> frozenset[str]:
    """The `usual_fields` of a head, by its classes with one meaning only; so a head of birds knows cranes as birds."""
    found = [(entry.synset,) if entry.synset else lexicon.find(entry.name) for entry in seen]
    return usual_fields(synsets[0] for synsets in found if len(synsets) == 1)


def synset_of_text(entry: ClassName, lexicon: Lexicon, fields: frozenset[str]) -> Synset | None:
    """The meaning that a class's text is taken from, unless the user says otherwise; None where it is described otherwise."""
    if entry.synset or entry.description:
        return entry.synset
    return next(iter(lexicon.find(entry.name, fields)), None)


def label_names_for_config(classes: Sequence[ClassName]) -> list[str]:
    """Return one unique label a class for `label_names` of a timm config.

    A class that came with an id (a WordNet id, or the label in the model's config) keeps it; any other is written by
    its name. A label that would come twice gets a number: "crane", "crane (2)".
    """
    labels: list[str] = []
    used: set[str] = set()
    for entry in classes:
        label = unique = entry.label or entry.name
        number = 2
        while unique in used:
            unique = f"{label} ({number})"
            number += 1
        used.add(unique)
        labels.append(unique)
    return labels


# ---- seen classes ---------------------------------------------------------------------------------------------------


def _names_from_list(names: Iterable[str], num_seen: int) -> list[ClassName]:
    if isinstance(names, Mapping | bytes | set | frozenset) or not isinstance(names, Iterable):
        raise ArgumentTypeError(
            f"`seen_class_names` must be a list of {num_seen} names in logit order or a label set such as "
            f'"imagenet-1k", got {type(names).__name__}.'
        )
    given = list(names)
    _check_strings("seen_class_names", given)
    if len(given) != num_seen:
        raise UnknownSeenClassesError(
            f"The model has {num_seen} outputs but `seen_class_names` has {_count(given, 'name')}"
            f"{_first_items(given)}. Pass one name for each output, in logit order."
        )
    stripped = [name.strip() for name in given]
    _raise_problems("seen class names cannot be used", _unusable_names(stripped), num_seen, "Replace")
    return [_from_listed_name(name) for name in stripped]


def _from_listed_name(name: str) -> ClassName:
    return ClassName(name) if _synset_of_label(name) is None else _from_label(name)


def _names_from_label_set(label_set: str, num_seen: int) -> list[ClassName]:
    wnids = label_set_wnids(label_set)
    if len(wnids) != num_seen:
        raise UnknownSeenClassesError(_wrong_size(f"the label set {label_set}", [label_set], num_seen))
    return [_from_label(wnid) for wnid in wnids]


def _names_from_config(config: Any, num_seen: int) -> list[ClassName]:
    label_names = _config_value(config, "label_names")
    if label_names:
        return _names_from_label_names(label_names, _config_value(config, "label_descriptions"), num_seen)
    tag = str(_config_value(config, "tag") or "")
    family = _label_sets_of_tag(tag)
    if not family:
        raise UnknownSeenClassesError(_nothing_stated(tag, num_seen))
    trained_outputs = _config_value(config, "num_classes")
    if trained_outputs not in (None, num_seen):
        raise UnknownSeenClassesError(
            f"The model has {num_seen} outputs but its pretrained tag '{tag}' belongs to a head of {trained_outputs}, "
            f"so it does not name the classes of this one. Pass `seen_class_names` ({num_seen} names in logit order)."
        )
    fitting = [label_set for label_set in family if len(label_set_wnids(label_set)) == num_seen]
    if not fitting:
        stated = f"its pretrained tag '{tag}' states {' or '.join(family)}, which"
        raise UnknownSeenClassesError(_wrong_size(stated, family, num_seen))
    return _names_from_label_set(fitting[0], num_seen)


def _wrong_size(stated: str, label_sets: Sequence[str], num_seen: int) -> str:
    sizes = [len(label_set_wnids(label_set)) for label_set in label_sets]
    background = ""
    if num_seen - 1 in sizes:
        background = " One output more is often a background class at index 0; if so, list it with the others."
    return (
        f"The model has {num_seen} outputs but {stated} has {' or '.join(map(str, sizes))} classes.{background} "
        f"Pass `seen_class_names` ({num_seen} names in logit order)."
    )


def _names_from_label_names(label_names: Any, label_descriptions: Any, num_seen: int) -> list[ClassName]:
    if not isinstance(label_names, Mapping | list | tuple):
        raise UnknownSeenClassesError(
            f"The `label_names` of the model's config are {type(label_names).__name__}, not a list or a mapping of "
            f"names. Pass `seen_class_names` ({num_seen} names in logit order)."
        )
    labels = list(label_names.values()) if isinstance(label_names, Mapping) else list(label_names)
    if len(labels) != num_seen:
        raise UnknownSeenClassesError(
            f"The model has {num_seen} outputs but its config's `label_names` has {_count(labels, 'name')}"
            f"{_first_items(labels)}. Pass `seen_class_names` ({num_seen} names in logit order)."
        )
    if isinstance(label_names, Mapping):
        labels = _in_index_order(label_names, num_seen)
    if not all(isinstance(label, str) and label.strip() for label in labels):
        raise UnknownSeenClassesError(
            f"The `label_names` of the model's config are not all texts. Pass `seen_class_names` ({num_seen} names in logit order)."
        )
    descriptions = label_descriptions if isinstance(label_descriptions, Mapping) else {}
    return [_from_label(label, descriptions.get(label)) for label in labels]


def _in_index_order(label_names: Mapping[Any, Any], num_seen: int) -> list[Any]:
    """Order a mapping index -> name; JSON has turned the indices into strings."""
    by_index = {str(index).strip(): name for index, name in label_names.items()}
    missing = [index for index in range(num_seen) if str(index) not in by_index]
    if missing:
        raise UnknownSeenClassesError(
            f"The model has {num_seen} outputs but its config's `label_names` skips index {list_some(missing)}. "
            f"Pass `seen_class_names` ({num_seen} names in logit order)."
        )
    return [by_index[str(index)] for index in range(num_seen)]


def _from_label(label: str, description: object = None) -> ClassName:
    """Make a class from a label of a config or a label set, and what the config says about that label."""
    label = label.strip()
    synset = _synset_of_label(label)
    if synset is not None:
        return ClassName(synset.lemmas[0], synset=synset, synonyms=synset.lemmas[1:], label=label)
    text = description.strip() if isinstance(description, str) else ""
    names, definition = _split_description(text)
    opaque = is_wnid(label) or _OPAQUE_LABEL.fullmatch(label) is not None
    if names and (opaque or match_key(names[0]) == match_key(label)):
        name = names[0] if opaque else label
        return ClassName(name, description=definition or None, synonyms=tuple(names[1:]), label=label)
    return ClassName(label, description=text or None, label=label)


def _synset_of_label(label: str) -> Synset | None:
    """Read a label that names one synset for certain: its id, or all its lemmas ("tench, Tinca tinca")."""
    lexicon = load_lexicon()
    if is_wnid(label) or "," not in label:
        return lexicon.by_wnid(label)
    written_alike = [synset for synset in lexicon.find(label) if ", ".join(synset.lemmas) == label]
    return written_alike[0] if len(written_alike) == 1 else None


def _split_description(text: str) -> tuple[list[str], str]:
    """Split "name, synonym: definition", the form of timm's own label descriptions, into names and definition.

    Without a colon a text with commas may as well be a sentence, so only a lone name counts as one.
    """
    names, colon, definition = text.partition(":")
    parts = names.split(",") if colon else [names]
    return [part.strip() for part in parts if part.strip()], definition.strip()


def _config_value(config: Any, key: str) -> Any:
    """Read timm's pretrained config, which is a mapping on a model and an object in the registry."""
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)


def _label_sets_of_tag(tag: str) -> tuple[str, ...]:
    """Return what the dataset at the end of a tag may mean: "sw_in12k_ft_in1k_384" ends with in1k, then a resolution.

    "in1k_ft_flowers" ends with a dataset that timm has no names for, and so gives ().
    """
    parts = tag.split("_")
    while parts and parts[-1].isdigit():
        parts.pop()
    return _LABEL_SETS_BY_TAG_PART.get(parts[-1], ()) if parts else ()


def _nothing_stated(tag: str, num_seen: int) -> str:
    config = f"its config (tag '{tag}')" if tag else "its config"
    fitting = [label_set for label_set in _LABEL_SETS if len(label_set_wnids(label_set)) == num_seen]
    guess = ", and ImageNet would only be a guess" if fitting else ""
    label_set = f', or "{fitting[0]}" if that is what it was trained on' if fitting else ""
    return (
        f"The model has {num_seen} outputs but {config} names no classes{guess}. "
        f"Pass `seen_class_names` ({num_seen} names in logit order){label_set}."
    )


def _find_label_set(name: str) -> str:
    known = {_label_set_key(label_set): label_set for label_set in _LABEL_SETS}
    known |= {_label_set_key(alias): label_set for alias, label_set in _LABEL_SET_ALIASES.items()}
    key = _label_set_key(name)
    if key in known:
        return known[key]
    close = get_close_matches(key, known, n=1)
    did_you_mean = f' Did you mean "{known[close[0]]}"?' if close else ""
    choices = ", ".join(f'"{label_set}" ({len(label_set_wnids(label_set))})' for label_set in _LABEL_SETS)
    raise UnknownSeenClassesError(
        f"{name!r} is not a label set that timm ships.{did_you_mean} The label sets and their sizes: {choices}. "
        "Any other classes: pass a list of their names in logit order."
    )


def _label_set_key(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.casefold())


# ---- unseen classes -------------------------------------------------------------------------------------------------


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


def _clashing_names(
    names: Sequence[str], unseen: Sequence[ClassName], seen: Sequence[ClassName], num_seen: int, lexicon: Lexicon
) -> dict[int, str]:
    """Find names that the model has already or that are given twice: position -> what is wrong."""
    seen_positions = _positions_by_key(seen, num_seen, lexicon)
    given_at: dict[str, list[int]] = {}
    for position, entry in enumerate(unseen):
        if match_key(entry.name):
            given_at.setdefault(_unseen_key(entry, lexicon), []).append(position)
    problems: dict[int, str] = {}
    for key, positions in given_at.items():
        first = names[positions[0]]
        known_key = next((known for known in (key, _hinted_key(unseen[positions[0]], lexicon)) if known in seen_positions), None)
        if known_key is not None:
            known_at = seen_positions[known_key]
            number = "class" if len(known_at) == 1 else "classes"
            kind = "seen" if known_at[0] < num_seen else "injected"
            problems |= dict.fromkeys(positions, "")
            problems[positions[0]] = f"{first!r} is already {kind} {number} {_and(known_at)}"
        elif len(positions) > 1:
            problems |= dict.fromkeys(positions[1:], "")
            problems[positions[1]] = _given_twice(first, positions, names)
    return problems


def _given_twice(first: str, positions: Sequence[int], names: Sequence[str]) -> str:
    times = "twice" if len(positions) == 2 else f"{len(positions)} times"
    spellings = list(dict.fromkeys(repr(names[position]) for position in positions))
    written = f", as {_and(spellings)}" if len(spellings) > 1 else ""
    return f"{first!r} is given {times} (positions {_and(positions)}{written})"


def _unseen_key(entry: ClassName, lexicon: Lexicon) -> str:
    """A name that was given as an id means that synset alone; any other means whatever the word means."""
    return entry.synset.wnid if entry.synset else lexicon.word_key(entry.name)


def _hinted_key(entry: ClassName, lexicon: Lexicon) -> str | None:
    """The synset that the hint in a name picks, unless the user describes the class otherwise."""
    synset = None if entry.synset or entry.description else lexicon.hinted_sense(entry.name)
    return synset.wnid if synset else None


def _positions_by_key(seen: Sequence[ClassName], num_seen: int, lexicon: Lexicon) -> dict[str, list[int]]:
    """Index the seen classes by everything that they are called."""
    positions: dict[str, list[int]] = {}
    fields = fields_of_classes(seen[:num_seen], lexicon)
    for position, entry in enumerate(seen):
        for key in _keys_of(entry, lexicon, fields):
            positions.setdefault(key, []).append(position)
    return positions


def _keys_of(entry: ClassName, lexicon: Lexicon, fields: frozenset[str]) -> set[str]:
    names = [entry.name, *entry.synonyms, *([entry.label] if entry.label else [])]
    keys = {match_key(name) for name in names}
    if entry.synset is None:
        keys.update(lexicon.word_key(name) for name in names)
    synset = synset_of_text(entry, lexicon, fields)  # so that an unseen synonym, which would get the same text, is the same class
    if synset is not None:
        keys.add(synset.wnid)
        keys.update(match_key(lemma) for lemma in synset.lemmas)
    return keys


# ---- shared ---------------------------------------------------------------------------------------------------------


def _check_strings(argument: str, names: Sequence[object]) -> None:
    wrong = [(position, name) for position, name in enumerate(names) if not isinstance(name, str)]
    if wrong:
        listed = list_some(f"{name!r} ({type(name).__name__}) at position {position}" for position, name in wrong)
        raise ArgumentTypeError(f"`{argument}` must hold strings only, got {listed}. Write each name as a string.")


def _unusable_names(names: Sequence[str]) -> dict[int, str]:
    """Find names that no class can have: position -> what is wrong."""
    problems: dict[int, str] = {}
    for position, name in enumerate(names):
        if not name:
            problems[position] = f"the name at position {position} is empty"
        elif any(unicodedata.category(character) in _UNWRITABLE_CATEGORIES for character in name):
            problems[position] = f"{name!r} has a control character"
        elif not match_key(name):
            problems[position] = f"{name!r} has no letters or digits"
    return problems


def _raise_problems(what: str, problems: Mapping[int, str], num_names: int, remedy: str) -> None:
    """Raise all problems in one error, in the order of the names; an empty text adds to the count alone."""
    if not problems:
        return
    texts = [problems[position] for position in sorted(problems) if problems[position]]
    them = "it" if len(problems) == 1 else "them"
    raise ClassNameError(f"{len(problems)} of {num_names} {what}: {join_problems(texts)}. {remedy} {them}.")


def join_problems(problems: Sequence[str]) -> str:
    """Write the first problems, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    text = "; ".join(problems[:MAX_PROBLEMS])
    return f"{text}; and {more} more" if more > 0 else text


def _and(items: Sequence[object]) -> str:
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


def _first_items(items: Sequence[object]) -> str:
    return f" ({list_some(repr(item) for item in items)})" if items else ""
