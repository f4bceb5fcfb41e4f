"""Which classes the model knows: their names in logit order, read from labels as people have them."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from timm_inject.errors import ArgumentTypeError, ClassNameError, UnknownSeenClassesError, join_problems, list_some
from timm_inject.text.senses import Sense, load_senses, usual_kinds
from timm_inject.text.synsets import label_set_wnids, read_synsets
from timm_inject.text.words import is_wnid, match_key

__all__ = [
    "ClassName",
    "check_strings",
    "class_from_label",
    "classes_from_labels",
    "join_with_and",
    "kinds_of_classes",
    "label_names_for_config",
    "raise_name_problems",
    "resolve_seen_class_names",
    "sense_of_class",
    "unusable_names",
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
# What stands before the name in labels of data sets: "n02085620-Chihuahua", "001.Black_footed_Albatross", and in iNaturalist's
# "03111_Animalia_Chordata_Aves_Passeriformes_Turdidae_Turdus_merula" the path down to the species.
_WNID_BEFORE = re.compile(r"(?P<wnid>n\d{8})[\s_:.,;-]+(?P<name>\S.*)")
_NUMBER_BEFORE = re.compile(r"\d+(?:\s*[._:)-]\s*|\s+)(?P<name>\D.*)")
# What stands for a space: "electric_guitar", "grizzly+bear".
_WORD_JOINTS = re.compile(r"_|(?<=\w)\+(?=\w)")
_KINGDOM = re.compile(r"(?:\d+_)?(?:Animalia|Plantae|Fungi|Chromista|Protozoa|Bacteria|Archaea|Viruses)_")


@dataclass(frozen=True, slots=True)
class ClassName:
    """One class.

    Attributes:
        name: The name to show and to embed.
        sense: Its meaning, where the label names it for certain (never found by looking the name up).
        description: What the user or the model's config says about it.
        synonyms: Further names of the same class.
        label: Its id in the model's config, where that differs from what is shown; for ImageNet the WordNet id.
    """

    name: str
    sense: Sense | None = None
    description: str | None = None
    synonyms: tuple[str, ...] = ()
    label: str | None = None


def resolve_seen_class_names(model: object, num_seen: int, seen_class_names: Sequence[str] | str | None = None) -> list[ClassName]:
    """Find the names of the classes that the model already knows, in logit order.

    Args:
        model: The timm model; only its `pretrained_cfg` is read, and only where `seen_class_names` is None.
        num_seen: How many outputs the model has.
        seen_class_names: One name an output, in logit order, or the name of a label set that timm ships, such as
            "imagenet-1k". WordNet ids ("n01440764"), timm's own descriptions ("tench, Tinca tinca") and labels of data sets
            ("n02085620-Chihuahua", "001.Black_footed_Albatross") are understood.
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


def kinds_of_classes(seen: Sequence[ClassName]) -> frozenset[str]:
    """The `usual_kinds` of a head, by its classes with one sense only; so a head of birds knows cranes as birds."""
    senses = load_senses()
    found = [(entry.sense,) if entry.sense else senses.find(entry.name) for entry in seen]
    return usual_kinds(each[0] for each in found if len(each) == 1)


def sense_of_class(entry: ClassName, kinds: frozenset[str]) -> Sense | None:
    """The sense that a class's text is taken from, unless the user picks another; None where its name has none."""
    if entry.sense is not None:
        return entry.sense
    return next(iter(load_senses().find(entry.name, kinds)), None)


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
    check_strings("seen_class_names", given)
    if len(given) != num_seen:
        raise UnknownSeenClassesError(
            f"The model has {num_seen} outputs but `seen_class_names` has {_count(given, 'name')}"
            f"{_first_items(given)}. Pass one name for each output, in logit order."
        )
    stripped = [name.strip() for name in given]
    raise_name_problems("seen class names cannot be used", unusable_names(stripped, may_be_signs=True), num_seen, "Replace")
    return classes_from_labels(stripped)


def _names_from_label_set(label_set: str, num_seen: int) -> list[ClassName]:
    wnids = label_set_wnids(label_set)
    if len(wnids) != num_seen:
        raise UnknownSeenClassesError(_wrong_size(f"the label set {label_set}", [label_set], num_seen))
    return [class_from_label(wnid) for wnid in wnids]


def _names_from_config(config: Any, num_seen: int) -> list[ClassName]:
    label_names = _config_value(config, "label_names")
    if label_names is not None and len(label_names):
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
    if hasattr(label_names, "tolist"):  # a NumPy array
        label_names = label_names.tolist()
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
    return classes_from_labels(labels, label_descriptions if isinstance(label_descriptions, Mapping) else {})


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


