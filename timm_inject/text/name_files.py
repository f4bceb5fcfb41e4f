"""Files of class names as people have them: names to add, and the labels of a head.

Both may be plain lines, JSON or a Python literal; UTF-8 with or without a byte order mark, or UTF-16 with one; with any line ends.
Lines that begin with "#" are comments. A file that begins with "[" or "{" is read as JSON, whatever it is called.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from timm_inject.errors import ArgumentValueError, InjectionWarning, list_some
from timm_inject.text.new_names import resolve_unseen_class_names
from timm_inject.text.senses import load_senses
from timm_inject.text.words import is_wnid, match_key

__all__ = ["names_to_mapping", "parse_labels", "parse_names", "read_label_file", "read_name_file", "split_name"]

NamedTexts = list[tuple[str, str | None]]

_SEPARATOR = re.compile(r"(?<!\\): ")
# First row of a table that somebody exported.
_HEADERS = {
    ("class", "description"), ("class", "text"), ("label", "description"), ("name", "definition"), ("name", "description"),
    ("name", "text"),
}  # fmt: skip
_QUOTED = re.compile(r"(?P<quote>[\"'])(?P<text>.*)(?P=quote),?")
_TSV_QUOTED = re.compile(r"\"(?:[^\"]|\"\")*\"")
# "12: 'name'," as a printed mapping has it, "12<tab>name" or "12 name" as a table has it; and the name first, likewise.
_INDEX_THEN_NAME = re.compile(
    r"[\"']?(?P<index>\d+)[\"']?(?:\s*[:=](?:\s+|(?=[\"']))|(?P<separator>\s*[\t,;]\s*|\s+))(?P<name>\S.*)"
)
_NAME_THEN_INDEX = re.compile(r"(?P<name>\S.*?)(?:\s*[:=]\s+|(?P<separator>\s*[\t,;]\s*|\s+))(?P<index>\d+),?")
_ID_THEN_NAME = re.compile(r"(?P<wnid>n\d{8})[\s:,;]+(?P<name>\S.*)")
_NUMBERED = re.compile(r"(?P<index>\d+)(?:\s*[._:)-]\s*|\s+)\D.*")
_INDEX = re.compile(r"[0-9]{1,9}")
# Keys under which configs of timm, transformers, torchvision and datasets keep their labels.
_LABEL_KEYS = ("label_names", "id2label", "label2id", "class_to_idx", "class_names", "classes", "names", "labels")
_LABEL_FORMS = (
    "Write one label a line in logit order, 'index: name' lines, or JSON: a list of names, {index: name} or {name: index}."
)
_NAME_FORMS = "Write one name a line, 'name: description', 'name<tab>description', or JSON: a list of names or {name: description}."


# ---- names to add ---------------------------------------------------------------------------------------------------


def split_name(text: str) -> tuple[str, str | None]:
    r"""Split "name: description".

    Only a colon and a space separate, so "Re:Zero" and "3:00 pm clock" are names. A backslash keeps a colon in the name:
    r"Nier\: Automata".

    Returns:
        The name, and the description or None.
    """
    found = _SEPARATOR.search(text)
    name, description = (text[: found.start()], text[found.end() :]) if found else (text, "")
    return name.replace("\\:", ":").strip(), description.strip() or None


def names_to_mapping(names: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """Make the mapping name -> description that `inject` takes.

    Raises:
        ClassNameError: A name is given twice; the text is that of `inject` for a list.
    """
    pairs = list(names)
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        resolve_unseen_class_names([name for name, _ in pairs], ())
    return mapping


def read_name_file(path: str | Path) -> NamedTexts:
    """Read a file of names to add; see `parse_names`.

    Raises:
        ArgumentValueError: The file can't be read, or is none of the forms.
    """
    return parse_names(_read_text(path), where=f"The file '{path}'")


def parse_names(text: str, where: str = "The list of names") -> NamedTexts:
    r"""Read names to add, with or without descriptions.

    Args:
        text: One name a line, or "name: description" (see `split_name`), a name that begins with "#" written as r"\#"; or, where a
            line has a tab, "name<tab>description" in every line, where colons are nothing special; or JSON: a list of names, or a
            mapping name -> description, null for none.
        where: How errors call the text.

    Returns:
        (name, description or None) in the given order; a name may come twice.

    Raises:
        ArgumentValueError: It is none of these, or has no name.
    """
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("[", "{"):
        names = _names_from_data(_parse_data(text, where), where)
    else:
        lines = _lines(text)
        is_table = any("\t" in line.strip() for _, line in lines)
        names = _names_from_table(lines, where) if is_table else [split_name(line) for _, line in lines]
    if not names:
        raise ArgumentValueError(f"{where} holds no names. {_NAME_FORMS}")
    return names


def _names_from_data(data: Any, where: str) -> NamedTexts:
    if isinstance(data, _Pairs):
        texts = [value for _, value in data]
        if all(value is None or isinstance(value, str) for value in texts) and all(isinstance(key, str) for key, _ in data):
            if len(data) > 1 and _is_order(_indices(key for key, _ in data)):
                raise ArgumentValueError(
                    f"{where} maps numbers to texts, and these may be names or descriptions. For new names write a list of them; "
                    "for classes that are called by numbers write 'name<tab>description' lines."
                )
            return [(key.strip(), (value or "").strip() or None) for key, value in data]
    elif all(isinstance(value, str) for value in data):
        return [(value.strip(), None) for value in data]
    odd = next(value for value in (texts if isinstance(data, _Pairs) else data) if not isinstance(value, str | None))
    raise ArgumentValueError(f"{where} holds {_shown(odd)} where a text was expected. {_NAME_FORMS}")


def _names_from_table(lines: Sequence[tuple[int, str]], where: str) -> NamedTexts:
    rows = [(number, [_cell(cell) for cell in line.rstrip().split("\t")]) for number, line in lines]
    wide = [number for number, cells in rows if len(cells) > 2]
    if wide:
        raise ArgumentValueError(
            f"{where} has more than two columns (line {list_some(wide)}). Leave the name and, after a tab, its description."
        )
    if tuple(cell.casefold() for cell in rows[0][1]) in _HEADERS:
        rows = rows[1:]
    return [(cells[0], next(iter(cells[1:]), "") or None) for _, cells in rows]


def _cell(text: str) -> str:
    """A cell as a spreadsheet writes it: in quotes, with quotes in it doubled, where it holds any."""
    text = text.strip()
    return text[1:-1].replace('""', '"').strip() if _TSV_QUOTED.fullmatch(text) else text


# ---- labels of a head -----------------------------------------------------------------------------------------------


def read_label_file(path: str | Path) -> list[str]:
    """Read the labels of a head from a file; see `parse_labels`.

    Raises:
        ArgumentValueError: The file can't be read, or is none of the forms.
    """
    return parse_labels(_read_text(path), where=f"The file '{path}'")


def parse_labels(text: str, where: str = "The list of labels") -> list[str]:
    """Read the labels of a head, for `seen_class_names`.

    Args:
        text: One label a line, with a WordNet id before it or not; "12: 'name'," lines and tables of index and name, in any order;
            or JSON: a list of labels, {index: name}, {index: [id, name]}, {name: index}, {id: name}, or a config that holds one of
            these as `label_names`, `id2label`, `class_to_idx`, …
        where: How errors call the text.

    Returns:
        One label a class, in logit order.

    Raises:
        ArgumentValueError: It is none of these, has no label, or its numbers do not tell the order.

    Warns:
        InjectionWarning: The numbers begin with 1.
    """
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("[", "{"):
        labels = _labels_from_data(_parse_data(text, where), where)
    else:
        labels = _labels_from_lines([line.strip() for _, line in _lines(text)], where)
    if not labels:
        raise ArgumentValueError(f"{where} holds no labels. {_LABEL_FORMS}")
    return labels


def _labels_from_data(data: Any, where: str) -> list[str]:
    if not isinstance(data, _Pairs):
        return [_label(value, where) for value in data]
    keys, values = [key for key, _ in data], [value for _, value in data]
    # JSON has turned the indices that are keys into texts; those that are values are numbers, unless nothing else can be meant.
    if _indices(values) and not (_indices(keys) and any(isinstance(value, str) for value in values)):
        return _in_order(_indices(values), [_label(key, where) for key in keys], where)
    if indices := _indices(keys):
        return _in_order(indices, [_label(value, where) for value in values], where)
    held = {key: value for key, value in data if isinstance(key, str)}
    nested = next((held[key] for key in _LABEL_KEYS if isinstance(held.get(key), list)), None)
    if nested is not None:
        return _labels_from_data(nested, where)
    if all(isinstance(key, str) and is_wnid(key) for key in keys):
        return [_label([key, value], where) for key, value in data]
    raise ArgumentValueError(f"{where} maps {_shown(keys[0])} to {_shown(values[0])}, which tells no order. {_LABEL_FORMS}")


def _label(value: object, where: str) -> str:
    """A label, or an id and a name in one."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value) and is_wnid(value[0]):
        return _label_with_id(*value)
    raise ArgumentValueError(f"{where} holds {_shown(value)} where the name of a class was expected. {_LABEL_FORMS}")


