"""Names of unseen classes, beside timm's real label sets."""

import numpy as np
import pytest

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, ClassNameError, DescriptionError
from timm_inject.text.names import ClassName, resolve_seen_class_names
from timm_inject.text.new_names import resolve_unseen_class_names


@pytest.fixture(scope="module")
def imagenet() -> list[ClassName]:
    return resolve_seen_class_names(None, 1000, "imagenet-1k")


def error_of(kind: type[Exception], function, *args, **options) -> str:
    with pytest.raises(kind) as caught:
        function(*args, **options)
    return str(caught.value)


def refusal(names, known, **options) -> str:
    return error_of(ClassNameError, resolve_unseen_class_names, names, known, **options)


def test_unseen_names_are_stripped_and_kept(imagenet):
    names = resolve_unseen_class_names([" Okapi", "electric-scooter"], imagenet)
    assert names == [ClassName("Okapi"), ClassName("electric-scooter")]


@pytest.mark.parametrize("names", [("okapi",), ["okapi"], np.array(["okapi"]), (name for name in ["okapi"])])
def test_any_ordered_iterable_of_names(names, imagenet):
    assert resolve_unseen_class_names(names, imagenet) == [ClassName("okapi")]


def test_unseen_mapping(imagenet):
    names = resolve_unseen_class_names({"okapi": " stripy ", "dahlia": None}, imagenet)
    assert names == [ClassName("okapi", description="stripy"), ClassName("dahlia")]


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (
            "zebra",
            ArgumentTypeError,
            "`unseen_class_names` must be a list of names, got the string 'zebra'. Write ['zebra'] for a single class.",
        ),
        (
            None,
            ArgumentTypeError,
            "`unseen_class_names` must be a list of names, got NoneType. Write ['okapi'] for a single class.",
        ),
        (
            b"zebra",
            ArgumentTypeError,
            "`unseen_class_names` must be a list of names, got bytes. Write ['okapi'] for a single class.",
        ),
        (
            {"okapi", "dahlia"},
            ArgumentTypeError,
            "`unseen_class_names` must be a list of names, got a set, which has no order for the new outputs. Write sorted(…).",
        ),
        ([], ArgumentValueError, "`unseen_class_names` is empty. Give at least one name, such as ['okapi']."),
        ({}, ArgumentValueError, "`unseen_class_names` is empty. Give at least one name, such as ['okapi']."),
        (
            ["okapi", 3, None],
            ArgumentTypeError,
            "`unseen_class_names` must hold strings only, got 3 (int) at position 1, None (NoneType) at position 2. "
            "Write each name as a string.",
        ),
        (
            ["okapi", "tabby cat", "okapi"],
            ClassNameError,
            "2 of 3 unseen class names cannot be added: 'tabby cat' is already seen class 281 ('tabby'); "
            "'okapi' is given twice (positions 0 and 2). Remove or rename them.",
        ),
        (
            ["Tabby_Cat"],
            ClassNameError,
            "1 of 1 unseen class names cannot be added: 'Tabby_Cat' is already seen class 281 ('tabby'). Remove or rename it.",
        ),
        (
            ["Okapi", "okapi", "okapis", "tabbies", "TABBY"],
            ClassNameError,
            "4 of 5 unseen class names cannot be added: 'Okapi' is given 3 times (positions 0, 1 and 2, as 'Okapi', "
            "'okapi' and 'okapis'); 'tabbies' is already seen class 281 ('tabby'). Remove or rename them.",
        ),
        (
            ["crane"],
            ClassNameError,
            "1 of 1 unseen class names cannot be added: 'crane' is already seen classes 134 and 517. Remove or rename it.",
        ),
        (
            ["", "a\x07b", "---"],
            ClassNameError,
            "3 of 3 unseen class names cannot be added: the name at position 0 is empty; 'a\\x07b' has a control "
            "character; '---' has no letters or digits. Remove or rename them.",
        ),
        (
            [""] * 7,
            ClassNameError,
            "7 of 7 unseen class names cannot be added: the name at position 0 is empty; the name at position 1 is "
            "empty; the name at position 2 is empty; the name at position 3 is empty; the name at position 4 is empty; "
            "and 2 more. Remove or rename them.",
        ),
        (
            {"okapi": 3, "dahlia": " "},
            DescriptionError,
            "2 of 2 descriptions in `unseen_class_names` are not texts: 'okapi' has 3, 'dahlia' has ' '. "
            "Give a text, or None for no description.",
        ),
    ],
)
def test_bad_unseen_names(names, kind, message, imagenet):
    assert error_of(kind, resolve_unseen_class_names, names, imagenet) == message


def test_natural_exceptions_work(imagenet):
    with pytest.raises(TypeError):
        resolve_unseen_class_names("zebra", imagenet)
    with pytest.raises(ValueError, match="already seen"):
        resolve_unseen_class_names(["tench"], imagenet)


@pytest.mark.parametrize("name", ["hedgehog", "sweet potato", "mole", "tie", "fork", "couch", "tea", "drawers"])
def test_what_means_something_else_than_a_seen_class_is_new(name, imagenet):
    """Each is one of WordNet's words for something in ImageNet, or was once taken for it."""
    assert resolve_unseen_class_names([name], imagenet) == [ClassName(name)]


