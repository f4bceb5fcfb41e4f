"""Names of seen classes, on timm's real label sets and tags, and in labels as people have them."""

from types import SimpleNamespace

import pytest
import timm
from timm.models import PretrainedCfg, get_pretrained_cfg

from timm_inject.errors import ArgumentTypeError, ClassNameError, UnknownSeenClassesError
from timm_inject.text import names as names_module
from timm_inject.text.names import (
    ClassName,
    class_from_label,
    kinds_of_classes,
    label_names_for_config,
    resolve_seen_class_names,
    sense_of_class,
)
from timm_inject.text.senses import load_senses
from timm_inject.text.synsets import label_set_wnids


def model_with(**config: object) -> SimpleNamespace:
    return SimpleNamespace(pretrained_cfg=config)


@pytest.fixture(scope="module")
def imagenet() -> list[ClassName]:
    return resolve_seen_class_names(None, 1000, "imagenet-1k")


def error_of(kind: type[Exception], function, *args) -> str:
    with pytest.raises(kind) as caught:
        function(*args)
    return str(caught.value)


# ---- seen: from the model ----


def test_a_real_model_states_its_classes(imagenet):
    model = timm.create_model("tf_efficientnet_lite0")
    seen = resolve_seen_class_names(model, 1000)
    assert seen == imagenet
    assert seen[0].name == "tench"
    assert seen[0].synonyms == ("Tinca tinca",)
    assert seen[0].sense.wnid == seen[0].label == "n01440764"
    assert [entry.name for entry in seen].count("crane") == 2
    assert seen[134].sense != seen[517].sense


def test_every_tag_of_timm_that_names_a_label_set_is_understood(monkeypatch):
    monkeypatch.setattr(names_module, "class_from_label", ClassName)  # a second each for the large ones
    configs = {get_pretrained_cfg(name).tag: get_pretrained_cfg(name) for name in timm.list_pretrained()}
    sizes = {1000, 11821, 21841, 21842, 21843, 11221}
    configs = {tag: config for tag, config in configs.items() if config.num_classes in sizes}
    unnamed = []
    for tag, config in configs.items():
        try:
            names = resolve_seen_class_names(SimpleNamespace(pretrained_cfg=config), config.num_classes)
            assert len(names) == config.num_classes
        except UnknownSeenClassesError:
            unnamed.append(tag)
    assert len(configs) > 150
    assert unnamed == ["fb_dino"]


@pytest.mark.parametrize(
    ("tag", "num_seen", "label_set"),
    [
        ("in1k", 1000, "imagenet-1k"),
        ("sw_in12k_ft_in1k_384", 1000, "imagenet-1k"),
        ("fcmae_ft_in22k_in1k_512", 1000, "imagenet-1k"),
        ("sw_in12k", 11821, "imagenet-12k"),
        ("goog_in21k", 21843, "imagenet-21k-goog"),
        ("miil_in21k", 11221, "imagenet-21k-miil"),
        ("fb_in22k", 21841, "imagenet-22k"),
        ("ms_in22k", 21842, "imagenet-22k-ms"),
    ],
)
@pytest.mark.parametrize("make", [dict, PretrainedCfg])
def test_the_tag_and_within_a_family_the_size_decide(tag, num_seen, label_set, make):
    model = SimpleNamespace(pretrained_cfg=make(tag=tag, num_classes=num_seen))
    names = resolve_seen_class_names(model, num_seen)
    assert tuple(entry.label for entry in names) == label_set_wnids(label_set)


@pytest.mark.parametrize("tag", ["lvd142m", "openai", "laion2b", "fb_inw21k", "in1k_ft_flowers", "in1k_ijepa", "384"])
def test_other_tags_name_no_label_set(tag):
    message = error_of(UnknownSeenClassesError, resolve_seen_class_names, model_with(tag=tag, num_classes=1000), 1000)
    assert message == (
        f"The model has 1000 outputs but its config (tag '{tag}') names no classes, and ImageNet would only be a "
        "guess. Pass `seen_class_names` (1000 names in logit order), or "
        '"imagenet-1k" if that is what it was trained on.'
    )


@pytest.mark.parametrize("model", [None, SimpleNamespace(), SimpleNamespace(pretrained_cfg=None), model_with()])
def test_never_guessed_from_the_count(model):
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, model, 1000) == (
        "The model has 1000 outputs but its config names no classes, and ImageNet would only be a guess. "
        'Pass `seen_class_names` (1000 names in logit order), or "imagenet-1k" if that is what it was trained on.'
    )
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, model, 10) == (
        "The model has 10 outputs but its config names no classes. Pass `seen_class_names` (10 names in logit order)."
    )


