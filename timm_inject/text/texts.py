"""The text of each class: what it is called, what it is, and what photos of it show.

Seen and unseen classes go through the same rule, because a mapper that learned from one kind of text predicts badly from another.
A class has, as far as they exist: timm's definition of its sense, or what the model's config says about its label; the lexicon's
sentence on what a photo of it shows; the texts that the user wrote for it, beside these; and its kind, the lexicon's or that of
the last word of a name that nobody knows ("flying scooter" is a scooter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from timm_inject.errors import (
    MAX_PROBLEMS,
    ArgumentTypeError,
    ArgumentValueError,
    DescriptionError,
    join_problems,
    list_some,
)
from timm_inject.text.names import ClassName, kinds_of_classes, sense_of_class
from timm_inject.text.senses import Sense, load_senses
from timm_inject.text.words import is_wnid, match_key

__all__ = ["ClassText", "Descriptions", "TextSource", "resolve_class_texts"]

TextSource = Literal["user", "lexicon", "timm", "config", "none"]
# What users may pass as `descriptions`: a callable gets the names that the lexicon lacks and gives a text for each.
Descriptions = Mapping[str, str | Sequence[str]] | Callable[[list[str]], Sequence[str]] | Literal["auto"] | None


@dataclass(frozen=True, slots=True)
class ClassText:
    """What is known in words about one class.

    Attributes:
        name: The class name.
        lemmas: The name, then other names of the same class; no two with the same `match_key`.
        definition: What it is: timm's definition of the sense, or what the model's config says; or None.
        sentence: What a photo of it shows, as the lexicon says; or None.
        user_texts: What the user wrote for it.
        kind: Path in the lexicon's tree of kinds, "food/baked/flat bread"; or None.
        sense: The sense that was taken, or None.
        source: Where the text comes from that says most: the user, the lexicon, timm's synsets, the model's config; "none" for a
            name alone.
        alternatives: Further senses of the name that were not taken, likeliest first.
    """

    name: str
    lemmas: tuple[str, ...]
    definition: str | None = None
    sentence: str | None = None
    user_texts: tuple[str, ...] = ()
    kind: str | None = None
    sense: Sense | None = None
    source: TextSource = "none"
    alternatives: tuple[Sense, ...] = ()

    @property
    def seen_in_photos(self) -> tuple[str, ...]:
        """The texts on what is seen: the user's, then the lexicon's."""
        return (*self.user_texts, *((self.sentence,) if self.sentence else ()))

    @property
    def descriptions(self) -> tuple[str, ...]:
        """Every text beside the name."""
        return (*self.seen_in_photos, *((self.definition,) if self.definition else ()))

    @property
    def wnid(self) -> str | None:
        """The sense's WordNet id, or None."""
        return self.sense.wnid if self.sense else None

    def describe(self) -> str:
        """Write one line that shows which meaning was taken, so that a reader can correct it.

        For example "dahlia: many narrow petals … (lexicon, plant/flower/daisy-like)".
        """
        if not self.descriptions:
            return f"{self.name} (no description)"
        more = f" (and {len(self.descriptions) - 1} more)" if len(self.descriptions) > 1 else ""
        origin = ", ".join(part for part in (self.source, self.kind, self.wnid) if part)
        others = [f"or {other.names[0]} ({other.kind or other.wnid})" for other in self.alternatives]
        return f"{self.name}: {self.descriptions[0]}{more} ({'; '.join([origin, *others])})"


def resolve_class_texts(
    seen: Sequence[ClassName], unseen: Sequence[ClassName], descriptions: Descriptions = "auto"
) -> tuple[list[ClassText], list[ClassText]]:
    """Find the text of every class, seen and unseen by the same rule.

    Args:
        seen: The classes that the model knows.
        unseen: The classes to add.
        descriptions: "auto" looks senses up in the lexicon and in timm's synsets. A mapping adds texts by class name (or by a label
            of the model's config, such as a WordNet id, to tell apart classes of one name): a text or several, which stand beside
            what is looked up; the WordNet id of the sense to take; or such an id and texts. A callable `names -> texts`, such as
            `LanguageModel`, writes a text for each class that neither the lexicon nor the user describes. None uses names alone,
            but for the texts that came with the unseen names, which the user gave on purpose.

    Returns:
        The texts of the seen and of the unseen classes, in the given order.

    Raises:
        ArgumentValueError, ArgumentTypeError: `descriptions` is none of these.
        DescriptionError: A key names no class or several, or a description is not a text.
    """
    _check_descriptions(descriptions)
    classes = [*seen, *unseen]
    kinds = kinds_of_classes(seen)
    # Two classes of one sense would have one text; what the user says of a seen class comes later and is let be.
    taken = {sense.wnid: entry.name for entry in seen if (sense := sense_of_class(entry, kinds)) and sense.wnid}
    from_user = _texts_from_user(classes, len(seen), descriptions if isinstance(descriptions, Mapping) else {}, taken)
    look_up = descriptions is not None
    texts = [_text_of(entry, from_user.get(position, ()), look_up, kinds) for position, entry in enumerate(classes)]
    if callable(descriptions):
        texts = _add_written(texts, descriptions)
    return texts[: len(seen)], texts[len(seen) :]


