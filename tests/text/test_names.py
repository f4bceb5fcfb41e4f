"""Names of seen and unseen classes, on timm's real label sets and tags."""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
from timm.models import PretrainedCfg, get_pretrained_cfg

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, ClassNameError, DescriptionError, UnknownSeenClassesError
from timm_inject.text.names import ClassName, label_names_for_config, resolve_seen_class_names, resolve_unseen_class_names
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
    assert seen[0].synset.wnid == seen[0].label == "n01440764"
    assert [entry.name for entry in seen].count("crane") == 2
    assert seen[134].synset != seen[517].synset


def test_every_tag_of_timm_that_names_a_label_set_is_understood():
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
    assert (tabby.name, tabby.synset.wnid, tabby.synonyms) == ("tabby", "n02123045", ("tabby cat",))
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
    assert resolve_seen_class_names(None, 3, given) == [ClassName("crane"), ClassName("crane"), ClassName("Cardigan")]
    assert given == [" crane ", "crane", "Cardigan"]


def test_ids_and_full_lemma_lists_name_their_synset():
    tench, tabby, capital = resolve_seen_class_names(None, 3, ["tench, Tinca tinca", "n02123045", "Washington, D.C."])
    assert (tench.name, tench.synset.wnid, tench.label) == ("tench", "n01440764", "tench, Tinca tinca")
    assert (tabby.name, tabby.synset.wnid, tabby.label) == ("tabby", "n02123045", "n02123045")
    assert capital == ClassName("Washington, D.C.")


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


# ---- unseen ----


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
            "2 of 3 unseen class names cannot be added: 'tabby cat' is already seen class 281; "
            "'okapi' is given twice (positions 0 and 2). Remove or rename them.",
        ),
        (
            ["Tabby_Cat"],
            ClassNameError,
            "1 of 1 unseen class names cannot be added: 'Tabby_Cat' is already seen class 281. Remove or rename it.",
        ),
        (
            ["Okapi", "okapi", "okapis", "tabbies", "TABBY"],
            ClassNameError,
            "4 of 5 unseen class names cannot be added: 'Okapi' is given 3 times (positions 0, 1 and 2, as 'Okapi', "
            "'okapi' and 'okapis'); 'tabbies' is already seen class 281. Remove or rename them.",
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


def test_a_hint_makes_another_sense_a_name_of_its_own(imagenet):
    names = resolve_unseen_class_names(["mouse (rodent)", "crane (origami)"], imagenet)
    assert [entry.name for entry in names] == ["mouse (rodent)", "crane (origami)"]
    only_bird = [entry for entry in imagenet if entry.label != "n03126707"]
    assert resolve_unseen_class_names(["crane (machine)"], only_bird)[0].name == "crane (machine)"


def test_a_hint_that_picks_the_sense_of_a_seen_class_is_that_class(imagenet):
    message = error_of(ClassNameError, resolve_unseen_class_names, ["crane (machine)", "crane, bird"], imagenet)
    assert "'crane (machine)' is already seen class 517; 'crane, bird' is already seen class 134" in message
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
    message = error_of(ClassNameError, resolve_unseen_class_names, ["casserole (food)"], dishes)
    assert "'casserole (food)' is already seen class 2" in message


def test_what_was_injected_has_no_say_in_what_seen_names_mean():
    vehicles = resolve_seen_class_names(None, 4, ["forklift", "bulldozer", "tow truck", "crane"])
    birds = [ClassName("pelican"), ClassName("bittern")]
    for known in (vehicles, vehicles + birds):
        assert resolve_unseen_class_names(["crane (bird)"], known, num_seen=4)[0].name == "crane (bird)"
        message = error_of(ClassNameError, lambda known=known: resolve_unseen_class_names(["crane (machine)"], known, num_seen=4))
        assert "'crane (machine)' is already seen class 3" in message


def test_a_class_that_is_described_otherwise_has_not_the_usual_sense_of_its_name():
    described = [
        ClassName("crane", description="a machine on building sites"),
        ClassName("galaxy", description="a system of stars"),
    ]
    names = ["crane (bird)", "crane (machine)", "galaxy (herb)"]
    assert [entry.name for entry in resolve_unseen_class_names(names, described)] == names
    assert "already seen class 0" in error_of(ClassNameError, resolve_unseen_class_names, ["Crane"], described)


def test_a_lost_space_is_the_same_class(imagenet):
    message = error_of(ClassNameError, resolve_unseen_class_names, ["teddybear"], imagenet)
    assert "'teddybear' is already seen class 850" in message


def test_the_likeliest_meaning_of_a_seen_name_brings_its_synonyms():
    seen = [ClassName("fire engine"), ClassName("dogs"), ClassName("mouse (rodent)")]
    for name in ("fire truck", "n03345487"):
        assert "class 0" in error_of(ClassNameError, resolve_unseen_class_names, [name], seen)
    for name in ("Dog", "domestic dog"):
        assert "class 1" in error_of(ClassNameError, resolve_unseen_class_names, [name], seen)
    assert len(resolve_unseen_class_names(["okapi", "computer mouse"], seen)) == 2


def test_an_id_stands_for_its_synset(imagenet):
    (okapi,) = resolve_unseen_class_names(["n02439398"], imagenet)
    assert (okapi.name, okapi.synset.wnid, okapi.label) == ("okapi", "n02439398", "n02439398")
    message = error_of(ClassNameError, resolve_unseen_class_names, ["n01440764"], imagenet)
    assert "'n01440764' is already seen class 0." in message


def test_an_id_of_another_sense_is_another_class():
    seen = resolve_seen_class_names(None, 1, ["n02012849"])
    (machine,) = resolve_unseen_class_names(["n03126707"], seen)
    assert machine.synset.definition.startswith("lifts and moves heavy objects")


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
    assert back[2].synset == seen[2].synset
