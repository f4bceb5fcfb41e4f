"""The text of each class, on the real lexicon and timm's real synsets."""

import dataclasses

import pytest

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, DescriptionError
from timm_inject.text.names import ClassName, resolve_seen_class_names
from timm_inject.text.new_names import resolve_unseen_class_names
from timm_inject.text.senses import load_senses
from timm_inject.text.texts import ClassText, resolve_class_texts

OKAPI = "similar to the giraffe but smaller with much shorter neck and stripe on the legs"
FORM = "Each must be a text, several texts, a WordNet id, or an id and texts, under the name of one seen or unseen class."
BIRD, MACHINE, PAPER = "n02012849", "n03126707", "lexicon:origami"


@pytest.fixture(scope="module")
def seen() -> list[ClassName]:
    return resolve_seen_class_names(None, 1000, "imagenet-1k")


@pytest.fixture(scope="module")
def unseen(seen) -> list[ClassName]:
    return resolve_unseen_class_names(["okapi", "dahlia", "glasses", "flying scooter"], seen)


def error_of(kind: type[Exception], *args: object) -> str:
    with pytest.raises(kind) as caught:
        resolve_class_texts(*args)
    return str(caught.value)


def text_of(name: str, seen=(), descriptions="auto") -> ClassText:
    return resolve_class_texts(list(seen), [ClassName(name)], descriptions)[1][0]


# ---- what is looked up ----


def test_auto_takes_the_lexicon_and_timms_definitions(seen, unseen):
    seen_texts, unseen_texts = resolve_class_texts(seen, unseen)
    assert len(seen_texts) == 1000
    assert all(text.source == "lexicon" and text.sentence and text.definition and text.kind for text in seen_texts)
    assert all(text.wnid == entry.label and text.alternatives == () for text, entry in zip(seen_texts, seen, strict=True))
    okapi, dahlia, glasses, scooter = unseen_texts
    (sense,) = load_senses().find("okapi")
    assert okapi == ClassText(
        "okapi", ("okapi", "Okapia johnstoni"), OKAPI, sense.sentence, (), "animal/mammal/hoofed/giraffe", sense, "lexicon"
    )
    assert okapi.seen_in_photos == (sense.sentence,)
    assert okapi.descriptions == (sense.sentence, OKAPI)
    assert dahlia.lemmas[0] == "dahlia"
    assert glasses.kind == "clothing/accessory/eyewear"
    assert "n03438257" in [other.wnid for other in glasses.alternatives]  # for drinking
    assert scooter == ClassText("flying scooter", ("flying scooter",), kind="vehicle/cycle/scooter")
    assert scooter.descriptions == ()


def test_a_synset_without_a_line_has_timms_definition():
    text = text_of("n10109443")
    assert (text.source, text.sentence, text.kind) == ("timm", None, None)
    assert text.descriptions == ("a person or animal that is markedly unusual or deformed",)


def test_a_line_without_an_id_has_no_definition():
    text = text_of("electric scooter")
    assert (text.source, text.definition, text.wnid) == ("lexicon", None, None)
    assert text.descriptions == (text.sentence,)


def test_seen_and_unseen_go_through_the_same_rule(seen):
    """Every name of ImageNet with one meaning gets the same text from its label and from its name."""
    senses = load_senses()
    certain = [entry for entry in seen if senses.find(entry.name) == (entry.sense,)]
    assert len(certain) > 500
    by_name = [ClassName(entry.name, synonyms=entry.synonyms) for entry in certain]
    from_labels, from_names = resolve_class_texts(certain, by_name)
    assert from_labels == from_names
    assert resolve_class_texts(by_name, certain) == (from_names, from_labels)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["forklift", "bulldozer", "tow truck"], MACHINE),
        (["goldfinch", "bittern", "pelican"], BIRD),
        (["forklift", "bulldozer", "pelican"], BIRD),  # of several kinds: the usual meaning
    ],
)
def test_a_word_means_what_suits_the_other_classes(classes, expected):
    crane = text_of("crane", [ClassName(name) for name in classes])
    assert crane.wnid == expected
    assert {BIRD, MACHINE} - {expected} <= {other.wnid for other in crane.alternatives}
    # The same for a seen class.
    text = resolve_class_texts([ClassName(name) for name in [*classes, "crane"]], [])[0][-1]
    assert text.wnid == expected


