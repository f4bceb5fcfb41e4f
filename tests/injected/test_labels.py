"""Labels stay readable: in timm, in transformers, and for the next injection."""

import copy
import json

import pytest
import timm
import torch
from timm.data import CustomDatasetInfo, ImageNetInfo
from torch import nn

from tests.helpers import NAMES, WordEncoder, make_model
from timm_inject import evaluate, explain, inject, injection_record, remove, rename, save_for_hf
from timm_inject.images import model_class_names
from timm_inject.injected import known_classes, label_config
from timm_inject.text import class_from_label, load_senses

NEW = ["okapi", "electric scooter"]
IDS = list(ImageNetInfo("imagenet-1k").label_names())
WORDS = ImageNetInfo("imagenet-1k").label_descriptions()
CRANES = [IDS.index("n02012849"), IDS.index("n03126707")]
# One of 11 classes: unique lemmas, single words, twice the same words, and an id that timm has no words for.
SOME = [
    "n01440764",
    "n01498041",
    "n02012849",
    "n03126707",
    "n03710637",
    "n03710721",
    "n01514668",
    "n01514859",
    "n02123045",
    "n99999999",
]


def add(model: nn.Module, names: list[str] = NEW, **options) -> nn.Module:
    inject(model, names, encoder=WordEncoder(), mapper="wavg", **options)
    return model


def imagenet_model() -> nn.Module:
    """A head whose classes follow from its tag, as of most of timm's models."""
    model = make_model("test_resnet", num_classes=1000)
    model.pretrained_cfg.pop("label_names", None)
    assert model.pretrained_cfg["tag"].endswith("in1k")
    return model


def shown_by_timm(config) -> list[str]:
    """As timm's inference script shows labels."""
    info = CustomDatasetInfo(label_names=config["label_names"], label_descriptions=config["label_descriptions"])
    return [info.index_to_description(index) for index in info.label_indices()]


@pytest.fixture(scope="module")
def patched_imagenet():
    return add(imagenet_model(), calibration=None)


def test_timm_shows_what_the_plain_model_shows(patched_imagenet, tmp_path):
    loaded = timm.create_model(f"local-dir:{save_for_hf(patched_imagenet, tmp_path)}", pretrained=True)
    for model in (patched_imagenet, loaded):
        assert shown_by_timm(model.pretrained_cfg) == [*WORDS, *NEW]


def test_transformers_shows_what_the_plain_model_shows(patched_imagenet, tmp_path):
    from transformers import AutoModelForImageClassification

    save_for_hf(patched_imagenet, tmp_path)
    wrapper = AutoModelForImageClassification.from_pretrained(tmp_path)
    shown = [wrapper.config.id2label[index] for index in range(1002)]
    plain = list(WORDS)
    assert plain[CRANES[0]] == plain[CRANES[1]] == "crane"
    plain[CRANES[0]], plain[CRANES[1]] = READABLE[2:4]
    assert shown == [*plain, *NEW]
    assert wrapper.config.label2id["tench, Tinca tinca"] == 0
    assert len(wrapper.config.label2id) == 1002


def test_every_label_set_becomes_readable_and_unique():
    for name in ("imagenet-12k", "imagenet-21k-goog", "imagenet-22k-ms"):
        info = ImageNetInfo(name)
        ids = info.label_names()
        model = nn.Module()
        config = label_config(model, [class_from_label(own) for own in ids])
        labels = config["label_names"]
        assert len(set(labels)) == len(ids)
        assert all(label.startswith(info.label_name_to_description(own)) for own, label in zip(ids, labels, strict=True))
        assert list(config["label_descriptions"]) == labels
        assert list(config["label_descriptions"].values()) == info.label_descriptions()


def test_the_ids_are_in_the_record_and_decide_what_is_meant(patched_imagenet):
    record = injection_record(patched_imagenet)
    assert list(record.seen_labels) == IDS
    assert json.loads(json.dumps(record.to_dict()))["seen_labels"] == IDS
    classes = known_classes(patched_imagenet, record, 1002)
    assert [entry.sense.wnid for entry in classes[:1000]] == IDS
    assert [entry.label for entry in model_class_names(patched_imagenet)[:1000]] == IDS


def test_removing_everything_gives_back_the_labels_exactly(patched_imagenet, tmp_path):
    plain = imagenet_model()
    loaded = timm.create_model(f"local-dir:{save_for_hf(patched_imagenet, tmp_path)}", pretrained=True)
    model = copy.deepcopy(patched_imagenet)
    remove(model, NEW)
    assert model.pretrained_cfg == plain.pretrained_cfg
    remove(loaded, NEW)
    assert "label_names" not in loaded.pretrained_cfg
    assert "label_descriptions" not in loaded.pretrained_cfg


def some_model(**config) -> nn.Module:
    model = make_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": list(SOME), **config}
    return model


