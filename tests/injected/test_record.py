"""The record: what it keeps, old ones, and ones that come from anyone."""

import json

import pytest
import timm

from tests.helpers import WordEncoder
from timm_inject import ArgumentValueError, inject, injection_record, save_for_hf
from timm_inject.images.classification import classify
from timm_inject.injected import CONFIG_KEY, RECORD_ATTRIBUTE, InjectionRecord, base_of, find_record

NEW = ["okapi", "electric scooter"]
# As the first version wrote it.
OLD = {
    "format": 1,
    "num_seen": 10,
    "classes": [
        {
            "name": "okapi",
            "index": 10,
            "descriptions": ["a relative of the giraffe"],
            "description_source": "user",
            "synset": None,
            "encoder": "sentence-transformers/all-MiniLM-L6-v2",
            "mapper": "icis",
            "calibration": "harmonic",
            "seed": 0,
        }
    ],
    "versions": {"timm_inject": "0.1.0"},
    "self_score": {"zsl_accuracy": 0.5},
}


def test_json_round_trip(patched):
    record = injection_record(patched)
    again = InjectionRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again == record
    assert record.base_model == "timm/resnet10t.c3_in1k"
    assert record.datasets == ("imagenet-1k",)
    assert [len(entry.row_hash) for entry in record.classes] == [16, 16]
    assert record.classes[0].settings == record.classes[1].settings in record.probes


def test_records_of_older_versions_are_read():
    record = InjectionRecord.from_dict(OLD)
    (entry,) = record.classes
    assert (entry.lemmas, entry.settings, entry.leans_on, entry.confidence, entry.warning) == ((), None, (), None, None)
    assert (record.base_model, record.original_labels, record.probes) == (None, None, {})


def test_a_model_with_an_old_record_can_be_changed_further(patched):
    before = patched.fc.weight.detach().clone()
    old = {**OLD, "classes": [OLD["classes"][0], {**OLD["classes"][0], "name": "electric scooter", "index": 11}]}
    setattr(patched, RECORD_ATTRIBUTE, old)
    inject(patched, ["coyote"], encoder=WordEncoder(), mapper="ridge")
    assert (patched.fc.weight[:12] == before).all()
    assert [entry.name for entry in injection_record(patched).classes] == [*NEW, "coyote"]


def test_keys_of_newer_versions_are_ignored():
    entry = {**OLD["classes"][0], "aura": 3}
    assert InjectionRecord.from_dict({**OLD, "classes": [entry], "mood": []}) == InjectionRecord.from_dict(OLD)


def test_filled_in_by_later_steps():
    entry = {**OLD["classes"][0], "leans_on": [["zebra", 0.5], ["horse", 0.25]], "confidence": 0.75, "warning": "look-alike"}
    (read,) = InjectionRecord.from_dict({**OLD, "classes": [entry]}).classes
    assert read.leans_on == (("zebra", 0.5), ("horse", 0.25))
    assert (read.confidence, read.warning) == (0.75, "look-alike")


def _class(**changes):
    return {**OLD, "classes": [{**OLD["classes"][0], **changes}]}


HOSTILE = {
    "huge count": {**OLD, "num_seen": 10**18},
    "no count": {key: value for key, value in OLD.items() if key != "num_seen"},
    "count is a text": {**OLD, "num_seen": "10"},
    "count is infinite": {**OLD, "num_seen": float("inf")},
    "negative count": {**OLD, "num_seen": -1},
    "classes is a number": {**OLD, "classes": 3},
    "class is a text": {**OLD, "classes": ["okapi"]},
    "index elsewhere": _class(index=3),
    "huge index": _class(index=10**18),
    "name is a list": _class(name=["okapi"]),
    "descriptions is a text": _class(descriptions="a relative of the giraffe"),
    "descriptions of numbers": _class(descriptions=[1, 2]),
    "leans on nothing known": _class(leans_on=[["zebra"]]),
    "confidence is not finite": _class(confidence=float("nan")),
    "score is a text": {**OLD, "self_score": {"zsl_accuracy": "good"}},
    "versions is a list": {**OLD, "versions": ["1.0"]},
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_or_damaged_records_are_refused(data):
    with pytest.raises(ArgumentValueError, match="The model's injection record is damaged: ") as caught:
        InjectionRecord.from_dict(data)
    assert str(caught.value).endswith("or take the key 'timm_inject' out of its config.json.")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("data", [{**OLD, "format": 99}, {"format": []}, "text", [1], 3])
def test_another_format_is_told(data):
    with pytest.raises(ArgumentValueError, match="this version of timm_inject reads 1"):
        InjectionRecord.from_dict(data)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_saved_model_with_a_hostile_record_still_loads_in_timm(patched, tmp_path, data):
    save_for_hf(patched, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, CONFIG_KEY: data}))
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert model.num_classes == 12
    with pytest.raises(ArgumentValueError, match="The model's injection record is damaged"):
        inject(model, ["coyote"], encoder=WordEncoder(), mapper="ridge")
    with pytest.raises(ArgumentValueError, match="The model's injection record is damaged"):
        classify(model, [])


def test_a_record_of_another_width_is_not_this_models(patched, tmp_path):
    save_for_hf(patched, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[CONFIG_KEY]["classes"].pop()
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_record(timm.create_model(f"local-dir:{tmp_path}", pretrained=True)) == injection_record(patched)
    del config["pretrained_cfg"]["notes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArgumentValueError, match="it is of 11 classes, the head has 12, and rows that were injected are still"):
        find_record(timm.create_model(f"local-dir:{tmp_path}", pretrained=True))


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({"hf_hub_id": "timm/a.sw_in12k_ft_in1k_384", "tag": "sw_in12k_ft_in1k_384"}, ("timm/a.sw_in12k_ft_in1k_384", 2)),
        ({"hf_hub_id": None, "tag": "mine"}, (None, 0)),
        ({"hf_hub_id": 3}, (None, 0)),
        ({}, (None, 0)),
        (None, (None, 0)),
    ],
)
def test_base_model_and_datasets(small_model, config, base):
    small_model.pretrained_cfg = config
    model_id, datasets = base_of(small_model)
    assert (model_id, len(datasets)) == base
    assert list(datasets) == ["imagenet-1k", "imagenet-12k"][: base[1]]