def test_a_head_that_replaced_the_pretrained_one_is_not_named_by_the_tag():
    model = timm.create_model("resnet18.a1_in1k", num_classes=10)
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, model, 10) == (
        "The model has 10 outputs but its pretrained tag 'a1_in1k' belongs to a head of 1000, so it does not name the "
        "classes of this one. Pass `seen_class_names` (10 names in logit order)."
    )
    headless = model_with(tag="mae_in1k", num_classes=0)
    assert "belongs to a head of 0" in error_of(UnknownSeenClassesError, resolve_seen_class_names, headless, 1000)


def test_a_size_outside_the_family_is_an_error():
    model = model_with(tag="new_in21k", num_classes=21841)
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, model, 21841) == (
        "The model has 21841 outputs but its pretrained tag 'new_in21k' states imagenet-21k-goog or imagenet-21k-miil, "
        "which has 21843 or 11221 classes. Pass `seen_class_names` (21841 names in logit order)."
    )


def test_a_background_output_is_explained():
    model = model_with(tag="tf_in1k", num_classes=1001)
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, model, 1001) == (
        "The model has 1001 outputs but its pretrained tag 'tf_in1k' states imagenet-1k, which has 1000 classes. One "
        "output more is often a background class at index 0; if so, list it with the others. "
        "Pass `seen_class_names` (1001 names in logit order)."
    )


def test_label_names_win_over_the_tag():
    model = model_with(tag="a1_in1k", num_classes=2, label_names=["n02123045", "okapi"])
    tabby, okapi = resolve_seen_class_names(model, 2)
    assert (tabby.name, tabby.sense.wnid, tabby.synonyms) == ("tabby", "n02123045", ("tabby cat",))
    assert okapi == ClassName("okapi", label="okapi")


def test_label_names_by_index_in_any_order():
    for label_names in ({"1": "b", "0": "a"}, {1: "b", 0: "a"}):
        names = resolve_seen_class_names(model_with(label_names=label_names), 2)
        assert [entry.name for entry in names] == ["a", "b"]


def test_label_descriptions():
    label_names = ["okapi", "/m/0bl9f", "dahlia", "cat", "dog", "n02123045"]
    label_descriptions = {
        "okapi": "okapi, forest giraffe: a striped relative of the giraffe",
        "/m/0bl9f": "Tree frog",
        "dahlia": "a flower, native to Mexico",
        "cat": "cat",
        "n02123045": "something else",
    }
    model = model_with(label_names=label_names, label_descriptions=label_descriptions)
    okapi, frog, dahlia, cat, dog, tabby = resolve_seen_class_names(model, 6)
    assert okapi.description == "a striped relative of the giraffe"
    assert okapi.synonyms == ("forest giraffe",)
    assert (frog.name, frog.label, frog.description) == ("Tree frog", "/m/0bl9f", None)
    assert (dahlia.name, dahlia.description) == ("dahlia", "a flower, native to Mexico")
    assert cat.description is None
    assert dog.description is None
    assert (tabby.name, tabby.description) == ("tabby", None)


@pytest.mark.parametrize(
    ("label_names", "num_seen", "message"),
    [
        (
            ["cat", "dog"],
            3,
            "The model has 3 outputs but its config's `label_names` has 2 names ('cat', 'dog'). "
            "Pass `seen_class_names` (3 names in logit order).",
        ),
        (
            {"0": "cat", "2": "dog"},
            2,
            "The model has 2 outputs but its config's `label_names` skips index 1. "
            "Pass `seen_class_names` (2 names in logit order).",
        ),
        (
            ["cat", 3],
            2,
            "The `label_names` of the model's config are not all texts. Pass `seen_class_names` (2 names in logit order).",
        ),
        (
            "cat",
            3,
            "The `label_names` of the model's config are str, not a list or a mapping of names. "
            "Pass `seen_class_names` (3 names in logit order).",
        ),
    ],
)
def test_label_names_that_do_not_fit(label_names, num_seen, message):
    model = model_with(tag="a1_in1k", num_classes=num_seen, label_names=label_names)
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, model, num_seen) == message


# ---- seen: from the user ----


@pytest.mark.parametrize("name", ["imagenet-1k", "ImageNet1k", "imagenet_1K", "IMAGENET-1K"])
def test_label_set_by_name(name, imagenet):
    assert resolve_seen_class_names(None, 1000, name) == imagenet


