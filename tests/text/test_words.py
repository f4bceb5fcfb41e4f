"""Spelling alone: no list of words is read."""

import pytest

from timm_inject.text.words import is_wnid, match_key, plurals, singulars, split_hint, without_side


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
        ("grizzly+bear", "grizzly bear"),
        ("pink-yellow dahlia?", "pink-yellow dahlia"),
        ("mac & cheese", "mac and cheese"),
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


@pytest.mark.parametrize("name", [" -_- ", ":)", "?!", ""])
def test_match_key_of_no_letters_is_empty(name):
    assert match_key(name) == ""


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("wolves", "wolf"),
        ("knives", "knife"),
        ("mice", "mouse"),
        ("geese", "goose"),
        ("children", "child"),
        ("firemen", "fireman"),
        ("berries", "berry"),
        ("buses", "bus"),
        ("axes", "ax"),
        ("axes", "axis"),
        ("ice creams", "ice cream"),
        ("computer mice", "computer mouse"),
    ],
)
def test_a_plural_leads_to_its_singular_and_back(plural, singular):
    assert singular in singulars(plural)
    assert plural in plurals(singular)


@pytest.mark.parametrize("key", ["glass", "gas", "cat", "", "ox"])
def test_what_ends_otherwise_is_no_plural(key):
    assert list(singulars(key)) == []


def test_plurals_are_every_name_with_that_singular():
    words = ["wolf", "fox", "man", "axis", "glass", "roof", "wife", "berry", "bus", "tooth", "a", "i", "ss", "sis"]
    forms = {form for word in words for form in plurals(word)}
    for word in words:
        assert set(plurals(word)) == {form for form in forms if word in singulars(form)}


@pytest.mark.parametrize(
    ("name", "word", "hint"),
    [
        ("tie (clothing)", "tie", ("clothing",)),
        ("crane, bird", "crane", ("bird",)),
        (" pizza (with the pineapple) ", "pizza", ("pineapple",)),
        ("trunk (of a car)", "trunk", ("car",)),
        ("chess (board-game)", "chess", ("board", "game")),
        ("crane (of the)", "crane", ()),
        ("crane", "crane", ()),
        ("(crane)", "(crane)", ()),
        ("crane (a) (b)", "crane (a) (b)", ()),
    ],
)
def test_a_hint_stands_in_brackets_or_after_a_comma(name, word, hint):
    assert split_hint(name) == (word, hint)


def test_the_side_that_a_place_is_seen_from_is_taken_off():
    assert without_side("Church_outdoor") == "church"
    assert without_side("balcony (exterior)") == "balcony"
    assert without_side("hot tub, indoors") == "hot tub"
    for name in ("outdoor", "outdoor pool", "church"):
        assert without_side(name) == name


def test_is_wnid():
    assert is_wnid(" n02123045 ")
    assert not is_wnid("n0212304")
    assert not is_wnid("v02123045")
