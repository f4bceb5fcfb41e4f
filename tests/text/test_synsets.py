"""The lexicon, on timm's real synsets."""

import subprocess
import sys

import pytest

from timm_inject.text.synsets import Lexicon, Synset, is_wnid, label_set_wnids, load_lexicon, match_key, usual_fields

BIRD = "n02012849"
MACHINE = "n03126707"


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon()


def wnids(synsets: tuple[Synset, ...]) -> list[str]:
    return [synset.wnid for synset in synsets]


def test_holds_every_synset_of_every_label_set(lexicon):
    assert len(lexicon) == 21844
    for label_set in ("imagenet-1k", "imagenet-12k", "imagenet-21k-miil", "imagenet-21k-goog", "imagenet-22k-ms"):
        assert all(lexicon.by_wnid(wnid) for wnid in label_set_wnids(label_set))


def test_is_read_once():
    assert load_lexicon() is load_lexicon()


def test_import_reads_nothing():
    program = "import timm_inject.text.synsets as m; print(m.load_lexicon.cache_info().misses, m.label_set_wnids.cache_info())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("0 CacheInfo(hits=0, misses=0")


def test_by_wnid_gives_lemmas_and_definition(lexicon):
    assert lexicon.by_wnid("n02123045") == Synset(
        "n02123045", ("tabby", "tabby cat"), "a cat with a grey or tawny coat mottled with black"
    )
    assert lexicon.by_wnid("n99999999") is None
    assert lexicon.by_wnid("tabby") is None


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Tabby_Cat", "tabby cat"),
        ("  tabby   cat ", "tabby cat"),
        ("long-tailed tit", "long tailed tit"),
        ("piñata", "pinata"),
        ("pin\u0303ata", "piñata"),
        ("Brewer_Blackbird", "Brewer's blackbird"),
        ("Brewer\u2019s blackbird", "Brewer's blackbird"),
        ("Brewer's_blackbird", "Brewer's blackbird"),
        ("ladies' tresses", "ladies tresses"),
        ("jack-o'-lantern", "jack o lantern"),
        ("St. Bernard", "st bernard"),
        ("Straße", "STRASSE"),
    ],
)
def test_match_key_ignores_spelling(name, same):
    assert match_key(name) == match_key(same)


@pytest.mark.parametrize(
    ("name", "other"),
    [("crane", "crane (machine)"), ("C++", "C"), ("C#", "C"), ("か", "が"), ("cat", "cats"), ("1", "2")],
)
def test_match_key_keeps_what_tells_names_apart(name, other):
    assert match_key(name) != match_key(other)


def test_match_key_of_no_letters_is_empty():
    assert match_key(" -_- ") == ""


@pytest.mark.parametrize(
    ("name", "first_lemma"),
    [
        ("okapi", "okapi"),
        ("OKAPI", "okapi"),
        ("tabby_cat", "tabby"),
        ("Brewer's blackbirds", None),
        ("wolves", "wolf"),
        ("knives", "knife"),
        ("mice", "mouse"),
        ("geese", "goose"),
        ("children", "child"),
        ("berries", "berry"),
        ("buses", "bus"),
        ("potatoes", "potato"),
        ("axes", "ax"),
        ("ice creams", "ice cream"),
        ("scissor", "scissors"),
        ("sea shores", "seashore"),
        ("teddybear", "teddy"),
        ("Audubon warbler", "Audubon's warbler"),
        ("n02439398", "okapi"),
        ("n99999999", None),
        ("electric scooter", None),
        ("", None),
        ("(", None),
    ],
)
def test_find(lexicon, name, first_lemma):
    found = lexicon.find(name)
    assert (found[0].lemmas[0] if found else None) == first_lemma


def test_a_synset_named_so_first_comes_before_one_named_so_too(lexicon):
    assert lexicon.find("sea horse")[0].lemmas[0] == "seahorse"
    assert lexicon.find("tabby")[0].lemmas[0] == "tabby"
    positions = [match_key(synset.lemmas[0]) == "dish" for synset in lexicon.find("dish")]
    assert positions == sorted(positions, reverse=True)
    assert not all(positions)


def test_a_plural_of_its_own_comes_before_the_singular(lexicon):
    assert wnids(lexicon.find("sunglasses")) == ["n04356056", "n04355933"]


def test_equally_good_meanings_keep_the_order_of_the_lexicon(lexicon):
    assert wnids(lexicon.find("crane")) == [BIRD, MACHINE]