def _check_descriptions(descriptions: object) -> None:
    if isinstance(descriptions, str) and descriptions != "auto":
        raise ArgumentValueError(
            '`descriptions` must be "auto", a mapping name -> description, a callable names -> texts, or None, got '
            f"'{descriptions}'. Write {{'okapi': 'a striped relative of the giraffe'}} for a description of your own."
        )
    if not (descriptions is None or isinstance(descriptions, str | Mapping) or callable(descriptions)):
        raise ArgumentTypeError(
            '`descriptions` must be "auto", a mapping name -> description, a callable names -> texts, or None, '
            f"got {type(descriptions).__name__}. Write {{'okapi': 'a striped relative of the giraffe'}}."
        )


def _text_of(entry: ClassName, from_user: tuple[str, ...], look_up: bool, kinds: frozenset[str]) -> ClassText:
    """Apply the one rule, for seen and unseen classes alike."""
    senses = load_senses()
    chosen = senses.by_wnid(from_user[0].strip()) if from_user and is_wnid(from_user[0]) else None
    user_texts = from_user[1:] if chosen else from_user
    if not look_up and not chosen:
        return ClassText(entry.name, (entry.name,), user_texts=user_texts, source="user" if user_texts else "none")
    found = (chosen,) if chosen else (entry.sense,) if entry.sense else senses.find(entry.name, kinds)
    sense = found[0] if found else None
    definition = _definition(entry, sense, chosen, user_texts)
    kind = sense.kind if sense else senses.kind_of_hint(entry.name)
    if sense is None and kind is None and (noun := senses.head_noun(entry.name, kinds)):
        kind = noun.kind
    return ClassText(
        name=entry.name,
        lemmas=_lemmas(entry, sense.names if sense else ()),
        definition=definition,
        sentence=sense.sentence if sense else None,
        user_texts=user_texts,
        kind=kind,
        sense=sense,
        source=_source(user_texts, sense, definition),
        alternatives=found[1:],
    )


def _definition(entry: ClassName, sense: Sense | None, chosen: Sense | None, user_texts: Sequence[str]) -> str | None:
    """Timm's, where the sense is certain; else what the config says of this very label; else timm's of the likeliest sense."""
    from_config = None if entry.description in user_texts else entry.description
    from_timm = sense.definition if sense else None
    return from_timm or from_config if chosen or entry.sense else from_config or from_timm


def _source(user_texts: Sequence[str], sense: Sense | None, definition: str | None) -> TextSource:
    if user_texts:
        return "user"
    if sense and sense.sentence:
        return "lexicon"
    if definition is None:
        return "none"
    return "timm" if sense and sense.definition == definition else "config"


def _add_written(texts: Sequence[ClassText], write: Callable[[list[str]], Sequence[str]]) -> list[ClassText]:
    """Have a text written for each class that nobody describes by what is seen."""
    lacking = [position for position, text in enumerate(texts) if not text.seen_in_photos]
    if not lacking:
        return list(texts)
    names = [texts[position].name for position in lacking]
    written = write(names)
    if isinstance(written, str) or len(written) != len(names) or not all(isinstance(t, str) and t.strip() for t in written):
        raise DescriptionError(
            f"`descriptions` was called with {len(names)} names and must give as many texts, one a name, in that order; got "
            f"{type(written).__name__} {written!r:.200}."
        )
    made = dict(zip(lacking, written, strict=True))
    return [
        replace(text, user_texts=(made[position].strip(),), source="user") if position in made else text
        for position, text in enumerate(texts)
    ]


