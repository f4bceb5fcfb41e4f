"""What names mean: on the real lexicon and timm's real synsets, and on a few lines of our own."""

import pytest

from tests.text import published_names
from timm_inject.text.lexicon import LexiconLine
from timm_inject.text.names import resolve_seen_class_names
from timm_inject.text.senses import Sense, Senses, load_senses, usual_kinds
from timm_inject.text.synsets import Synsets, label_set_wnids
from timm_inject.text.texts import resolve_class_texts

BIRD, MACHINE = "n02012849", "n03126707"

# Names that anyone may think of, and the kind of thing that they mean.
EVERYDAY = {
    "food": [
        "pancake", "cookie", "bacon", "tea", "sweet potato", "sushi", "french fries", "noodles", "chili", "apple pie", "lamb chop",
        "chips", "coffee", "oil", "date", "turkey sandwich",
    ],
    "tool": ["fork", "ladder", "saw", "hammer", "spatula", "chopsticks", "screwdriver", "rake", "pliers"],
    "furniture": ["couch", "sink", "table", "sofa", "bookshelf", "toilet", "armchair", "mirror", "bunk bed", "curtain"],
    "container": ["bucket", "mug", "pot", "jar", "suitcase", "pan", "glass", "trash can"],
    "clothing": ["tie", "sneakers", "hoodie", "jeans", "earrings", "high heels", "glasses", "gloves", "tuxedo"],
    "device": ["tablet", "headphones", "phone", "fridge", "watch", "fan", "printer", "vacuum", "heater"],
    "vehicle": [
        "electric scooter", "plane", "tractor", "sailboat", "rocket", "ambulance", "hot air balloon", "subway", "pram", "drone",
    ],
    "building": ["temple", "skyscraper", "barn", "museum", "bank", "cabin", "apartment"],
    "structure": ["bridge", "statue", "stop sign", "tent", "stairs"],
    "place": ["forest", "beach", "kitchen", "waterfall", "supermarket", "road", "desert", "gym"],
    "nature": ["moon", "rainbow", "lightning", "fire", "star", "snowflake"],
    "person": ["chef", "bride", "firefighter", "baby", "astronaut", "nurse", "clown", "pirate", "musician"],
    "animal": ["mole", "hedgehog", "puppy", "crab", "seagull", "bass", "ladybug", "T-Rex", "worm", "bat", "seal"],
    "plant": ["sunflower", "oak", "cactus", "tulip", "grass", "palm", "mushroom", "leaf"],
    "sport": ["soccer", "yoga", "skiing", "tennis ball", "boxing", "swimming", "football", "surfboard"],
    "instrument": ["drums", "violin", "organ", "guitar"],
    "toy": ["card", "puzzle", "kite", "teddy bear", "doll"],
    "object": ["book", "candle", "key", "soap", "dragon"],
}  # fmt: skip

# Hints as people write them, with the usual name of what is meant; None where nothing that is known is.
HINTS = {
    "tie (clothing)": "tie", "tea (drink)": "tea", "mouse (computer)": "computer mouse", "mouse (animal)": "mouse",
    "crane (bird)": "crane", "crane (machine)": "construction crane", "crane (origami)": "origami",
    "jaguar (animal)": "jaguar", "jaguar (car)": None, "pizza (with pineapple)": "Hawaiian pizza", "bat (animal)": "bat",
    "bat (baseball)": "baseball bat", "orange (fruit)": "orange", "seal (animal)": "seal", "seal (stamp)": "envelope seal",
    "palm (tree)": "palm tree", "palm (hand)": "hand", "turkey (bird)": "turkey", "turkey (food)": "roast turkey",
    "duck (food)": "roast duck", "chicken (meat)": "chicken dish", "lamb (meat)": "roast lamb",
    "salmon (dish)": "grilled salmon", "crab (food)": "cooked crab", "bow (weapon)": "archery bow",
    "bow (violin)": "violin bow", "nail (finger)": "fingernail", "nail (tool)": "nail", "drum (music)": "drum",
    "drum (container)": "oil drum", "horn (instrument)": "French horn", "trunk (car)": "car trunk",
    "trunk (tree)": "tree trunk", "trunk (elephant)": "elephant trunk", "keyboard (music)": "electronic keyboard",
    "keyboard (computer)": "keyboard", "ring (boxing)": "boxing ring", "club (golf)": "golf club",
    "cricket (insect)": "cricket insect", "cricket (sport)": "cricket match", "bass (fish)": "bass",
    "bass (guitar)": "bass guitar", "pen (writing)": "pen", "fan (person)": "sports fan", "light (lamp)": "lamp",
    "coach (bus)": "coach bus", "tank (military)": "tank", "tank (fish)": "aquarium", "kiwi (bird)": "kiwi bird",
    "kiwi (fruit)": "kiwi fruit", "bar (chocolate)": "chocolate", "rocket (space)": "rocket", "rose (flower)": "rose",
    "boxer (dog)": "boxer", "boxer (sport)": "boxer athlete", "beetle (car)": "Volkswagen Beetle",
    "monitor (lizard)": "monitor lizard", "plane (tool)": "hand plane", "court (tennis)": "tennis court",
    "dish (satellite)": "satellite dish", "needle (medical)": "hypodermic needle", "pot (cooking)": "pot",
    "stool (chair)": "stool", "cap (hat)": "cap", "chest (body)": "chest", "iron (clothes)": "iron",
    "bank (building)": "bank building", "spring (season)": "spring landscape", "toast, bread": "toast",
    "file, tool": "metal file",
}  # fmt: skip