@pytest.mark.parametrize(
    ("name", "num_seen"),
    [
        ("imagenet-12k", 11821),
        ("imagenet-21k", 21843),
        ("imagenet-21k-goog", 21843),
        ("imagenet-21k-miil", 11221),
        ("imagenet-22k", 21841),
        ("imagenet-22k-ms", 21842),
    ],
)
def test_every_label_set(name, num_seen):
    assert len(resolve_seen_class_names(None, num_seen, name)) == num_seen


def test_unknown_label_set():
    message = error_of(UnknownSeenClassesError, resolve_seen_class_names, None, 1000, "imagnet-1k")
    assert message == (
        "'imagnet-1k' is not a label set that timm ships. Did you mean \"imagenet-1k\"? The label sets and their "
        'sizes: "imagenet-1k" (1000), "imagenet-12k" (11821), "imagenet-21k-goog" (21843), "imagenet-21k-miil" '
        '(11221), "imagenet-22k" (21841), "imagenet-22k-ms" (21842). '
        "Any other classes: pass a list of their names in logit order."
    )
    assert "Did you mean" not in error_of(UnknownSeenClassesError, resolve_seen_class_names, None, 10, "cifar")


def test_label_set_of_another_size():
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, None, 10, "imagenet-1k") == (
        "The model has 10 outputs but the label set imagenet-1k has 1000 classes. "
        "Pass `seen_class_names` (10 names in logit order)."
    )


def test_count_differs_from_the_head():
    names = [f"class {i}" for i in range(7)]
    assert error_of(UnknownSeenClassesError, resolve_seen_class_names, None, 1000, names) == (
        "The model has 1000 outputs but `seen_class_names` has 7 names ('class 0', 'class 1', 'class 2', 'class 3', "
        "'class 4' and 2 more). Pass one name for each output, in logit order."
    )


def test_list_of_names_is_kept_and_may_repeat():
    given = [" crane ", "crane", "Cardigan"]
    crane, cardigan = ClassName("crane", label="crane"), ClassName("Cardigan", label="Cardigan")
    assert resolve_seen_class_names(None, 3, given) == [crane, crane, cardigan]
    assert given == [" crane ", "crane", "Cardigan"]


def test_ids_and_full_lemma_lists_name_their_synset():
    tench, tabby, capital = resolve_seen_class_names(None, 3, ["tench, Tinca tinca", "n02123045", "Washington, D.C."])
    assert (tench.name, tench.sense.wnid, tench.label) == ("tench", "n01440764", "tench, Tinca tinca")
    assert (tabby.name, tabby.sense.wnid, tabby.label) == ("tabby", "n02123045", "n02123045")
    assert capital == ClassName("Washington, D.C.", label="Washington, D.C.")


@pytest.mark.parametrize(("names", "kind"), [({"a": 1}, "dict"), (7, "int"), ({"a"}, "set"), (b"a", "bytes")])
def test_seen_names_of_another_type(names, kind):
    assert error_of(ArgumentTypeError, resolve_seen_class_names, None, 3, names) == (
        f'`seen_class_names` must be a list of 3 names in logit order or a label set such as "imagenet-1k", got {kind}.'
    )


def test_seen_names_that_are_no_names():
    assert error_of(ArgumentTypeError, resolve_seen_class_names, None, 3, ["a", 2, None]) == (
        "`seen_class_names` must hold strings only, got 2 (int) at position 1, None (NoneType) at position 2. "
        "Write each name as a string."
    )
    assert error_of(ClassNameError, resolve_seen_class_names, None, 3, ["a", " ", "x\ny"]) == (
        "2 of 3 seen class names cannot be used: the name at position 1 is empty; 'x\\ny' has a control character. Replace them."
    )


# ---- labels as people have them ----


