"""Files of names and of labels: every form that people bring gives the same names, and what is no such file is told."""

import codecs
import contextlib
import json
import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from timm_inject.errors import ArgumentValueError, ClassNameError, InjectionWarning
from timm_inject.text import names_to_mapping, parse_labels, parse_names, read_label_file, read_name_file, split_name

# What a name in a file may hold: no line ends and tabs, which separate; spaces at its ends don't count. U+2028 and U+0085 end lines
# for `str.splitlines` alone.
_LETTERS = st.characters(codec="utf-8", exclude_characters="\n\r\t\\")
_NAMES = st.text(_LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
_TEXTS = st.none() | _NAMES
_WORDS = st.from_regex(r"[A-Za-zäé][A-Za-zäé' -]{0,10}[a-z]", fullmatch=True)
fast = settings(deadline=None, max_examples=150)


# ---- one name -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("okapi", ("okapi", None)),
        (" okapi: a striped relative ", ("okapi", "a striped relative")),
        ("okapi: ", ("okapi", None)),
        ("3:00 pm clock", ("3:00 pm clock", None)),
        ("Re:Zero", ("Re:Zero", None)),
        (":d", (":d", None)),
        (r"Nier\: Automata", ("Nier: Automata", None)),
        (r"Nier\: Automata: a game: with robots", ("Nier: Automata", "a game: with robots")),
        ("#selfie", ("#selfie", None)),
    ],
)
def test_only_a_colon_and_a_space_separate(text, expected):
    assert split_name(text) == expected


@fast
@given(_NAMES, _TEXTS)
def test_any_name_can_be_written(name, text):
    escaped = name.replace(":", r"\:")
    assert split_name(f"{escaped}: {text}" if text else escaped) == (name, text)
    if ": " not in name:
        assert split_name(name) == (name, None)


def test_names_given_twice_are_told_as_for_a_list():
    assert names_to_mapping([("okapi", "a"), ("dahlia", None)]) == {"okapi": "a", "dahlia": None}
    with pytest.raises(ClassNameError, match=r"^1 of 3 unseen class names .*: 'okapi' is given twice \(positions 0 and 2\)\."):
        names_to_mapping([("okapi", "a"), ("dahlia", None), ("okapi", "b")])
    with pytest.raises(ClassNameError, match="is empty"):
        names_to_mapping([("", "a"), ("", "b")])


# ---- files of names -------------------------------------------------------------------------------------------------