READABLE = [
    "tench, Tinca tinca",
    "stingray",
    *(f"crane ({load_senses().by_wnid(wnid).top_kind})" for wnid in SOME[2:4]),
    "maillot",
    "maillot, tank suit",
    "cock",
    "hen",
    "tabby, tabby cat",
    "n99999999",
]


def test_a_second_injection_finds_the_same_senses_and_settings(tmp_path):
    once, twice = some_model(), some_model()
    add(once, ["okapi", "electric scooter"])
    add(twice, ["okapi"])
    twice = timm.create_model(f"local-dir:{save_for_hf(twice, tmp_path)}", pretrained=True).eval()
    add(twice, ["electric scooter"])
    assert torch.equal(once.fc.weight, twice.fc.weight)
    assert injection_record(once) == injection_record(twice)
    assert once.pretrained_cfg["label_names"] == [*READABLE, *NEW]
    assert once.pretrained_cfg["label_descriptions"] == twice.pretrained_cfg["label_descriptions"]
    assert READABLE[2] == "crane (animal)" != READABLE[3]
    assert once.pretrained_cfg["label_descriptions"]["crane (animal)"] == "crane"


def test_what_the_config_says_of_a_label_stays():
    texts = {label: f"{label} as we say it" for label in SOME} | {"n01440764": "tench: a fish"}
    model = add(add(some_model(label_descriptions=texts), ["okapi"]), ["coyote"])
    shown = shown_by_timm(model.pretrained_cfg)
    assert shown[:2] == ["tench: a fish", "n01498041 as we say it"]
    assert shown[9:] == ["n99999999 as we say it", "okapi", "coyote"]
    remove(model, ["okapi", "coyote"])
    assert (model.pretrained_cfg["label_names"], model.pretrained_cfg["label_descriptions"]) == (SOME, texts)


def test_labels_that_are_no_ids_stay_as_they_are():
    labels = [
        "001.Black_footed_Albatross",
        "n02085620-Chihuahua",
        "/m/0k4j",
        "tabby cat",
        "12",
        ":)",
        "Grade A",
        "fox",
        "wolf",
        "lion",
    ]
    model = make_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": labels}
    add(model)
    assert model.pretrained_cfg["label_names"] == [*labels, *NEW]
    assert shown_by_timm(model.pretrained_cfg) == [*labels, *NEW]
    assert injection_record(model).seen_labels == ()


def test_a_label_that_somebody_changed_since_counts_as_it_stands():
    model = add(some_model())
    changed = [*READABLE, *NEW]
    changed[0] = "Schleie"
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": changed}
    names = [entry.name for entry in model_class_names(model)]
    assert names[:3] == ["Schleie", "stingray", "crane"]
    add(model, ["coyote"])
    assert model.pretrained_cfg["label_names"] == [*changed, "coyote"]


def test_another_release_may_tell_classes_apart_by_other_words():
    model = add(some_model())
    labels = [*READABLE, *NEW]
    labels[2], labels[3] = "crane (n02012849)", "crane (lifting gear)"
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": labels}
    assert [entry.label for entry in model_class_names(model)[:10]] == SOME
    add(model, ["coyote"])
    assert model.pretrained_cfg["label_names"] == [*labels, "coyote"]
    assert list(injection_record(model).seen_labels) == SOME


def test_a_new_class_that_is_given_by_its_id_is_labelled_by_its_name(tmp_path):
    model = add(make_model("test_resnet"), ["n02439398"])
    assert model.pretrained_cfg["label_names"][-1] == injection_record(model).classes[0].name == "okapi"
    loaded = timm.create_model(f"local-dir:{save_for_hf(model, tmp_path)}", pretrained=True)
    assert injection_record(loaded).classes[0].synset == "n02439398"
    add(loaded, ["coyote"])
    assert loaded.pretrained_cfg["label_names"] == [*NAMES, "okapi", "coyote"]


def test_renaming_touches_no_other_label():
    model = add(some_model())
    parameters = [id(parameter) for parameter in model.parameters()]
    rename(model, {"okapi": "forest giraffe"})
    assert model.pretrained_cfg["label_names"] == [*READABLE, "forest giraffe", "electric scooter"]
    assert set(model.pretrained_cfg["label_descriptions"]) == set(model.pretrained_cfg["label_names"])
    assert [id(parameter) for parameter in model.parameters()] == parameters  # an optimizer goes on
    assert explain(model, "forest giraffe").name == "forest giraffe"


def test_folders_named_by_the_ids_are_still_found(tmp_path):
    from PIL import Image

    model = add(some_model())
    for name in ("n01440764", "n03126707", "okapi"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "a.png")
    assert set(evaluate(model, tmp_path).accuracy_of_class) == {"tench", "crane", "okapi"}


def test_labels_in_an_array(tmp_path):
    np = pytest.importorskip("numpy")
    model = make_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": np.array(NAMES)}
    add(model)
    loaded = timm.create_model(f"local-dir:{save_for_hf(model, tmp_path)}", pretrained=True)
    remove(loaded, NEW)
    assert loaded.pretrained_cfg["label_names"] == NAMES