@pytest.mark.parametrize(
    ("label", "name", "wnid"),
    [
        ("n02085620-Chihuahua", "Chihuahua", "n02085620"),
        ("n01440764", "tench", "n01440764"),
        (" n01440764 ", "tench", "n01440764"),
        ("n01440764 tench, Tinca tinca", "tench", "n01440764"),
        ("n01440764: tench", "tench", "n01440764"),
        ("tench, Tinca tinca", "tench", "n01440764"),
        ("03111_Animalia_Chordata_Aves_Passeriformes_Turdidae_Turdus_merula", "Turdus merula", None),
        ("Plantae_Tracheophyta_Magnoliopsida_Asterales_Asteraceae_Bellis_perennis", "Bellis perennis", None),
        ("/a/abbey", "abbey", None),
        ("/c/church/indoor", "church indoor", None),
        ("/n/no_such_place", "no such place", None),
        ("AC/DC", "AC/DC", None),
        ("long_hair", "long hair", None),
        ("giant+panda", "giant panda", None),
        ("C++", "C++", None),
        (":)", ":)", None),
        ("_", "_", None),
        ("12 dogs", "12 dogs", None),
        ("n99999999-foo", "n99999999-foo", None),
    ],
)
def test_what_names_the_class_in_a_label_is_found(label, name, wnid):
    entry = class_from_label(label)
    assert (entry.name, entry.sense and entry.sense.wnid, entry.label) == (name, wnid, label.strip())


def test_a_species_finds_its_line():
    kinds = frozenset(["animal"])
    blackbird = class_from_label("03111_Animalia_Chordata_Aves_Passeriformes_Turdidae_Turdus_merula")
    assert sense_of_class(blackbird, kinds).names[0] == "blackbird"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["001.Black_footed_Albatross", "002.Laysan_Albatross"], ["Black footed Albatross", "Laysan Albatross"]),
        (["0: cat", "1: dog"], ["cat", "dog"]),
        (["1 apple", "2 pear"], ["apple", "pear"]),
        (["1) apple", "02-pear"], ["apple", "pear"]),
        (["00_Animalia_Aves_Turdus_merula", "1_Plantae_Rosales_Rosa_canina"], ["Turdus merula", "Rosa canina"]),
        # Not every label has a number, so that it is a part of the name.
        (["7 eleven", "kiosk"], ["7 eleven", "kiosk"]),
        (["1.5", "2.5"], ["1.5", "2.5"]),
    ],
)
def test_numbers_are_taken_off_where_every_label_has_one(labels, names):
    entries = resolve_seen_class_names(None, len(labels), labels)
    assert [entry.name for entry in entries] == names
    assert [entry.label for entry in entries] == labels
    assert resolve_seen_class_names(model_with(label_names=labels), len(labels)) == entries


def test_signs_are_classes_that_nothing_is_known_of():
    entries = resolve_seen_class_names(None, 3, [":)", ":(", "?"])
    assert [entry.name for entry in entries] == [":)", ":(", "?"]
    assert [sense_of_class(entry, frozenset()) for entry in entries] == [None] * 3


def test_a_long_lemma_list_of_two_synsets_names_none():
    """Two synsets of timm's are written alike, so that the label is no id."""
    assert class_from_label("fish").sense is None
    assert class_from_label("Washington, D.C.") == ClassName("Washington, D.C.", label="Washington, D.C.")


# ---- what a head knows ----


def test_kinds_of_a_head_are_told_by_its_names_of_one_sense(imagenet):
    assert kinds_of_classes(imagenet) == frozenset()
    assert kinds_of_classes([ClassName(name) for name in ("forklift", "tow truck", "crane")]) == {"vehicle"}
    assert kinds_of_classes([ClassName(name) for name in ("bittern", "okapi", "crane")]) == {"animal"}
    assert kinds_of_classes([class_from_label("n02012849")]) == {"animal"}
    assert kinds_of_classes([]) == frozenset()


def test_the_sense_of_a_label_is_certain_and_that_of_a_name_suits_the_head():
    bird, machine = load_senses().by_wnid("n02012849"), load_senses().by_wnid("n03126707")
    crane = ClassName("crane")
    assert sense_of_class(crane, frozenset()) == bird
    assert sense_of_class(crane, frozenset(["vehicle"])) == machine
    assert sense_of_class(class_from_label("n02012849"), frozenset(["vehicle"])) == bird
    assert sense_of_class(ClassName("grumpf"), frozenset()) is None


# ---- labels for the config ----


def test_labels_for_the_config(imagenet):
    labels = label_names_for_config([*imagenet, ClassName("okapi")])
    assert labels == [*label_set_wnids("imagenet-1k"), "okapi"]


def test_labels_are_unique_and_come_back():
    seen = resolve_seen_class_names(None, 4, ["crane", "crane", "tench, Tinca tinca", "crane (2)"])
    labels = label_names_for_config(seen)
    assert labels == ["crane", "crane (2)", "tench, Tinca tinca", "crane (2) (2)"]
    back = resolve_seen_class_names(model_with(label_names=labels), 4)
    assert label_names_for_config(back) == labels
    assert back[2].sense == seen[2].sense