@pytest.mark.parametrize(
    ("name", "position", "called"),
    [
        ("kite", 21, ""),
        ("Zebras", 340, " ('zebra')"),
        ("kite (bird)", 21, " ('kite')"),
        ("lighthouse", 437, " ('beacon')"),
        ("laptop", 620, ""),
        ("hippo", 344, " ('hippopotamus')"),
        ("mouse (computer)", 673, " ('mouse')"),
        ("computer mouse", 673, " ('mouse')"),
        ("orangutang", 365, " ('orangutan')"),
    ],
)
def test_the_name_itself_and_the_same_sense_clash(name, position, called, imagenet):
    assert refusal([name], imagenet) == (
        f"1 of 1 unseen class names cannot be added: {name!r} is already seen class {position}{called}. Remove or rename it."
    )


def test_a_hint_makes_another_sense_a_name_of_its_own(imagenet):
    given = ["mouse (rodent)", "crane (origami)", "kite (toy)", "jaguar (car)", "drum (container)"]
    assert [entry.name for entry in resolve_unseen_class_names(given, imagenet)] == given
    only_bird = [entry for entry in imagenet if entry.label != "n03126707"]
    assert resolve_unseen_class_names(["crane (machine)"], only_bird)[0].name == "crane (machine)"


def test_a_hint_that_picks_the_sense_of_a_seen_class_is_that_class(imagenet):
    message = refusal(["crane (machine)", "crane, bird"], imagenet)
    assert "'crane (machine)' is already seen class 517 ('crane'); 'crane, bird' is already seen class 134 ('crane')" in message
    folded = {"crane (bird)": "a bird folded from paper"}
    assert resolve_unseen_class_names(folded, imagenet)[0].description == "a bird folded from paper"


@pytest.mark.parametrize(
    "names",
    [
        ["pizza (with pineapple)"],
        ["backpack (on a person)"],
        ["strawberry (unripe fruit)"],
        ["coffee mug (with a logo)", "coffee mug (of Berlin)"],
        ["apple (red)", "apple (green)"],
        ["parrot (red and green)", "parrot (blue and yellow)"],
    ],
)
def test_a_hint_may_make_a_kind_of_a_class_a_class_of_its_own(names, imagenet):
    assert [entry.name for entry in resolve_unseen_class_names(names, imagenet)] == names


def test_a_name_with_a_hint_is_known_again_whatever_it_means(imagenet):
    dishes = resolve_seen_class_names(None, 3, ["pizza", "burrito", "casserole (food)"])
    message = refusal(["casserole (food)"], dishes)
    assert "'casserole (food)' is already seen class 2" in message


def test_what_was_injected_has_no_say_in_what_seen_names_mean():
    vehicles = resolve_seen_class_names(None, 4, ["forklift", "bulldozer", "tow truck", "crane"])
    birds = [ClassName("pelican"), ClassName("bittern")]
    for known in (vehicles, vehicles + birds):
        assert resolve_unseen_class_names(["crane (bird)"], known, num_seen=4)[0].name == "crane (bird)"
        message = refusal(["crane (machine)"], known, num_seen=4)
        assert "'crane (machine)' is already seen class 3" in message


def test_a_class_that_is_described_otherwise_has_not_the_usual_sense_of_its_name():
    described = [
        ClassName("crane", description="a machine on building sites"),
        ClassName("galaxy", description="a system of stars"),
    ]
    names = ["crane (bird)", "crane (machine)", "galaxy (herb)"]
    assert [entry.name for entry in resolve_unseen_class_names(names, described)] == names
    assert "already seen class 0" in refusal(["Crane"], described)


def test_a_synonym_in_the_sense_that_suits_the_head_is_the_same_class():
    """In a head of clothes a "cardigan" is no dog, so that "Cardigan Welsh corgi" is a new class there."""
    corgi = "Cardigan Welsh corgi"
    dogs = [ClassName(name) for name in ("pug", "beagle", "basenji", "cardigan")]
    clothes = [ClassName(name) for name in ("miniskirt", "sweatshirt", "jersey", "trench coat", "cardigan")]
    assert "'Cardigan Welsh corgi' is already seen class 3 ('cardigan')" in refusal([corgi], dogs)
    assert resolve_unseen_class_names([corgi], clothes)[0].name == corgi


def test_a_lost_space_is_the_same_class(imagenet):
    message = refusal(["teddybear"], imagenet)
    assert "'teddybear' is already seen class 850" in message


def test_the_likeliest_meaning_of_a_seen_name_brings_its_synonyms():
    seen = [ClassName("fire engine"), ClassName("dogs"), ClassName("mouse (rodent)")]
    for name in ("fire truck", "n03345487"):
        assert "class 0" in refusal([name], seen)
    for name in ("Dog", "domestic dog"):
        assert "class 1" in refusal([name], seen)
    assert len(resolve_unseen_class_names(["okapi", "computer mouse"], seen)) == 2


def test_an_id_stands_for_its_synset(imagenet):
    (okapi,) = resolve_unseen_class_names(["n02439398"], imagenet)
    assert (okapi.name, okapi.sense.wnid, okapi.label) == ("okapi", "n02439398", "n02439398")
    message = refusal(["n01440764"], imagenet)
    assert "'n01440764' is already seen class 0 ('tench')." in message


def test_an_id_of_another_sense_is_another_class():
    seen = resolve_seen_class_names(None, 1, ["n02012849"])
    (machine,) = resolve_unseen_class_names(["n03126707"], seen)
    assert machine.sense.definition.startswith("lifts and moves heavy objects")
