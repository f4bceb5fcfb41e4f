"""The form of the lexicon; what a line says is for its readers to judge."""

import re
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

import timm_inject.text.lexicon as lexicon
from timm_inject.text.lexicon import LexiconLine, read_lexicon
from timm_inject.text.senses import load_senses
from timm_inject.text.synsets import label_set_wnids, read_synsets
from timm_inject.text.words import is_wnid, match_key

FILES = sorted(Path(lexicon.__file__).parent.glob("*.tsv"))
# What stands in a file, by the first step of its kinds.
TOP_KINDS = {
    "birds": "animal",
    "buildings": "building",
    "clothing": "clothing",
    "containers": "container",
    "devices": "device",
    "food": "food",
    "furniture": "furniture",
    "instruments": "instrument",
    "mammals": "animal",
    "nature": "nature",
    "objects": "object",
    "other_animals": "animal",
    "people": "person",
    "places_indoor": "place",
    "places_outdoor": "place",
    "plants": "plant",
    "sports": "sport",
    "structures": "structure",
    "tools": "tool",
    "toys": "toy",
    "vehicles": "vehicle",
}
FORBIDDEN = re.compile(r"\b(may|might|usually|often used)\b|[.!?<>*_`#|\[\]()]|https?:")


def offending(is_wrong) -> list[str]:
    """The usual names of the lines that are wrong in some way."""
    return [line.names[0] for line in read_lexicon() if is_wrong(line)]


def test_it_holds_thousands_of_classes_and_all_of_imagenet_1k():
    assert len(read_lexicon()) >= 6000
    wnids = {line.wnid for line in read_lexicon()}
    assert set(label_set_wnids("imagenet-1k")) <= wnids


def test_every_file_is_one_field():
    assert [file.stem for file in FILES] == sorted(TOP_KINDS)
    for file in FILES:
        tops = {line.split("\t")[2].split("/")[0] for line in file.read_text(encoding="utf-8").splitlines()}
        assert tops == {TOP_KINDS[file.stem]}, file.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_plain_text_of_four_columns_in_order(file):
    text = file.read_bytes().decode("utf-8")
    assert text.endswith("\n")
    assert text == unicodedata.normalize("NFC", text)
    assert {character for character in text if unicodedata.category(character).startswith("C")} == {"\n", "\t"}
    rows = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    assert [row for row in rows if len(row) != 4] == []
    assert [row[0] for row in rows if any(column != " ".join(column.split()) for column in row)] == []
    order = [(kind, names.split("; ")[0].casefold()) for names, _, kind, _ in rows]
    assert order == sorted(order)


def test_lines_are_read_as_they_stand():
    rows = [line.split("\t") for file in FILES for line in file.read_text(encoding="utf-8").splitlines()]
    assert [("; ".join(line.names), line.wnid or "", line.kind, line.sentence) for line in read_lexicon()] == [
        tuple(row) for row in rows
    ]
    okapi = next(line for line in read_lexicon() if line.names[0] == "okapi")
    assert okapi == LexiconLine(("okapi", "Okapia johnstoni"), "n02439398", "animal/mammal/hoofed/giraffe", okapi.sentence)
    assert "stripes" in okapi.sentence


def test_sentences_are_12_to_40_words_on_what_is_seen():
    assert offending(lambda line: not 12 <= len(line.sentence.split()) <= 40) == []
    assert offending(lambda line: FORBIDDEN.search(line.sentence)) == []
    letter_shapes = re.compile(r"[A-Z]-shaped ")
    assert offending(lambda line: line.sentence[0].isupper() and not letter_shapes.match(line.sentence)) == []


def test_no_sentence_begins_with_the_class_or_stands_twice():
    assert offending(lambda line: f"{match_key(line.sentence)} ".startswith(f"{match_key(line.names[0])} ")) == []
    assert [sentence for sentence, times in Counter(line.sentence for line in read_lexicon()).items() if times > 1] == []


def test_names_are_plain_and_none_stands_twice_in_a_line():
    assert offending(lambda line: len(line.names) > 8) == []
    assert offending(lambda line: any(re.search(r"[,;()\[\]<>*_`#|/\"]", name) or not match_key(name) for name in line.names)) == []
    assert offending(lambda line: len({match_key(name) for name in line.names}) != len(line.names)) == []


def test_usual_names_are_unique():
    times = Counter(match_key(line.names[0]) for line in read_lexicon())
    assert [name for name, number in times.items() if number > 1] == []


def test_ids_are_real_and_unique():
    ids = [line.wnid for line in read_lexicon() if line.wnid is not None]
    assert [wnid for wnid in ids if not is_wnid(wnid) or wnid not in read_synsets()] == []
    assert [wnid for wnid, number in Counter(ids).items() if number > 1] == []


def test_kinds_are_one_tree_of_lower_case_nouns():
    step = r"[a-z]+(?:[ -][a-z]+)*"
    assert offending(lambda line: not re.fullmatch(rf"{step}(?:/{step}){{1,4}}", line.kind)) == []
    counts = load_senses().kind_counts
    assert counts[""] == len(read_lexicon())
    groups = Counter(path.split("/")[0] for path in counts if path.count("/") == 1)
    assert set(groups) == set(TOP_KINDS.values())
    assert max(groups.values()) <= 30  # groups, which many lines share
    assert min(count for path, count in counts.items() if path.count("/") == 1) >= 2


def test_each_usual_name_finds_its_own_line():
    senses = load_senses()
    assert offending(lambda line: senses.find(line.names[0])[0].sentence != line.sentence) == []


def test_each_name_finds_its_line():
    senses = load_senses()
    assert offending(lambda line: any(line.sentence not in {s.sentence for s in senses.find(name)} for name in line.names)) == []


def test_reading_costs_at_most_50_ms():
    def seconds():
        start = time.thread_time()
        read_lexicon.__wrapped__()
        return time.thread_time() - start

    assert min(seconds() for _ in range(10)) <= 0.05