def _lemmas(entry: ClassName, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    by_key: dict[str, str] = {}
    for lemma in (entry.name, *entry.synonyms, *more):
        by_key.setdefault(match_key(lemma), lemma)
    return tuple(by_key.values())


# ---- what the user wrote --------------------------------------------------------------------------------------------


def _texts_from_user(
    classes: Sequence[ClassName],
    num_seen: int,
    mapping: Mapping[str, str | Sequence[str]],
    taken: Mapping[str, str],
) -> dict[int, tuple[str, ...]]:
    """Return position of a class -> what the user wrote for it, with the names and through `descriptions`."""
    # A description of a seen class comes from the model's config, that of an unseen class from the user.
    from_names = {
        position: (entry.description,) for position, entry in enumerate(classes) if position >= num_seen and entry.description
    }
    problems = [
        f"{classes[position].name!r} has {problem}"
        for position, texts in from_names.items()
        if (problem := _problem_with(texts, taken))
    ]
    from_mapping: dict[int, tuple[str, ...]] = {}
    key_of: dict[int, str] = {}
    finder = _ClassFinder(classes if mapping else ())  # which takes a while for many names
    for key, value in mapping.items():
        texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()
        positions = finder.positions(key)
        is_new = positions != [] and positions[0] >= num_seen
        problem = _problem_with(texts, taken if is_new else {}, value)
        if len(positions) != 1:
            # The search for a near name is slow and only the first problems are shown.
            problems.append(finder.explain(key, positions) if len(problems) < MAX_PROBLEMS else "")
        elif problem:
            problems.append(f"{key!r} has {problem}")
        elif positions[0] in from_names:
            problems.append(f"{key!r} has a description in `unseen_class_names` too")
        elif positions[0] in from_mapping:
            problems.append(f"{key!r} is the same class as {key_of[positions[0]]!r}")
        else:
            key_of[positions[0]] = key
            from_mapping[positions[0]] = tuple(text.strip() for text in texts)
    if problems:
        num_given = len(mapping) + len(from_names)
        raise DescriptionError(
            f"{len(problems)} of {num_given} descriptions cannot be used: {join_problems(problems)}. "
            "Each must be a text, several texts, a WordNet id, or an id and texts, under the name of one seen or unseen class."
        )
    return from_names | from_mapping


def _problem_with(texts: Sequence[object], taken: Mapping[str, str], given: object = None) -> str | None:
    """Say what the class "has" that is no description of it, or None where the texts are fine.

    `taken` is WordNet id -> name of the classes whose ids it cannot have.
    """
    if not texts or not all(isinstance(text, str) for text in texts):
        return f"{given!r}, which is not a text"
    written = [text for text in texts if isinstance(text, str)]
    if not all(text.strip() for text in written):
        return "an empty text"
    ids = [text for text in written if is_wnid(text)]
    if ids and not is_wnid(written[0]):
        return f"the WordNet id {ids[0]!r} after a text; the id comes first"
    if len(ids) > 1:
        return f"{len(ids)} WordNet ids; a class has one sense"
    if ids and load_senses().by_wnid(ids[0].strip()) is None:
        return f"the WordNet id {ids[0]!r}, which timm has no definition for"
    wnid = written[0].strip()
    return f"the WordNet id {wnid!r}, which is the seen class {taken[wnid]!r}" if wnid in taken else None


class _ClassFinder:
    """Finds the class that a key of `descriptions` means: by name, else by label, else by synonym."""

    def __init__(self, classes: Sequence[ClassName]) -> None:
        self._classes = classes
        self._by_name = _index((entry.name,) for entry in classes)
        self._by_label = _index((entry.label,) if entry.label else () for entry in classes)
        self._by_synonym = _index(entry.synonyms for entry in classes)

    def positions(self, key: object) -> list[int]:
        """Return the positions of all classes that the key fits."""
        if not isinstance(key, str):
            return []
        tables = (self._by_name, self._by_label, self._by_synonym)
        return next((table[match_key(key)] for table in tables if match_key(key) in table), [])

    def explain(self, key: object, positions: Sequence[int]) -> str:
        """Say why a key does not mean one class."""
        if not positions:
            close = get_close_matches(match_key(key), self._by_name, n=1) if isinstance(key, str) else []
            suggestion = f" (did you mean {self._classes[self._by_name[close[0]][0]].name!r}?)" if close else ""
            return f"{key!r} names no class{suggestion}"
        labels = [self._classes[position].label or f"output {position}" for position in positions]
        return f"{key!r} names {len(positions)} classes ({list_some(labels)}; use the id where there is one)"


def _index(names_of_classes: Iterable[Sequence[str]]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, names in enumerate(names_of_classes):
        for key in dict.fromkeys(match_key(name) for name in names):
            positions.setdefault(key, []).append(position)
    return positions