def test_a_head_of_food_takes_a_word_as_food():
    dishes = [ClassName(name) for name in ("pizza", "ramen", "waffle")]
    assert text_of("duck", dishes).kind == "food/meat/poultry"
    assert text_of("duck").kind.startswith("animal/")


def test_a_label_names_its_meaning_for_certain(seen):
    texts, _ = resolve_class_texts(seen, [ClassName("okapi")])
    assert texts[134].definition.startswith("large long-necked wading bird")
    assert texts[517].definition.startswith("lifts and moves heavy objects")
    assert texts[517].alternatives == ()


def test_a_name_is_looked_up_with_its_hint(seen):
    crane = text_of("crane (machine)", seen)
    assert crane.wnid == MACHINE
    assert crane.lemmas[0] == "crane (machine)"
    assert crane.alternatives[0].wnid == BIRD
    assert text_of("crane (origami)", seen).sense.key == PAPER


def test_a_hint_that_fits_nothing_states_the_kind_at_least():
    jaguar = text_of("jaguar (car)")
    assert jaguar == ClassText("jaguar (car)", ("jaguar (car)",), kind="vehicle/road/car")


def test_a_name_that_nobody_knows_has_the_kind_of_its_last_words():
    dishes = [ClassName(name) for name in ("pizza", "ramen", "waffle")]
    assert text_of("flying scooter").kind == "vehicle/cycle/scooter"
    assert text_of("striped duck").kind.startswith("animal/")
    assert text_of("striped duck", dishes).kind.startswith("food/")
    assert text_of("grumpf").kind is None


def test_the_config_comes_before_a_look_up_but_after_the_label():
    tabby = resolve_seen_class_names(None, 1, ["n02123045"])[0]
    seen = [
        ClassName("okapi", description="from the config"),
        dataclasses.replace(tabby, description="from the config"),
        ClassName("grumpf", description="from the config"),
    ]
    texts, _ = resolve_class_texts(seen, [ClassName("dahlia")])
    assert [(text.source, text.definition) for text in texts] == [
        ("lexicon", "from the config"),
        ("lexicon", "a cat with a grey or tawny coat mottled with black"),
        ("config", "from the config"),
    ]


def test_none_uses_names_alone(seen, unseen):
    seen_texts, unseen_texts = resolve_class_texts(seen, unseen, None)
    assert all(text.lemmas == (text.name,) and not text.descriptions for text in seen_texts + unseen_texts)
    assert {text.source for text in seen_texts + unseen_texts} == {"none"}
    assert {text.kind for text in seen_texts + unseen_texts} == {None}


# ---- what the user writes ----


def test_a_text_of_the_user_is_added_and_keeps_sense_and_kind(seen, unseen):
    plain = resolve_class_texts(seen, unseen)
    mapping = {"Okapi": " stripy ", "dahlia": ["a flower", "a tuber"], "tench": "a fish", MACHINE: "tall"}
    seen_texts, unseen_texts = resolve_class_texts(seen, unseen, mapping)
    for before, after, texts in (
        (plain[1][0], unseen_texts[0], ("stripy",)),
        (plain[1][1], unseen_texts[1], ("a flower", "a tuber")),
        (plain[0][0], seen_texts[0], ("a fish",)),
        (plain[0][517], seen_texts[517], ("tall",)),
    ):
        assert after == dataclasses.replace(before, user_texts=texts, source="user")
    assert unseen_texts[0].descriptions == ("stripy", plain[1][0].sentence, OKAPI)
    assert unseen_texts[2] == plain[1][2]
    assert seen_texts[134] == plain[0][134]