@fast
@given(st.lists(st.tuples(_NAMES, _TEXTS), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
@example([("#1 dad mug", None), ("a: b", "c: d"), ("y\u2028x", None)], "\r\n", True)
def test_lines_tables_and_json_give_the_same_names(pairs, end, marked):
    begin = "\ufeff" if marked else ""
    lines = [name.replace(":", r"\:") + (f": {text}" if text else "") for name, text in pairs]
    lines = [f"\\{line}" if line.startswith("#") else line for line in lines]
    assert parse_names(begin + end.join(["# names", "", *lines, ""])) == pairs
    table = [f"{name}\t{text or ''}" for name, text in pairs if not name.startswith("#")]
    # Only quotes around all of a cell are a spreadsheet's.
    # A table that begins like JSON is taken for it.
    if (
        len(table) == len(pairs)
        and pairs[0][0][0] not in "[{"
        and any(text for _, text in pairs)
        and not any('"' in line for line in table)
    ):
        assert parse_names(begin + end.join(table)) == pairs
    assert parse_names(begin + json.dumps([name for name, _ in pairs])) == [(name, None) for name, _ in pairs]
    if len({name for name, _ in pairs}) == len(pairs) and not all(name.isdigit() for name, _ in pairs):
        assert parse_names(begin + json.dumps(dict(pairs))) == pairs
        assert parse_names(repr(dict(pairs))) == pairs


def test_a_table_as_a_spreadsheet_writes_it():
    assert parse_names('name\tdescription\n"say ""no"""\ta: b\nNier: Automata\n"Weird Al" Yankovic\tsinger') == [
        ('say "no"', "a: b"),
        ("Nier: Automata", None),
        ('"Weird Al" Yankovic', "singer"),
    ]
    assert parse_names("\tno name\nokapi\t\nzebu\tcow") == [("", "no name"), ("okapi", None), ("zebu", "cow")]
    assert parse_names("\tokapi\n\tzebu\t") == [("okapi", None), ("zebu", None)]


def test_a_name_given_twice_in_json_comes_twice():
    assert parse_names('{"okapi": "a", "okapi": "b"}') == [("okapi", "a"), ("okapi", "b")]
    assert parse_names("{'okapi': 'a', 'okapi': None}") == [("okapi", "a"), ("okapi", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^The list of names holds no names\. Write one name a line, "),
        ("# only\n\n# comments", "holds no names"),
        ("[]", "holds no names"),
        ('["okapi", 3]', r"holds 3 where a text was expected\."),
        ('{"okapi": ["a", "b"]}', r"holds \['a', 'b'\] where a text was expected\."),
        ('{"okapi": {"text": "a"}}', r"holds \{'text': 'a'\} where a text was expected\."),
        ('["okapi",\n "dah', r"begins with '\[', as JSON does, but can't be read as JSON: .* in line 2\. Mend it; or, "),
        ("[REC]\nAlien", "put a line with '#' before the first"),
        ("{'a', 'b'}", "can't be read as JSON"),
        ("[" * 100_000, "can't be read as JSON"),
        ("okapi\ta\tb\nx", r"has more than two columns \(line 1\)\."),
        ('{"0": "okapi", "1": "dahlia"}', "maps numbers to texts, and these may be names or descriptions"),
    ],
)
def test_what_is_no_list_of_names_is_told(text, message):
    with pytest.raises(ArgumentValueError, match=message):
        parse_names(text)


# ---- files of labels ------------------------------------------------------------------------------------------------


def _shuffled(labels):
    return sorted(enumerate(labels), key=lambda pair: (pair[0] * 7919) % 13)


def _forms(labels):
    """The labels as programs and people write them; the order of the lines counts only in the first ones."""
    yield "\n".join(labels)
    yield "# labels\r\n\r\n" + "\r\n".join(labels) + "\r\n"
    yield json.dumps(labels)
    yield json.dumps(labels, indent=1)
    yield repr(labels)
    yield ",\n".join(map(repr, labels)) + ","
    yield json.dumps({"model_type": "vit", "id2label": dict(enumerate(labels))})
    yield json.dumps({"label_names": labels, "num_classes": len(labels)})
    yield json.dumps({"label2id": {label: index for index, label in enumerate(labels)}})
    yield "\n".join(f"{index} {label}" for index, label in enumerate(labels))
    yield "\n".join(f"{label} {index}" for index, label in enumerate(labels))
    for pairs in (list(enumerate(labels)), _shuffled(labels)):
        yield json.dumps(dict(pairs))
        yield repr(dict(pairs))
        yield json.dumps({label: index for index, label in pairs})
        yield "\n".join(f"{index}: {label!r}," for index, label in pairs)
        yield "\n".join(f"  {json.dumps(str(index))}: {json.dumps(label)}," for index, label in pairs)
        yield "\n".join(f"{index}: {label}" for index, label in pairs)
        yield "names:\n" + "\n".join(f"  {index}: {label}" for index, label in pairs)
        yield "\n".join(f"{index}\t{label}" for index, label in pairs)
        yield "id,name\n" + "\n".join(f"{index},{label}" for index, label in pairs)
        yield "\n".join(f"{label}\t{index}" for index, label in pairs)
        yield "\n".join(f"{label}: {index}" for index, label in pairs)


@fast
@given(st.lists(_WORDS, min_size=3, max_size=14, unique=True))
@example(["crane", "jack-o'-lantern", "a b", "maillot"])
def test_every_form_gives_the_same_labels(labels):
    for text in _forms(labels):
        assert parse_labels(text) == labels, text
        assert parse_labels(f"\ufeff{text}") == labels, text


def test_two_classes_may_share_a_label():
    labels = ["crane", "tench, Tinca tinca", "crane", "maillot", "maillot, tank suit"]
    for text in (repr(dict(enumerate(labels))), "\n".join(f"{index}: {label!r}," for index, label in enumerate(labels))):
        assert parse_labels(text) == labels


def test_labels_with_ids():
    assert parse_labels("n01440764 tench, Tinca tinca\nn01443537\tgoldfish") == ["n01440764", "n01443537"]
    assert parse_labels('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}') == ["n01440764", "n01443537"]
    assert parse_labels('{"n01440764": "tench", "n01443537": "goldfish"}') == ["n01440764", "n01443537"]
    # A name that the synset lacks is kept beside the id, and the name alone of an id that nobody knows.
    assert parse_labels("n01443537 my fish\nn99999999 gadget") == ["n01443537 my fish", "gadget"]
    # Folders are called like that, so nothing is taken off.
    assert parse_labels("n02085620-Chihuahua\n001.Black_footed_Albatross") == ["n02085620-Chihuahua", "001.Black_footed_Albatross"]


def test_names_with_numbers_are_names():
    for labels in (["1 euro", "2 euro"], ["50 cent", "1 euro", "2 euro"], ["room 1", "room 2", "room 3"], ["7, Rue A", "9, Rue B"]):
        assert parse_labels("\n".join(labels)) == labels


@pytest.mark.parametrize(
    "text", ['{"1": "rose", "2": "tulip", "3": "iris"}', "1: rose\n2: tulip\n3: iris", "rose,1\ntulip,2\niris,3"]
)
def test_numbers_from_1_are_taken_with_a_warning(text):
    with pytest.warns(InjectionWarning, match="numbers its 3 classes from 1; number 1 is taken as the first output"):
        assert parse_labels(text) == ["rose", "tulip", "iris"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^The list of labels holds no labels. Write one label a line in logit order, "),
        ("{}", "holds no labels"),
        ('["rose", 3]', "holds 3 where the name of a class was expected"),
        ('[["a", "b"]]', r"holds \['a', 'b'\] where the name of a class was expected"),
        ('[{"id": 0, "name": "rose"}]', "where the name of a class was expected"),
        ('{"rose": "tulip"}', "maps 'rose' to 'tulip', which tells no order"),
        ('{"rose": true}', "maps 'rose' to True, which tells no order"),
        ('{"0": "rose", "2": "tulip"}', "has 2 numbered labels, but 1 is missing. Number them from 0 to 1, each once"),
        ('{"rose": 0, "tulip": 0}', "has 2 numbered labels, but 0 comes twice"),
        ("0: rose\n2: tulip\n5: iris", "has 3 numbered labels, but 1 is missing"),
        ("1 rose\n0 tulip\n2 iris", "not in the order of their numbers; '1 rose' comes first. If the numbers are logits, write"),
        ("10.rose\n1.tulip\n2.iris\n3.a\n4.b\n5.c\n6.d\n7.e\n8.f\n9.g", "write them as a JSON list"),
        ('{"id2label": {"0": "rose"', "can't be read as JSON"),
        (f'{{"{"9" * 5000}": "rose"}}', "which tells no order"),
    ],
)
def test_what_is_no_list_of_labels_is_told(text, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InjectionWarning)
        with pytest.raises(ArgumentValueError, match=message):
            parse_labels(text)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=40) | st.from_regex(r"[\[{(]?[0-9a-z\"':,\[\]{}\t \n-]{0,30}[\]})]?", fullmatch=True))
