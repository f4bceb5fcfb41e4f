"""The text of each class, on timm's real synsets."""

import dataclasses

import pytest

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, ClassNameError, DescriptionError
from timm_inject.text.names import ClassName, resolve_seen_class_names, resolve_unseen_class_names
from timm_inject.text.synsets import load_lexicon
from timm_inject.text.texts import ClassText, resolve_class_texts

OKAPI = "similar to the giraffe but smaller with much shorter neck and stripe on the legs"
FORM = "Each must be a text, several texts, or a WordNet id, under the name of one seen or unseen class."


@pytest.fixture(scope="module")
def seen() -> list[ClassName]:
    return resolve_seen_class_names(None, 1000, "imagenet-1k")


@pytest.fixture(scope="module")
def unseen(seen) -> list[ClassName]:
    return resolve_unseen_class_names(["okapi", "dahlia", "glasses", "electric scooter"], seen)


def error_of(kind: type[Exception], *args: object) -> str:
    with pytest.raises(kind) as caught:
        resolve_class_texts(*args)
    return str(caught.value)


def test_auto_takes_timms_definitions(seen, unseen):
    seen_texts, unseen_texts = resolve_class_texts(seen, unseen)
    assert len(seen_texts) == 1000
    assert all(text.source == "timm" and text.descriptions and text.synset for text in seen_texts)
    okapi, dahlia, glasses, scooter = unseen_texts
    synset = load_lexicon().by_wnid("n02439398")
    assert okapi == ClassText("okapi", ("okapi", "Okapia johnstoni"), (OKAPI,), synset, "timm")
    assert okapi.description == OKAPI
    assert dahlia.lemmas == ("dahlia", "Dahlia pinnata")
    assert glasses.synset.lemmas[0] == "spectacles"
    assert [synset.wnid for synset in glasses.alternatives][:2] == ["n03438257", "n03438661"]
    assert scooter == ClassText("electric scooter", ("electric scooter",))
    assert scooter.description is None


def test_seen_and_unseen_go_through_the_same_rule(seen):
    """Every first-lemma name of ImageNet with one meaning gets the same text from its label and from its name."""
    lexicon = load_lexicon()
    certain = [entry for entry in seen if lexicon.find(entry.name) == (entry.synset,)]
    assert len(certain) > 700
    by_name = [ClassName(entry.name) for entry in certain]
    from_labels, from_names = resolve_class_texts(certain, by_name)
    assert from_labels == from_names
    assert resolve_class_texts(by_name, certain) == (from_names, from_labels)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["forklift", "bulldozer", "tow truck"], "n03126707"),
        (["goldfinch", "bittern", "pelican"], "n02012849"),
        (["forklift", "bulldozer", "pelican"], "n02012849"),  # of all kinds: the order of the lexicon
    ],
)
def test_a_word_means_what_suits_the_other_classes(classes, expected):
    (crane,) = resolve_class_texts([ClassName(name) for name in classes], [ClassName("crane")])[1]
    assert crane.synset.wnid == expected
    assert len(crane.alternatives) == 1
    # The same for a seen class.
    text = resolve_class_texts([ClassName(name) for name in [*classes, "crane"]], [])[0][-1]
    assert text.synset.wnid == expected


def test_a_synonym_in_the_sense_that_suits_the_head_is_the_same_class():
    """In a head of clothes a "cardigan" is no dog, so "Cardigan Welsh corgi" is a new class there."""
    corgi = "Cardigan Welsh corgi"
    dogs = [ClassName(name) for name in ("pug", "beagle", "basenji", "cardigan")]
    clothes = [ClassName(name) for name in ("miniskirt", "sweatshirt", "jersey", "trench coat", "cardigan")]
    with pytest.raises(ClassNameError, match="'Cardigan Welsh corgi' is already seen class 3"):
        resolve_unseen_class_names([corgi], dogs)
    assert resolve_unseen_class_names([corgi], clothes)[0].name == corgi