def classes_from_labels(labels: Sequence[str], descriptions: Mapping[str, Any] | None = None) -> list[ClassName]:
    """Make the classes of a head from its labels, and what the config says about them by label.

    Numbers before the names are taken off where every label has one.
    """
    numbered = all(_NUMBER_BEFORE.fullmatch(label.strip()) or _KINGDOM.match(label.strip()) for label in labels)
    return [class_from_label(label, (descriptions or {}).get(label), numbered=numbered) for label in labels]


def class_from_label(label: str, description: object = None, *, numbered: bool = False) -> ClassName:
    """Make a class from a label, and what the config says about that label.

    Args:
        label: Of a config, a label set or a list of names.
        description: The config's text for it, if any.
        numbered: Whether a number before the name is one of a list, and no part of it.
    """
    label = label.strip()
    sense = _sense_of_label(label)
    if sense is not None:
        lemmas = load_senses().synset_names(sense.wnid or "") or sense.names
        return ClassName(lemmas[0], sense=sense, synonyms=lemmas[1:], label=label)
    text = description.strip() if isinstance(description, str) else ""
    names, definition = _split_description(text)
    opaque = is_wnid(label) or _OPAQUE_LABEL.fullmatch(label) is not None
    if names and (opaque or match_key(names[0]) == match_key(label)):
        name = names[0] if opaque else label
        return ClassName(name, description=definition or None, synonyms=tuple(names[1:]), label=label)
    return ClassName(_name_in_label(label, numbered), description=text or None, label=label)


def _name_in_label(label: str, numbered: bool) -> str:
    """What names the class in a label: the part after a number, the end of a path; spaces instead of underscores."""
    if _KINGDOM.match(label):
        return " ".join(label.split("_")[-2:])
    found = _NUMBER_BEFORE.fullmatch(label) if numbered else None
    name = found["name"] if found else label
    spaced = " ".join(_WORD_JOINTS.sub(" ", name).split()) or name
    if "/" in name and not load_senses().find(spaced):
        steps = [step for step in spaced.split("/") if len(step.strip()) > 1]
        ends = [" ".join(steps[-count:]) for count in (2, 1) if len(steps) >= count]
        return next((end for end in ends if load_senses().find(end)), " ".join(steps) if name.startswith("/") else spaced)
    return spaced


def _sense_of_label(label: str) -> Sense | None:
    """Read a label that names one sense for certain: by its id, or by all its lemmas ("tench, Tinca tinca")."""
    senses = load_senses()
    if is_wnid(label):
        return senses.by_wnid(label)
    found = _WNID_BEFORE.fullmatch(label)
    if found and (sense := senses.by_wnid(found["wnid"])):
        return sense
    wnid = _wnid_by_lemmas().get(label) if "," in label else None
    return senses.by_wnid(wnid) if wnid else None


@functools.cache
def _wnid_by_lemmas() -> dict[str, str]:
    """All lemmas of a synset as timm writes them -> its id, where no other has the same."""
    written: dict[str, list[str]] = {}
    for wnid, synset in read_synsets().items():
        written.setdefault(", ".join(synset.lemmas), []).append(wnid)
    return {lemmas: wnids[0] for lemmas, wnids in written.items() if len(wnids) == 1}


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


# ---- shared ---------------------------------------------------------------------------------------------------------


def check_strings(argument: str, names: Sequence[object]) -> None:
    """Refuse what is no string, all at once.

    Raises:
        ArgumentTypeError: With the first of them.
    """
    wrong = [(position, name) for position, name in enumerate(names) if not isinstance(name, str)]
    if wrong:
        listed = list_some(f"{name!r} ({type(name).__name__}) at position {position}" for position, name in wrong)
        raise ArgumentTypeError(f"`{argument}` must hold strings only, got {listed}. Write each name as a string.")


def unusable_names(names: Sequence[str], *, may_be_signs: bool = False) -> dict[int, str]:
    """Find names that no class can have: position -> what is wrong. Seen classes may be signs, such as ":)"."""
    problems: dict[int, str] = {}
    for position, name in enumerate(names):
        if not name:
            problems[position] = f"the name at position {position} is empty"
        elif any(unicodedata.category(character) in _UNWRITABLE_CATEGORIES for character in name):
            problems[position] = f"{name!r} has a control character"
        elif not may_be_signs and not match_key(name):
            problems[position] = f"{name!r} has no letters or digits"
    return problems


def raise_name_problems(what: str, problems: Mapping[int, str], num_names: int, remedy: str) -> None:
    """Raise all problems in one error, in the order of the names; an empty text adds to the count alone."""
    if not problems:
        return
    texts = [problems[position] for position in sorted(problems) if problems[position]]
    them = "it" if len(problems) == 1 else "them"
    raise ClassNameError(f"{len(problems)} of {num_names} {what}: {join_problems(texts)}. {remedy} {them}.")


def join_with_and(items: Sequence[object]) -> str:
    """Write "1, 2 and 3"."""
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


def _first_items(items: Sequence[object]) -> str:
    return f" ({list_some(repr(item) for item in items)})" if items else ""