def test_no_text_gives_another_error(text):
    for parse in (parse_names, parse_labels):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ArgumentValueError):
                assert len(parse(text)) > 0


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoded", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark"])
def test_encodings(tmp_path, encoded):
    path, text = tmp_path / "names.txt", "café\r\n象: 长鼻子\r\n"
    path.write_bytes(codecs.BOM_UTF16_LE + text.encode("utf-16-le") if encoded == "utf-16-le-mark" else text.encode(encoded))
    assert read_name_file(path) == [("café", None), ("象", "长鼻子")]
    assert read_label_file(path) == ["café", "象: 长鼻子"]


def test_files_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    for read in (read_name_file, read_label_file):
        with pytest.raises(ArgumentValueError, match=r"^The file '.*latin\.txt' is not UTF-8 text: .* Save it as UTF-8\.$"):
            read(tmp_path / "latin.txt")
        with pytest.raises(
            ArgumentValueError, match=r"missing\.txt' could not be read: No such file or directory\. Check the path\.$"
        ):
            read(tmp_path / "missing.txt")
        with pytest.raises(ArgumentValueError, match=r"could not be read: Is a directory\."):
            read(tmp_path)
        with pytest.raises(ArgumentValueError, match=r"could not be read: File name too long\."):
            read("x" * 5000)
        with pytest.raises(ArgumentValueError, match=r"could not be read: embedded null byte\."):
            read("x\0")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("okapi")
    assert read_name_file("~/names.txt") == [("okapi", None)]


def test_the_file_is_named_where_it_holds_something_else(tmp_path):
    (tmp_path / "names.json").write_text('{"okapi": 3}')
    with pytest.raises(ArgumentValueError, match=r"^The file '.*names\.json' holds 3 where a text was expected\."):
        read_name_file(tmp_path / "names.json")


def test_a_printed_mapping_is_no_program(tmp_path):
    """A file is data: nothing in it is run."""
    with pytest.raises(ArgumentValueError, match="can't be read as JSON"):
        parse_labels(f"[open({str(tmp_path / 'made')!r}, 'w').name]")
    assert list(tmp_path.iterdir()) == []
