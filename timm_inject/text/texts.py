"""The text of each class: its names and what is said about it.

Seen and unseen classes go through the same rule, because a mapper that learned from one kind of text predicts badly
from another. Of what can be said about a class, the first that exists is taken:

1. what the user wrote for it, or the WordNet id that the user chose;
2. timm's definition of the synset that the class's own label names;
3. what the model's config says about its label;
4. timm's definition of the likeliest meaning of its name; of equally good ones, that from a field that is usual for the head.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, DescriptionError, list_some
from timm_inject.text.names import MAX_PROBLEMS, ClassName, fields_of_classes, join_problems, synset_of_text
from timm_inject.text.synsets import Lexicon, Synset, is_wnid, load_lexicon, match_key

__all__ = ["ClassText", "DescriptionSource", "resolve_class_texts"]

DescriptionSource = Literal["user", "config", "timm", "none"]


@dataclass(frozen=True, slots=True)
class ClassText:
    """What is known in words about one class.

    Attributes:
        name: The class name.
        lemmas: The name, then its synonyms; no two with the same `match_key`.
        descriptions: Texts to embed and average; empty for a name alone.
        synset: The meaning that was taken, or None.
        source: Who says so: the user, the model's config, or timm's synset definitions; "none" for a name alone.
        alternatives: Further meanings of the name that were not taken, likeliest first.
    """

    name: str
    lemmas: tuple[str, ...]
    descriptions: tuple[str, ...] = ()
    synset: Synset | None = None
    source: DescriptionSource = "none"
    alternatives: tuple[Synset, ...] = ()

    @property
    def description(self) -> str | None:
        """The first description, or None."""
        return self.descriptions[0] if self.descriptions else None

    def describe(self) -> str:
        """Write one line that shows which description was taken, so that a reader can correct it.

        For example "dahlia: any of several plants … (timm, n11960245 dahlia)".
        """
        if not self.descriptions:
            return f"{self.name} (no description)"
        more = f" (and {len(self.descriptions) - 1} more)" if len(self.descriptions) > 1 else ""
        source = f"{self.source}, {self.synset.wnid} {self.synset.lemmas[0]}" if self.synset else self.source
        others = ", ".join(f"{other.wnid} {other.lemmas[0]}" for other in self.alternatives)
        return f"{self.name}: {self.descriptions[0]}{more} ({source}{'; or ' + others if others else ''})"


def resolve_class_texts(
    seen: Sequence[ClassName],
    unseen: Sequence[ClassName],
    descriptions: Literal["auto"] | Mapping[str, str | Sequence[str]] | None = "auto",
) -> tuple[list[ClassText], list[ClassText]]:
    """Find the text of every class, seen and unseen by the same rule.

    Args:
        seen: The classes that the model knows.
        unseen: The classes to add.
        descriptions: "auto" looks descriptions up. A mapping supplies them by class name (or by a label of the model's
            config, such as a WordNet id, to tell apart classes of one name): a text, several texts, or the WordNet id
            of the meaning to take; classes that it does not name are looked up. None uses names alone, but for the
            descriptions that came with the unseen names, which the user gave on purpose.

    Returns:
        The texts of the seen and of the unseen classes, in the given order.

    Raises:
        ArgumentValueError, ArgumentTypeError: `descriptions` is none of these.
        DescriptionError: A key names no class or several, or a description is not a text.
    """
    if isinstance(descriptions, str) and descriptions != "auto":
        raise ArgumentValueError(
            f"`descriptions` must be \"auto\", a mapping name -> description, or None, got '{descriptions}'. "
            "Write {'okapi': 'a striped relative of the giraffe'} for a description of your own."
        )
    if descriptions is not None and not isinstance(descriptions, str | Mapping):
        raise ArgumentTypeError(
            '`descriptions` must be "auto", a mapping name -> description, or None, '
            f"got {type(descriptions).__name__}. Write {{'okapi': 'a striped relative of the giraffe'}}."
        )
    classes = [*seen, *unseen]
    lexicon = load_lexicon()
    fields = fields_of_classes(seen, lexicon)
    # Two classes of one meaning would have one text; what the user says of a seen class comes later and is let be.
    taken = {synset.wnid: entry.name for entry in seen if (synset := synset_of_text(entry, lexicon, fields))}
    from_user = _texts_from_user(classes, len(seen), descriptions if isinstance(descriptions, Mapping) else {}, lexicon, taken)
    look_up = descriptions is not None
    texts = [_text_of(entry, from_user.get(position, ()), look_up, lexicon, fields) for position, entry in enumerate(classes)]
    return texts[: len(seen)], texts[len(seen) :]


def _text_of(entry: ClassName, from_user: tuple[str, ...], look_up: bool, lexicon: Lexicon, fields: frozenset[str]) -> ClassText:
    """Apply the one rule, for seen and unseen classes alike."""
    if from_user:
        chosen = _chosen_synset(from_user, lexicon)
        if chosen is not None:
            return _from_synset(entry, chosen)
        return ClassText(entry.name, _lemmas(entry), from_user, entry.synset, "user")
    if not look_up:
        return ClassText(entry.name, (entry.name,), synset=entry.synset)
    if entry.synset is not None:
        return _from_synset(entry, entry.synset)
    if entry.description:
        return ClassText(entry.name, _lemmas(entry), (entry.description,), source="config")
    found = lexicon.find(entry.name, fields)
    return _from_synset(entry, found[0], found[1:]) if found else ClassText(entry.name, _lemmas(entry))


def _from_synset(entry: ClassName, synset: Synset, alternatives: tuple[Synset, ...] = ()) -> ClassText:
    lemmas = _lemmas(entry, synset.lemmas)
    return ClassText(entry.name, lemmas, (synset.definition,), synset, "timm", alternatives)


def _lemmas(entry: ClassName, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    by_key: dict[str, str] = {}
    for lemma in (entry.name, *entry.synonyms, *more):
        by_key.setdefault(match_key(lemma), lemma)
    return tuple(by_key.values())


def _chosen_synset(texts: Sequence[str], lexicon: Lexicon) -> Synset | None:
    return lexicon.by_wnid(texts[0].strip()) if len(texts) == 1 else None


# ---- what the user wrote --------------------------------------------------------------------------------------------


def _texts_from_user(
    classes: Sequence[ClassName],
    num_seen: int,
    mapping: Mapping[str, str | Sequence[str]],
    lexicon: Lexicon,
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
        if (problem := _problem_with(texts, lexicon, taken))
    ]
    from_mapping: dict[int, tuple[str, ...]] = {}
    key_of: dict[int, str] = {}
    finder = _ClassFinder(classes if mapping else ())  # which takes a while for many names
    for key, value in mapping.items():
        texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()
        positions = finder.positions(key)
        is_new = positions != [] and positions[0] >= num_seen
        problem = _problem_with(texts, lexicon, taken if is_new else {}, value)
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
            "Each must be a text, several texts, or a WordNet id, under the name of one seen or unseen class."
        )
    return from_names | from_mapping


def _problem_with(texts: Sequence[object], lexicon: Lexicon, taken: Mapping[str, str], given: object = None) -> str | None:
    """Say what the class "has" that is no description of it, or None where the texts are fine.

    `taken` is WordNet id -> name of the classes whose ids it cannot have.
    """
    if not texts or not all(isinstance(text, str) for text in texts):
        return f"{given!r}, which is not a text"
    written = [text for text in texts if isinstance(text, str)]
    if not all(text.strip() for text in written):
        return "an empty text"
    unknown = [text for text in written if is_wnid(text) and (len(written) > 1 or not _chosen_synset([text], lexicon))]
    if unknown:
        why = "which must stand alone" if len(written) > 1 else "which timm has no definition for"
        return f"the WordNet id {unknown[0]!r}, {why}"
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