def test_a_text_for_what_nobody_knows_stands_alone():
    text = text_of("grumpf", descriptions={"grumpf": "a grey lump"})
    assert text == ClassText("grumpf", ("grumpf",), user_texts=("a grey lump",), source="user")


def test_a_synonym_is_a_key_too(seen, unseen):
    seen_texts, _ = resolve_class_texts(seen, unseen, {"tabby cat": "a cat"})
    assert seen_texts[281].user_texts == ("a cat",)


def test_a_wordnet_id_picks_another_sense(seen, unseen):
    _, texts = resolve_class_texts(seen, unseen, {"glasses": "n03438257"})
    assert texts[2].definition == "a container for holding liquids while drinking"
    assert (texts[2].wnid, texts[2].alternatives, texts[2].user_texts) == ("n03438257", (), ())
    assert texts[2].kind.startswith("container/")
    assert texts[2].source == "lexicon"


def test_an_id_and_texts_do_both(seen, unseen):
    _, texts = resolve_class_texts(seen, unseen, {"glasses": [" n03438257 ", "full of water", "a row of them"]})
    assert (texts[2].wnid, texts[2].user_texts, texts[2].source) == ("n03438257", ("full of water", "a row of them"), "user")
    assert texts[2].descriptions[:2] == ("full of water", "a row of them")
    assert "a container for holding liquids while drinking" in texts[2].descriptions


@pytest.mark.parametrize(
    ("descriptions", "source_of_other"), [(None, "none"), ("auto", "lexicon"), ({"dahlia": "a flower"}, "user")]
)
def test_descriptions_that_came_with_the_names_are_always_used(seen, descriptions, source_of_other):
    unseen = resolve_unseen_class_names({"okapi": "stripy", "dahlia": None}, seen)
    _, (okapi, dahlia) = resolve_class_texts(seen, unseen, descriptions)
    assert (okapi.user_texts, okapi.source) == (("stripy",), "user")
    assert okapi.definition == (None if descriptions is None else OKAPI)
    assert dahlia.source == source_of_other


def test_an_id_that_came_with_the_names_picks_the_sense_even_where_nothing_is_looked_up(seen):
    unseen = resolve_unseen_class_names({"glass": "n03438257"}, seen)
    for descriptions in ("auto", None):
        _, (glass,) = resolve_class_texts(seen, unseen, descriptions)
        assert (glass.wnid, glass.user_texts) == ("n03438257", ())


# ---- what a callable writes ----


def test_a_callable_writes_what_the_lexicon_and_the_user_do_not(seen):
    asked = []

    def write(names):
        asked.append(names)
        return [f" {name} seen from the side " for name in names]

    unseen = resolve_unseen_class_names({"okapi": None, "grumpf": None, "flying scooter": None, "grompf": "a lump"}, seen)
    texts, (okapi, grumpf, scooter, grompf) = resolve_class_texts(seen, unseen, write)
    assert asked == [["grumpf", "flying scooter"]]
    assert okapi.source == "lexicon"
    assert (grumpf.user_texts, grumpf.source, grumpf.kind) == (("grumpf seen from the side",), "user", None)
    assert (scooter.user_texts, scooter.kind) == (("flying scooter seen from the side",), "vehicle/cycle/scooter")
    assert grompf.user_texts == ("a lump",)
    assert texts == resolve_class_texts(seen, [])[0]


def test_a_callable_keeps_timms_definition():
    text = resolve_class_texts([], [ClassName("n10109443")], lambda names: ["odd"])[1][0]
    assert text.descriptions == ("odd", "a person or animal that is markedly unusual or deformed")


def test_a_callable_is_not_called_for_nothing(seen):
    resolve_class_texts(seen, [ClassName("okapi")], pytest.fail)


@pytest.mark.parametrize(
    ("given", "said"), [(["a"], "list ['a']"), ("ab", "str 'ab'"), (["a", " "], "list ['a', ' ']"), (["a", 3], "list ['a', 3]")]
)
def test_a_callable_that_gives_something_else_is_told(given, said):
    names = [ClassName("grumpf"), ClassName("grompf")]
    assert error_of(DescriptionError, [], names, lambda names: given) == (
        f"`descriptions` was called with 2 names and must give as many texts, one a name, in that order; got {said}."
    )