def _labels_from_lines(lines: list[str], where: str) -> list[str]:
    for pattern in (_INDEX_THEN_NAME, _NAME_THEN_INDEX):
        labels = _labels_by_index(pattern, lines, where)
        if labels is not None:
            return labels
    if lines and all(_QUOTED.fullmatch(line) for line in lines):
        return [_unquote(line) for line in lines]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    indices = _indices(found and found["index"] for found in numbered)
    if _is_order(indices) and indices != sorted(indices):
        raise ArgumentValueError(
            f"{where} has numbered labels that are not in the order of their numbers; {lines[0]!r} comes first. If the numbers are "
            "logits, write 'number: name'; if the lines stand in logit order, write them as a JSON list."
        )
    with_id = [_ID_THEN_NAME.fullmatch(line) for line in lines]
    return [_label_with_id(*found.groups()) if found else line for found, line in zip(with_id, lines, strict=True)]


def _label_with_id(wnid: str, name: str) -> str:
    """The id alone where the name adds nothing to it, as folders are called by ids; the name alone where nobody knows the id."""
    senses = load_senses()
    sense = senses.by_wnid(wnid)
    if sense is None:
        return name.strip()
    own = {match_key(word) for word in (*sense.names, *senses.synset_names(wnid))}
    return wnid if match_key(name.partition(",")[0]) in own else f"{wnid} {name.strip()}"