@pytest.fixture(scope="module")
def senses() -> Senses:
    return load_senses()


def top(found: tuple[Sense, ...]) -> str | None:
    return found[0].top_kind if found else None


def wnids(found: tuple[Sense, ...]) -> list[str | None]:
    return [sense.wnid for sense in found]


def usual_names(found: tuple[Sense, ...]) -> list[str]:
    return [sense.names[0] for sense in found]


# ---- the real words ----


def test_is_read_once():
    assert load_senses() is load_senses()


def test_everyday_names_mean_what_most_people_mean(senses):
    names = [(name, kind) for kind, each in EVERYDAY.items() for name in each]
    assert len(names) >= 120
    found = {name: senses.find(name) for name, _ in names}
    lacking = [name for name, _ in names if not (found[name] and found[name][0].sentence)]
    assert len(lacking) <= 0.03 * len(names), lacking
    assert [(name, top(found[name])) for name, kind in names if name not in lacking and top(found[name]) != kind] == []


def test_natural_hints_pick_the_sense(senses):
    assert len(HINTS) >= 60
    meant = {name: next(iter(usual_names(senses.find(name))), None) for name in HINTS}
    assert meant == HINTS


@pytest.mark.parametrize(
    ("data_set", "size", "exceptions"),
    [
        ("COCO", 80, ["mouse"]),  # which is the animal in every other list; "mouse (computer)" is COCO's
        ("CIFAR_100", 100, []),
        ("OXFORD_PETS", 37, []),
        ("FOOD_101", 101, []),
        ("FLOWERS_102", 102, []),
        ("AWA2", 50, []),
        ("CALTECH_101", 99, []),
    ],
)
def test_every_class_of_well_known_data_sets_has_its_line(data_set, size, exceptions):
    kinds = {name: kind for kind, names in getattr(published_names, data_set).items() for name in names}
    assert len(kinds) == size
    texts, _ = resolve_class_texts(resolve_seen_class_names(None, size, list(kinds)), [])
    found = dict(zip(kinds, texts, strict=True))
    assert [name for name, text in found.items() if not text.sentence] == []
    assert [name for name, text in found.items() if text.kind.split("/")[0] != kinds[name]] == exceptions


@pytest.mark.parametrize(
    ("name", "first_name"),
    [
        ("okapi", "okapi"),
        ("OKAPI", "okapi"),
        ("tabby_cat", "tabby"),
        ("Brewer's blackbirds", "Brewer's blackbird"),
        ("wolves", "wolf"),
        ("knives", "knife"),
        ("mice", "mouse"),
        ("children", "child"),
        ("berries", "berries"),
        ("buses", "bus"),
        ("potatoes", "potato"),
        ("axes", "axe"),
        ("ice creams", "ice cream"),
        ("scissor", "scissors"),
        ("sea shores", "seashore"),
        ("teddybear", "teddy bear"),
        ("Audubon warbler", "Audubon's warbler"),
        ("n02439398", "okapi"),
        (" n02439398 ", "okapi"),
        ("church outdoor", "church"),
        ("balcony, exterior", "balcony"),
        ("stadium baseball", "baseball stadium"),
        ("forest_needleleaf", "coniferous forest"),
        ("grizzly+bear", "grizzly bear"),
        ("Turdus merula", "blackbird"),
        ("n99999999", None),
        ("flying scooter", None),
        ("scooter bee", None),
        ("", None),
        ("(", None),
        (":)", None),
    ],
)
def test_find(senses, name, first_name):
    found = senses.find(name)
    assert (found[0].names[0] if found else None) == first_name


def test_every_name_of_timm_finds_its_synset(senses):
    missed = [
        wnid
        for label_set in ("imagenet-22k", "imagenet-1k")
        for wnid in label_set_wnids(label_set)
        if wnid not in wnids(senses.find(senses.synset_names(wnid)[0]))
    ]
    assert missed == []