def test_a_label_names_its_meaning_for_certain(seen):
    texts, _ = resolve_class_texts(seen, [ClassName("okapi")])
    assert texts[134].description.startswith("large long-necked wading bird")
    assert texts[517].description.startswith("lifts and moves heavy objects")
    assert texts[517].alternatives == ()


def test_a_name_is_looked_up_with_its_hint(seen):
    _, (crane,) = resolve_class_texts(seen, [ClassName("crane (machine)")])
    assert crane.synset.wnid == "n03126707"
    assert crane.lemmas == ("crane (machine)", "crane")
    assert [synset.wnid for synset in crane.alternatives] == ["n02012849"]


def test_the_config_comes_before_a_look_up_but_after_the_label():
    tabby = resolve_seen_class_names(None, 1, ["n02123045"])[0]
    seen = [
        ClassName("okapi", description="from the config"),
        dataclasses.replace(tabby, description="from the config"),
    ]
    texts, _ = resolve_class_texts(seen, [ClassName("dahlia")])
    assert [(text.source, text.description) for text in texts] == [
        ("config", "from the config"),
        ("timm", "a cat with a grey or tawny coat mottled with black"),
    ]


def test_the_user_comes_first(seen, unseen):
    mapping = {"Okapi": " stripy ", "dahlia": ["a flower", "a tuber"], "tench": "a fish", "n03126707": "tall"}
    seen_texts, unseen_texts = resolve_class_texts(seen, unseen, mapping)
    assert unseen_texts[0] == ClassText("okapi", ("okapi",), ("stripy",), None, "user")
    assert unseen_texts[1].descriptions == ("a flower", "a tuber")
    assert unseen_texts[2].source == "timm"  # not in the mapping, so looked up
    assert (seen_texts[0].descriptions, seen_texts[0].source) == (("a fish",), "user")
    assert seen_texts[0].lemmas == ("tench", "Tinca tinca")
    assert seen_texts[517].description == "tall"
    assert seen_texts[134].source == "timm"


def test_a_synonym_is_a_key_too(seen, unseen):
    seen_texts, _ = resolve_class_texts(seen, unseen, {"tabby cat": "a cat"})
    assert seen_texts[281].description == "a cat"


def test_a_wordnet_id_chooses_the_meaning(seen, unseen):
    _, texts = resolve_class_texts(seen, unseen, {"glasses": "n03438257"})
    assert texts[2].description == "a container for holding liquids while drinking"
    assert (texts[2].source, texts[2].synset.wnid, texts[2].alternatives) == ("timm", "n03438257", ())


def test_none_uses_names_alone(seen, unseen):
    seen_texts, unseen_texts = resolve_class_texts(seen, unseen, None)
    assert all(text.lemmas == (text.name,) and not text.descriptions for text in seen_texts + unseen_texts)
    assert {text.source for text in seen_texts + unseen_texts} == {"none"}


@pytest.mark.parametrize(("descriptions", "source_of_other"), [(None, "none"), ("auto", "timm"), ({"dahlia": "a flower"}, "user")])
def test_descriptions_that_came_with_the_names_are_always_used(seen, descriptions, source_of_other):
    unseen = resolve_unseen_class_names({"okapi": "stripy", "dahlia": None}, seen)
    _, (okapi, dahlia) = resolve_class_texts(seen, unseen, descriptions)
    assert (okapi.descriptions, okapi.source) == (("stripy",), "user")
    assert dahlia.source == source_of_other