def _labels_by_index(pattern: re.Pattern[str], lines: Sequence[str], where: str) -> list[str] | None:
    """The labels in the order of the numbers beside them; None where the lines are not of that form."""
    found = [pattern.fullmatch(line) for line in lines]
    if len(found) > 2 and found[0] is None:
        found = found[1:]  # the head of a table
    matches = [match for match in found if match]
    if not matches or len(matches) < len(found):
        return None
    names = [_unquote(match["name"]) for match in matches]
    indices = _indices(match["index"] for match in matches)
    separators = {match["separator"] for match in matches} - {None}
    if separators and not _is_order(indices):
        return None  # names such as "7, Rue Victor"
    if any(separator.strip(" ") == "" for separator in separators) and indices != sorted(indices):
        return None
    if 2 * len(set(names)) <= len(names):
        return None  # names such as "1: 00", "2: 00", or "room 1", "room 2"
    return _in_order(indices, names, where)


def _indices(values: Iterable[object]) -> list[int]:
    """The values as numbers; empty where one is no number."""
    numbers = [int(value) if isinstance(value, str) and _INDEX.fullmatch(value) else value for value in values]
    indices = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
    return indices if len(indices) == len(numbers) else []


def _is_order(indices: Sequence[int]) -> bool:
    """Whether the indices are 0 to n - 1, or 1 to n, each once."""
    return len(indices) > 0 and sorted(indices) == list(range(min(indices), min(indices) + len(indices))) and min(indices) in (0, 1)