# ---- what cannot be used ----


def test_all_bad_descriptions_in_one_error(seen, unseen):
    mapping = {"okapy": "a", "dahlia": 3, "crane": "x", "glasses": ["a", ""], "flying scooter": "n99999999"}
    assert error_of(DescriptionError, seen, unseen, mapping) == (
        "5 of 5 descriptions cannot be used: 'okapy' names no class (did you mean 'okapi'?); 'dahlia' has 3, which is "
        "not a text; 'crane' names 2 classes (n02012849, n03126707; use the id where there is one); 'glasses' has an "
        "empty text; 'flying scooter' has the WordNet id 'n99999999', which timm has no definition for. " + FORM
    )


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"okapi": ""}, "'okapi' has an empty text"),
        ({"okapi": []}, "'okapi' has [], which is not a text"),
        ({"okapi": None}, "'okapi' has None, which is not a text"),
        ({"okapi": ["a", 1]}, "'okapi' has ['a', 1], which is not a text"),
        ({"okapi": b"a"}, "'okapi' has b'a', which is not a text"),
        ({"okapi": ["a", "n02439398"]}, "'okapi' has the WordNet id 'n02439398' after a text; the id comes first"),
        ({"okapi": ["n02439398", "n02391049"]}, "'okapi' has 2 WordNet ids; a class has one sense"),
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
    assert resolve_class_texts(seen, [], {"golden retriever": "n02099601"})[0][207].wnid == "n02099601"


def test_the_id_that_a_seen_name_is_looked_up_as_is_taken_too():
    dogs = [ClassName("golden retriever"), ClassName("pug")]
    message = error_of(DescriptionError, dogs, [ClassName("pooch")], {"pooch": "n02099601"})
    assert "'pooch' has the WordNet id 'n02099601', which is the seen class 'golden retriever'" in message


def test_an_unknown_id_in_the_unseen_mapping(seen):
    described = resolve_unseen_class_names({"okapi": "n99999999"}, seen)
    assert "'okapi' has the WordNet id 'n99999999', which timm has no definition for" in error_of(DescriptionError, seen, described)


def test_descriptions_of_another_kind(seen, unseen):
    fix = "Write {'okapi': 'a striped relative of the giraffe'}"
    must_be = '`descriptions` must be "auto", a mapping name -> description, a callable names -> texts, or None, got'
    assert error_of(ArgumentValueError, seen, unseen, "Auto") == f"{must_be} 'Auto'. {fix} for a description of your own."
    assert error_of(ArgumentTypeError, seen, unseen, 3) == f"{must_be} int. {fix}."


# ---- what is shown ----


def test_describe_says_which_meaning_was_taken(seen, unseen):
    _, (okapi, dahlia, _, scooter) = resolve_class_texts(seen, unseen, {"dahlia": ["a flower", "a tuber"]})
    assert okapi.describe() == f"okapi: {okapi.sentence} (and 1 more) (lexicon, animal/mammal/hoofed/giraffe, n02439398)"
    assert dahlia.describe().startswith("dahlia: a flower (and 3 more) (user, plant/flower/dahlia and pompom, n")
    assert scooter.describe() == "flying scooter (no description)"
    crane = text_of("crane", descriptions={"crane": BIRD})
    assert crane.describe().endswith(f" (and 1 more) (lexicon, animal/bird/wader/crane, {BIRD})")
    assert text_of("grumpf", descriptions={"grumpf": "a lump"}).describe() == "grumpf: a lump (user)"


def test_describe_shows_the_other_senses():
    crane = text_of("crane (machine)")
    assert "; or crane (animal/bird/wader/crane)" in crane.describe()
    text = dataclasses.replace(crane, alternatives=(load_senses().by_wnid("n10109443"),))
    assert text.describe().endswith(f", {MACHINE}; or freak (n10109443))")