def test_a_sense_has_the_lexicons_text_and_timms(senses):
    (okapi,) = senses.find("okapi")
    assert okapi.definition == "similar to the giraffe but smaller with much shorter neck and stripe on the legs"
    assert okapi.kind == "animal/mammal/hoofed/giraffe"
    assert okapi.sentence.startswith("zebra-like black-and-white stripes")
    assert (okapi.wnid, okapi.key, okapi.top_kind) == ("n02439398", "n02439398", "animal")
    assert senses.by_wnid("n02439398") == okapi
    assert senses.by_wnid("n99999999") is None


def test_a_sense_without_an_id_is_known_by_its_usual_name(senses):
    scooter = senses.find("e-scooter")[0]
    assert (scooter.wnid, scooter.definition, scooter.key) == (None, None, "lexicon:electric scooter")
    assert senses.by_key(scooter.key) == scooter
    assert senses.by_key("n02439398") == senses.by_wnid("n02439398")
    assert senses.by_key("lexicon:e-scooter") is None
    assert senses.by_key("lexicon:okapi") is None


def test_synset_names_are_timms(senses):
    assert senses.synset_names("n01440764") == ("tench", "Tinca tinca")
    assert senses.synset_names("n99999999") == ()


def test_a_rare_word_of_timms_for_something_comes_last(senses):
    """ "Mole" is a breakwater in WordNet, and "hedgehog" a porcupine."""
    assert top(senses.find("mole")) == "animal"
    assert "n03933933" not in wnids(senses.find("mole"))[:1]
    assert senses.find("hedgehog")[0].names[0] == "hedgehog"
    assert senses.find("sweet potato")[0].top_kind == "food"


def test_a_hint_keeps_the_other_senses_behind(senses):
    assert wnids(senses.find("crane"))[:2] == [BIRD, MACHINE]
    assert wnids(senses.find("crane (machine)"))[:2] == wnids(senses.find("Cranes, machines"))[:2] == [MACHINE, BIRD]
    assert set(wnids(senses.find("crane (machine)"))) == set(wnids(senses.find("crane")))
    for name in ("crane (bird)", "crane, bird", "Cranes (Birds)"):
        assert wnids(senses.find(name))[0] == BIRD


def test_a_hint_may_use_words_of_the_sentence_or_other_names_of_a_kind(senses):
    assert wnids(senses.find("crane (heavy lifting)"))[0] == MACHINE
    assert top(senses.find("mouse (creature)")) == "animal"
    assert top(senses.find("bat (wildlife)")) == "animal"


def test_a_hint_and_a_word_may_name_something_together(senses):
    assert senses.find("trunk (car)")[0].names[0] == "car trunk"
    assert senses.find("pizza (slice)")[0].names[0] == "pizza slice"
    assert senses.find("horn (instrument)")[0].names[0] == "French horn"
    # "Organ" ends the name of a part of the body too, which is no instrument.
    assert top(senses.find("organ (music)")) == "instrument"


def test_a_hint_that_says_nothing_of_the_kind_does_no_harm(senses):
    for name in ("okapi (rare)", "pizza (burnt)", "mug (with my name)", "okapi (animal)", "crane (of the)"):
        assert senses.find(name)[0] == senses.find(name.partition(" (")[0])[0]
    assert senses.find("okapi (beverage)") == ()
    assert senses.find("jaguar (car)") == ()


def test_says_more(senses):
    pizza, crane = senses.find("pizza")[0], senses.find("crane")[0]
    assert senses.says_more("pizza (burnt)", pizza)
    assert senses.says_more("crane (white bird)", crane)
    for name in ("crane", "crane (bird)", "crane, animal"):
        assert not senses.says_more(name, crane)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("jaguar (car)", "vehicle/road/car"),
        ("foo (birds)", "animal/bird"),
        ("foo (bird)", "animal/bird"),
        ("foo (rather odd)", None),
        ("foo", None),
    ],
)
def test_a_hint_may_state_the_kind(senses, name, kind):
    assert senses.kind_of_hint(name) == kind


def test_the_kind_of_a_compound_is_that_of_its_last_words(senses):
    assert senses.head_noun("flying scooter").kind == "vehicle/cycle/scooter"
    assert senses.head_noun("my old hot air balloon").names[0] == "hot-air balloon"
    assert senses.head_noun("steel crane", {"vehicle"}).wnid == MACHINE
    assert senses.head_noun("tiny pony (toy)").top_kind == "animal"
    assert senses.head_noun("scooter") is None
    assert senses.head_noun("grumpf grumpf") is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("tabbies", "tabby"),
        ("Cranes", "crane"),
        ("teddybear", "teddy bear"),
        ("strawberries", "strawberry"),  # which the lexicon has as a name of its own
        ("sunglasses", "sunglasses"),
        ("axes", "axes"),  # of an axe or of an axis
        ("grumpfs", "grumpfs"),  # nothing is assumed of what is no word
    ],
)
def test_word_key_undoes_only_what_is_certain(senses, name, key):
    assert senses.word_key(name) == key