def _in_order(indices: Sequence[int], labels: Sequence[str], where: str) -> list[str]:
    if not _is_order(indices):
        twice = sorted(index for index, count in Counter(indices).items() if count > 1)
        missing = sorted(set(range(len(indices))) - set(indices))
        problem = f"{list_some(twice)} comes twice" if twice else f"{list_some(missing)} is missing"
        raise ArgumentValueError(
            f"{where} has {len(indices)} numbered labels, but {problem}. Number them from 0 to {len(indices) - 1}, each once; "
            "where the numbers are parts of the names, write a JSON list of names."
        )
    if min(indices) == 1:
        warnings.warn(
            f"{where} numbers its {len(indices)} classes from 1; number 1 is taken as the first output of the model.",
            InjectionWarning,
            stacklevel=2,
        )
    return [label for _, label in sorted(zip(indices, labels, strict=True))]


def _unquote(text: str) -> str:
    """Undo the quotes, and the comma behind them, of an item that was printed by a program."""
    found = _QUOTED.fullmatch(text.strip())
    if found is None:
        return text.strip().removesuffix(",")
    try:
        value = ast.literal_eval(text.strip().removesuffix(","))
    except (ValueError, SyntaxError):
        return found["text"].strip()
    return value.strip() if isinstance(value, str) else found["text"].strip()


# ---- both -----------------------------------------------------------------------------------------------------------


class _Pairs(list[tuple[Any, Any]]):
    """A mapping as it was written, with keys that come twice."""


def _read_text(path: str | Path) -> str:
    """Read a text file.

    Raises:
        ArgumentValueError: It can't be read, or is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: nobody's home; ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise ArgumentValueError(f"The file '{path}' could not be read: {reason}. Check the path.") from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArgumentValueError(f"The file '{path}' is not UTF-8 text: {error}. Save it as UTF-8.") from error


def _lines(text: str) -> list[tuple[int, str]]:
    r"""(number, line) of the lines that are neither blank nor a comment; r"\#" begins one that is none."""
    # Not `splitlines`, which also splits at characters that may stand in a name.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and not line.lstrip().startswith("#")]
    return [(number, line.replace("\\#", "#", 1) if line.lstrip().startswith("\\#") else line) for number, line in kept]


def _parse_data(text: str, where: str) -> Any:
    """Read JSON, or what Python prints for a list or a mapping.

    Raises:
        ArgumentValueError: It is neither.
    """
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        problem = error
    try:
        return _python_literal(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        reason = f"{problem.msg} in line {problem.lineno}" if isinstance(problem, json.JSONDecodeError) else str(problem)
    raise ArgumentValueError(
        f"{where} begins with {text.lstrip()[0]!r}, as JSON does, but can't be read as JSON: {reason}. Mend it; or, if it holds "
        "one name a line, put a line with '#' before the first."
    )


def _python_literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) if key else None for key in node.keys]
        return _Pairs(zip(keys, map(ast.literal_eval, node.values), strict=True))
    value = ast.literal_eval(node)
    if not isinstance(value, list):
        raise ValueError("a set has no order")
    return value


def _shown(value: object) -> str:
    text = f"{{{', '.join(f'{key!r}: {each!r}' for key, each in value)}}}" if isinstance(value, _Pairs) else repr(value)
    return f"{text[:60]}…" if len(text) > 60 else text