def test_of_equally_good_meanings_one_from_the_fields_asked_for_comes_first(lexicon):
    machines = usual_fields([lexicon.by_wnid(MACHINE)])
    birds = usual_fields([lexicon.by_wnid(BIRD)])
    assert wnids(lexicon.find("crane", machines)) == wnids(lexicon.find("cranes", machines)) == [MACHINE, BIRD]
    assert wnids(lexicon.find("crane", birds)) == wnids(lexicon.find("crane", machines | birds)) == [BIRD, MACHINE]
    assert wnids(lexicon.find("crane (bird)", machines)) == [BIRD, MACHINE]  # a hint says more


def test_whose_first_name_it_is_and_what_people_photograph_come_before_the_field():
    animal, tool, idea = (Synset(wnid, ("foo",), "") for wnid in ("n02000000", "n03000000", "n06000000"))
    second_name = Synset("n03000001", ("bar", "foo"), "")
    tools = usual_fields([tool])
    assert wnids(Lexicon([animal, tool, idea]).find("foo", tools)) == [tool.wnid, animal.wnid, idea.wnid]
    assert wnids(Lexicon([animal, second_name]).find("foo", tools)) == [animal.wnid, second_name.wnid]
    assert wnids(Lexicon([animal, tool], pictured={animal.wnid}).find("foo", tools)) == [animal.wnid, tool.wnid]


@pytest.mark.parametrize(
    ("name", "wnid"),
    [
        ("crane (machine)", MACHINE),
        ("crane, bird", BIRD),
        ("crane", None),  # no hint
        ("crane (origami)", None),  # fits none
        ("crane (of the)", None),  # says nothing
        ("okapi (animal)", None),  # one meaning only
        ("pizza (with pineapple)", None),
        ("casserole (food)", None),  # fits two alike
        ("tench, Tinca tinca", None),
    ],
)
def test_a_hint_picks_a_meaning_where_it_tells_it_from_others(lexicon, name, wnid):
    sense = lexicon.hinted_sense(name)
    assert (sense.wnid if sense else None) == wnid


def test_a_field_is_usual_with_a_tenth_of_the_commonest_ones_classes(lexicon):
    bird, machine = lexicon.by_wnid(BIRD), lexicon.by_wnid(MACHINE)
    assert usual_fields([]) == frozenset()
    both = usual_fields([bird, machine])
    assert len(both) == 2
    assert usual_fields([machine, *[bird] * 10]) == both
    assert usual_fields([machine, *[bird] * 11]) == usual_fields([bird])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("crane (bird)", [BIRD, MACHINE]),
        ("crane, bird", [BIRD, MACHINE]),
        ("Cranes (Birds)", [BIRD, MACHINE]),
        ("crane (machine)", [MACHINE, BIRD]),
        ("crane (heavy lifting)", [MACHINE, BIRD]),
        ("crane (animal)", [BIRD, MACHINE]),
        ("crane (origami)", []),
        ("mouse (rodent)", ["n02330245", "n03793489"]),
        ("mouse (device)", ["n03793489", "n02330245"]),
        ("tench, Tinca tinca", ["n01440764"]),
    ],
)
def test_a_hint_picks_the_meaning(lexicon, name, expected):
    assert wnids(lexicon.find(name)) == expected


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("tabbies", "tabby"),
        ("Cranes", "crane"),
        ("teddybear", "teddy bear"),
        ("sunglasses", "sunglasses"),
        ("axes", "axes"),  # of an ax or of an axis
        ("tuktuks", "tuktuks"),  # no word of the lexicon, so nothing is assumed
    ],
)
def test_word_key_undoes_only_what_is_certain(lexicon, name, key):
    assert lexicon.word_key(name) == key


def test_is_wnid():
    assert is_wnid(" n02123045 ")
    assert not is_wnid("n0212304")
    assert not is_wnid("v02123045")


def test_every_first_lemma_finds_its_synset(lexicon):
    missed = [wnid for wnid in label_set_wnids("imagenet-22k") if wnid not in wnids(lexicon.find(lexicon.by_wnid(wnid).lemmas[0]))]
    assert missed == []


def test_lexicon_of_ones_own():
    lexicon = Lexicon([Synset("n00000001", ("foo", "bar"), "one"), Synset("n00000002", ("bar",), "two")])
    assert wnids(lexicon.find("bars")) == ["n00000002", "n00000001"]