# ---- the head's kinds ----


def test_a_word_means_what_suits_the_head(senses):
    assert wnids(senses.find("crane", {"animal"}))[:2] == [BIRD, MACHINE]
    assert wnids(senses.find("crane", {"vehicle"}))[:2] == wnids(senses.find("cranes", {"vehicle"}))[:2] == [MACHINE, BIRD]
    assert wnids(senses.find("crane", {"animal", "vehicle"}))[0] == BIRD
    assert wnids(senses.find("crane (bird)", {"vehicle"}))[0] == BIRD  # a hint says more
    assert top(senses.find("duck", {"food"})) == "food"
    assert top(senses.find("beetle", {"vehicle"})) == "animal"  # which nothing else is called


def test_a_kind_is_usual_with_a_tenth_of_the_commonest_ones_classes(senses):
    bird, machine = senses.by_wnid(BIRD), senses.by_wnid(MACHINE)
    assert usual_kinds([]) == frozenset()
    assert usual_kinds([machine, *[bird] * 10]) == {"animal", "vehicle"}
    assert usual_kinds([machine, *[bird] * 11]) == {"animal"}


def test_a_head_of_many_kinds_has_no_usual_ones(senses):
    some = [senses.find(name)[0] for name in ("crane", "pizza", "fork", "tulip")]
    assert usual_kinds(some[:3]) == {"animal", "food", "tool"}
    assert usual_kinds(some) == frozenset()


def test_what_is_no_thing_has_no_kind():
    assert Sense(("heel",), wnid="n05578095").top_kind is None
    assert Sense(("foo",)).top_kind is None
    assert usual_kinds([Sense(("foo",))]) == frozenset()


# ---- a few lines of our own ----


def small(*lines: tuple[str, str], **synsets: str) -> Senses:
    """Senses of lines (names, kind), and of synsets id=lemmas."""
    read = [LexiconLine(tuple(names.split("; ")), None, kind, f"looks like a {names.split('; ')[0]}") for names, kind in lines]
    return Senses(read, Synsets(synsets, lambda wnid: f"definition of {wnid}"))


def test_the_order_of_senses():
    """Lexicon before synsets, usual names before others, the name as it stands before its plural."""
    senses = small(
        ("second; foo", "animal/a"), ("foo", "food/a"), ("foos", "tool/a"), n03000001="bar, foo", n03000000="foo", n06000000="foo"
    )
    assert usual_names(senses.find("foo")) == ["foo", "second", "foos", "foo", "foo", "bar"]
    assert wnids(senses.find("foo"))[3:] == ["n03000000", "n06000000", "n03000001"]
    assert usual_names(senses.find("foos")) == ["foos", "foo", "second", "foo", "foo", "bar"]
    assert usual_names(senses.find("fo o"))[:1] == ["foo"]


def test_a_synset_with_a_line_is_one_sense():
    line = LexiconLine(("foo",), "n02000000", "animal/a", "looks so")
    senses = Senses([line], Synsets({"n02000000": "bar, foo"}, lambda _: "defined"))
    assert senses.find("bar") == senses.find("foo") == (Sense(("foo",), "defined", "looks so", "animal/a", "n02000000"),)


def test_an_id_that_timm_lacks_has_no_definition():
    senses = Senses([LexiconLine(("foo",), "n02000000", "animal/a", "looks so")], Synsets({}, lambda _: ""))
    assert senses.by_wnid("n02000000").definition is None


def test_a_rare_word_must_not_win_for_the_heads_kind():
    senses = small(("foo", "food/a"), n02000000="bar, foo")
    assert usual_names(senses.find("foo", {"animal"})) == ["foo", "bar"]


def test_timms_artefacts_suit_every_kind_of_artefact():
    senses = small(("foo", "food/a"), ("foo x; foo", "toy/a"), n03000000="foo")
    assert [sense.top_kind for sense in senses.find("foo", {"toy"})] == ["toy", "food", "object"]
    assert usual_names(senses.find("foo (toy)"))[0] == "foo x"


def test_kinds_are_counted_at_every_node():
    senses = small(("a", "food/baked/flat"), ("b", "food/baked"), ("c", "toy/x"))
    assert dict(senses.kind_counts) == {"": 3, "food": 2, "food/baked": 2, "food/baked/flat": 1, "toy": 1, "toy/x": 1}