def test_all_bad_descriptions_in_one_error(seen, unseen):
    mapping = {"okapy": "a", "dahlia": 3, "crane": "x", "glasses": ["a", ""], "electric scooter": "n99999999"}
    assert error_of(DescriptionError, seen, unseen, mapping) == (
        "5 of 5 descriptions cannot be used: 'okapy' names no class (did you mean 'okapi'?); 'dahlia' has 3, which is "
        "not a text; 'crane' names 2 classes (n02012849, n03126707; use the id where there is one); 'glasses' has an "
        "empty text; 'electric scooter' has the WordNet id 'n99999999', which timm has no definition for. " + FORM
    )


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"okapi": ""}, "'okapi' has an empty text"),
        ({"okapi": []}, "'okapi' has [], which is not a text"),
        ({"okapi": None}, "'okapi' has None, which is not a text"),
        ({"okapi": ["a", 1]}, "'okapi' has ['a', 1], which is not a text"),
        ({"okapi": b"a"}, "'okapi' has b'a', which is not a text"),
        ({"okapi": ["a", "n02439398"]}, "'okapi' has the WordNet id 'n02439398', which must stand alone"),
        ({"okapi": "n02099601"}, "'okapi' has the WordNet id 'n02099601', which is the seen class 'golden retriever'"),
        ({4: "a"}, "4 names no class"),
        ({"": "a"}, "'' names no class"),
    ],
)
def test_one_bad_description(seen, unseen, mapping, problem):
    assert error_of(DescriptionError, seen, unseen, mapping) == (f"1 of 1 descriptions cannot be used: {problem}. {FORM}")


def test_two_descriptions_of_one_class(seen, unseen):
    message = error_of(DescriptionError, seen, unseen, {"okapi": "a", "Okapi": "b"})
    assert message == f"1 of 2 descriptions cannot be used: 'Okapi' is the same class as 'okapi'. {FORM}"
    described = resolve_unseen_class_names({"okapi": "stripy"}, seen)
    message = error_of(DescriptionError, seen, described, {"okapi": "a"})
    assert message == (f"1 of 2 descriptions cannot be used: 'okapi' has a description in `unseen_class_names` too. {FORM}")


def test_the_id_of_a_seen_class_in_the_unseen_mapping(seen):
    described = resolve_unseen_class_names({"pooch": "n02099601"}, seen)
    message = error_of(DescriptionError, seen, described)
    assert "'pooch' has the WordNet id 'n02099601', which is the seen class 'golden retriever'" in message
    assert resolve_class_texts(seen, [], {"golden retriever": "n02099601"})[0][207].synset.wnid == "n02099601"


def test_the_id_that_a_seen_name_is_looked_up_as_is_taken_too():
    dogs = [ClassName("golden retriever"), ClassName("pug")]
    message = error_of(DescriptionError, dogs, [ClassName("pooch")], {"pooch": "n02099601"})
    assert "'pooch' has the WordNet id 'n02099601', which is the seen class 'golden retriever'" in message


def test_an_unknown_id_in_the_unseen_mapping(seen):
    described = resolve_unseen_class_names({"okapi": "n99999999"}, seen)
    assert "'okapi' has the WordNet id 'n99999999', which timm has no definition for" in error_of(DescriptionError, seen, described)


def test_descriptions_of_another_kind(seen, unseen):
    fix = "Write {'okapi': 'a striped relative of the giraffe'}"
    assert error_of(ArgumentValueError, seen, unseen, "Auto") == (
        f"`descriptions` must be \"auto\", a mapping name -> description, or None, got 'Auto'. {fix} for a description of your own."
    )
    assert error_of(ArgumentTypeError, seen, unseen, 3) == (
        f'`descriptions` must be "auto", a mapping name -> description, or None, got int. {fix}.'
    )


def test_describe_says_which_definition_was_taken(seen, unseen):
    mapping = {"dahlia": ["a flower", "a tuber"]}
    _, (okapi, dahlia, _, scooter) = resolve_class_texts(seen, unseen, mapping)
    assert okapi.describe() == f"okapi: {OKAPI} (timm, n02439398 okapi)"
    assert dahlia.describe() == "dahlia: a flower (and 1 more) (user)"
    assert scooter.describe() == "electric scooter (no description)"
    _, (crane,) = resolve_class_texts(seen, [ClassName("crane (bird)")])
    assert crane.describe().endswith("of the world (timm, n02012849 crane; or n03126707 crane)")
