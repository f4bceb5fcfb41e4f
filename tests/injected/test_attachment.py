"""What was injected belongs to the model: whatever becomes of the folder, and only as long as the rows are the record's."""

import copy
import json
import pickle
import shutil
from pathlib import Path

import pytest
import timm
import timm.models
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import timm_inject
from tests.helpers import NAMES, WordEncoder, make_model
from timm_inject import ArgumentValueError, attach_record, inject, injection_record, remove, rename, save_for_hf
from timm_inject.hub import write_card
from timm_inject.injected import CONFIG_KEY, RECORD_ATTRIBUTE, find_record
from timm_inject.injected.attachment import own_note, read_note

NEW = ["okapi", "electric scooter"]
# As version 0.4.0 wrote it; the hashes are of the rows that `old_model` has.
RECORD_OF_0_4_0 = {
    "format": 1,
    "num_seen": 10,
    "classes": [
        {
            "name": "okapi",
            "index": 10,
            "descriptions": ["similar to the giraffe but smaller with much shorter neck and stripe on the legs"],
            "description_source": "timm",
            "synset": "n02439398",
            "encoder": "tests.helpers.WordEncoder",
            "mapper": "ridge",
            "calibration": "harmonic",
            "seed": 0,
            "lemmas": ["okapi", "Okapia johnstoni"],
            "settings": "abd3100a50bf97e6-0",
            "row_hash": "98d48dd88ff640af",
            "leans_on": [["wolf", 0.5071], ["tiger cat", 0.2179]],
            "confidence": 0.375,
            "warning": None,
            "activation": "softmax",
        },
        {
            "name": "electric scooter",
            "index": 11,
            "descriptions": [],
            "description_source": "none",
            "synset": None,
            "encoder": "tests.helpers.WordEncoder",
            "mapper": "ridge",
            "calibration": "harmonic",
            "seed": 0,
            "lemmas": ["electric scooter"],
            "settings": "abd3100a50bf97e6-0",
            "row_hash": "24cfe39dbcf8ded5",
            "leans_on": [["tiger", 0.3088], ["fox", 0.2239]],
            "confidence": 0.2812,
            "warning": None,
            "activation": "softmax",
        },
    ],
    "versions": {"timm_inject": "0.4.0", "timm": "1.0.31", "torch": "2.14.1", "sentence-transformers": "6.2.0"},
    "self_score": {"zsl_accuracy": 0.7126666903495789, "harmonic_mean": 0.5697757403166107},
    "probes": {"abd3100a50bf97e6-0": [173.0, -0.18829, -0.33611]},
    "base_model": "timm/test_resnet.r160_in1k",
    "datasets": ["imagenet-1k"],
    "original_labels": {"label_names": NAMES, "label_descriptions": None},
}


def add(model: nn.Module, names: list[str] = NEW) -> nn.Module:
    inject(model, names, encoder=WordEncoder(), mapper="wavg")
    return model


def patched(names: list[str] = NEW) -> nn.Module:
    return add(make_model("test_resnet"), names)


def load(folder: Path | str) -> nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def saved(folder: Path, names: list[str] = NEW) -> Path:
    save_for_hf(patched(names), folder)
    return folder


def old_model() -> nn.Module:
    """The model that `RECORD_OF_0_4_0` speaks of."""
    model = make_model("test_resnet", num_classes=12)
    rows, columns = torch.arange(12)[:, None], torch.arange(model.fc.in_features)[None]
    with torch.no_grad():
        model.fc.weight.copy_(((7 * rows * rows + 3 * columns * (rows + 1)) % 23 - 11) / 16)
        model.fc.bias.copy_(torch.arange(12) / 8)
    return model


def saved_by_0_4_0(folder: Path) -> Path:
    """A folder as that version wrote it: the record under its own key alone, and no note."""
    labels = [*NAMES, *NEW]
    config = {"label_names": labels, "label_descriptions": {label: label for label in labels}, CONFIG_KEY: RECORD_OF_0_4_0}
    model = old_model()
    model.pretrained_cfg = {**model.pretrained_cfg, **{key: config[key] for key in ("label_names", "label_descriptions")}}
    timm.models.save_for_hf(model, str(folder), model_config=config, safe_serialization=True)
    assert "notes" not in json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    return folder


def names_of(model: nn.Module) -> list[str]:
    return [entry.name for entry in injection_record(model).classes]


# --- the folder ------------------------------------------------------------------------------------------------------


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def overwritten(folder: Path) -> None:
    saved(folder, ["tapir", "walrus"])


def overwritten_by_more(folder: Path) -> None:
    saved(folder, ["tapir", "walrus", "ibex"])


def overwritten_by_a_plain_one(folder: Path) -> None:
    save_for_hf(make_model("test_resnet"), folder)


def broken(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def without_the_key(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config[CONFIG_KEY]
    (folder / "config.json").write_text(json.dumps(config))


ACCIDENTS = [gone, moved, overwritten, overwritten_by_more, overwritten_by_a_plain_one, broken, without_the_key]


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_whatever_becomes_of_the_folder_changes_nothing(accident, tmp_path):
    model = load(saved(tmp_path / "out"))
    before = injection_record(load(tmp_path / "out"))
    accident(tmp_path / "out")
    assert injection_record(model) == before
    add(model, ["coyote"])
    assert (injection_record(model).num_seen, names_of(model)) == (10, [*NEW, "coyote"])
    remove(model, names_of(model))
    assert torch.equal(model.fc.weight, make_model("test_resnet").fc.weight)
    assert find_record(model) is None


@pytest.mark.parametrize("accident", [gone, moved, overwritten, overwritten_by_more, overwritten_by_a_plain_one, broken])
def test_models_of_0_4_0_are_looked_up_once(accident, tmp_path):
    looked_up, never_looked_up = load(saved_by_0_4_0(tmp_path / "out")), load(tmp_path / "out")
    assert names_of(looked_up) == NEW
    accident(tmp_path / "out")
    assert names_of(looked_up) == NEW
    assert injection_record(looked_up).to_dict() == injection_record(pickle.loads(pickle.dumps(looked_up))).to_dict()
    before = never_looked_up.fc.weight.detach().clone()
    with pytest.raises(ArgumentValueError) as caught:
        add(never_looked_up, ["coyote"])
    assert str(caught.value).startswith(
        "Classes were injected into this model, as its labels show, but the record of them can't be found: "
        f"'{tmp_path / 'out'}', where it was loaded from, does not hold it now. Without it, rows that were predicted would count"
    ) or str(caught.value).startswith("The injection record does not fit this model: ")
    assert torch.equal(never_looked_up.fc.weight, before)


def test_a_relative_path_is_not_needed_after_a_change_of_directory(tmp_path, monkeypatch):
    saved(tmp_path / "new")
    saved_by_0_4_0(tmp_path / "old")
    monkeypatch.chdir(tmp_path)
    new, old = load("new"), load("old")
    monkeypatch.chdir("/")
    assert names_of(new) == NEW
    with pytest.raises(ArgumentValueError, match="the record of them can't be found: 'old', where it was loaded from"):
        injection_record(old)
    attach_record(old, tmp_path / "old")
    assert names_of(old) == NEW


def lost(folder: Path) -> nn.Module:
    """A model whose note is damaged and whose folder is gone."""
    model = load(saved(folder))
    note = own_note(model.pretrained_cfg)
    model.pretrained_cfg["notes"] = [f"{note[:-40]}"]
    shutil.rmtree(folder)
    return model


CALLS = {
    "inject": lambda model, _: add(model, ["coyote"]),
    "fit_mapper": lambda model, _: timm_inject.fit_mapper(model, encoder=WordEncoder(), mapper="wavg"),
    "self_score": lambda model, _: timm_inject.self_score(model, encoder=WordEncoder(), mapper="wavg"),
    "explain": lambda model, _: timm_inject.explain(model, "okapi"),
    "remove": lambda model, _: remove(model, ["okapi"]),
    "rename": lambda model, _: rename(model, {"okapi": "forest giraffe"}),
    "look_up": lambda model, _: timm_inject.look_up(model, ["coyote"]),
    "save_for_hf": save_for_hf,
    "injection_record": lambda model, _: injection_record(model),
    "push_to_hf_hub": lambda model, _: timm_inject.push_to_hf_hub(model, "alice/zoo", token="hf_x"),
    "classify": lambda model, _: timm_inject.classify(model, []),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_marker_without_its_record_is_refused_by_every_call(call, tmp_path):
    model = lost(tmp_path / "out")
    before = model.fc.weight.detach().clone()
    with pytest.raises(ArgumentValueError) as caught:
        CALLS[call](model, tmp_path / "other")
    assert str(caught.value) == (
        "Classes were injected into this model, its config says so (timm_inject: classes 10 to 11 were injected from their names "
        f"alone), but the record of them can't be found: '{tmp_path / 'out'}', where it was loaded from, does not hold it now. "
        "Without it, rows that were predicted would count as trained. Give it back: timm_inject.attach_record(model, FOLDER), with "
        "the folder or the Hub id that the model was saved to. If every row was trained on images, say so: "
        "timm_inject.attach_record(model, None)."
    )
    assert torch.equal(model.fc.weight, before)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("call", CALLS)
def test_a_record_of_other_rows_is_refused_by_every_call(call, tmp_path):
    model = patched()
    with torch.no_grad():
        model.fc.weight.mul_(1.01)
    with pytest.raises(ArgumentValueError, match="none of the rows of 'okapi', 'electric scooter' is as it was written"):
        CALLS[call](model, tmp_path / "other")


@pytest.mark.parametrize(
    "note", ["timm_inject: x; record ", "timm_inject: x; record AAAA", "timm_inject: x; record eJw=", "timm_inject: x; record é"]
)
def test_notes_from_strangers_are_data(note):
    assert read_note(note) is None
    model = make_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "notes": (note,)}
    with pytest.raises(ArgumentValueError, match="nothing says where it was saved"):
        add(model)


@pytest.mark.parametrize("notes", [None, (), [], "a text", ("natively QAT",), ["one", 3], 7, {"a": 1}])
def test_other_notes_are_let_be(notes):
    model = make_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "notes": notes}
    add(model)
    assert own_note(model.pretrained_cfg) is not None
    remove(model, NEW)
    assert own_note(model.pretrained_cfg) is None
    if isinstance(notes, list | tuple) and notes:
        assert model.pretrained_cfg["notes"] == notes
    assert find_record(model) is None


def test_timms_own_writer_keeps_the_record(tmp_path):
    model = patched()
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    loaded = load(tmp_path)
    assert injection_record(loaded) == injection_record(model)
    assert "2 injected classes" in write_card(tmp_path).read_text(encoding="utf-8")


def test_a_model_that_was_only_loaded_is_not_written_to(tmp_path):
    model = load(saved(tmp_path))
    config = copy.deepcopy(model.pretrained_cfg)
    injection_record(model)
    assert model.pretrained_cfg == config
    assert not hasattr(model, RECORD_ATTRIBUTE)


def test_plain_models_have_no_record_wherever_they_come_from(tmp_path):
    labels = {"label_names": NAMES, "label_descriptions": dict(zip(NAMES, NAMES, strict=True))}
    timm.models.save_for_hf(make_model("test_resnet"), str(tmp_path), model_config=dict(labels), safe_serialization=True)
    model = load(tmp_path)
    assert find_record(model) is None
    # Such labels might be those of an earlier version, so once the file is gone this one must be told.
    shutil.rmtree(tmp_path)
    with pytest.raises(ArgumentValueError, match="as its labels show"):
        find_record(model)
    assert attach_record(model, None) is None
    assert find_record(model) is None
    unlabelled = make_model("test_resnet")
    unlabelled.pretrained_cfg = {**unlabelled.pretrained_cfg, "source": "local-dir", "file": str(tmp_path)}
    assert find_record(unlabelled) is None


# --- records of 0.4.0 ------------------------------------------------------------------------------------------------


def test_a_model_of_0_4_0_goes_on(tmp_path):
    model = load(saved_by_0_4_0(tmp_path / "old"))
    record = injection_record(model)
    assert record.classes[0].lemmas == ("okapi", "Okapia johnstoni")
    assert (record.classes[0].rounded_hashes, record.seen_labels, record.seen_hash) == ((), (), None)
    before = model.fc.weight.detach().clone()
    add(model, ["coyote"])
    assert torch.equal(model.fc.weight[:12], before)
    assert names_of(model) == [*NEW, "coyote"]
    again = load(save_for_hf(model, tmp_path / "new"))
    assert injection_record(again) == injection_record(model)
    remove(again, names_of(again))
    assert torch.equal(again.fc.weight, before[:10])
    assert again.pretrained_cfg["label_names"] == NAMES
    assert "label_descriptions" not in again.pretrained_cfg


def test_a_model_of_0_4_0_in_half_precision_keeps_its_record(tmp_path):
    """That version did not write down what its rows are in half precision."""
    model = load(saved_by_0_4_0(tmp_path)).half()
    with torch.no_grad():
        model.fc.weight += 0.001
    assert names_of(model) == NEW


# --- the rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtypes", [["half"], ["bfloat16"], ["double"], ["half", "float"], ["bfloat16", "float"], ["bfloat16", "half"]]
)
def test_rows_are_known_in_every_precision(dtypes, tmp_path):
    model = load(saved(tmp_path))
    for dtype in dtypes:
        getattr(model, dtype)()
    assert not any(entry.changed for entry in injection_record(model).classes)
    if "double" not in dtypes:
        with torch.no_grad():
            model.fc.weight[10:] += 0.25
            model.fc.weight[0] += 0.25
        with pytest.raises(ArgumentValueError, match="none of the rows"):
            injection_record(model)


@pytest.mark.parametrize("architecture", ["test_resnet", "dla46_c", "deit_tiny_distilled_patch16_224"])
def test_heads_of_every_kind_are_held_against_the_record(architecture):
    options = {"depth": 1} if architecture.startswith("deit") else {}
    model = add(make_model(architecture, **options))
    assert names_of(model) == NEW
    layer = model.get_classifier()
    layer = layer[-1] if isinstance(layer, tuple) else layer
    with torch.no_grad():
        layer.weight[10:] += 1
        layer.bias[0] += 1
    with pytest.raises(ArgumentValueError, match="none of the rows"):
        injection_record(model)


def test_edited_rows_are_marked_as_long_as_others_are_as_written(tmp_path):
    one, both = patched(), patched()
    with torch.no_grad():
        one.fc.bias[11] += 1
        both.fc.bias[10:] += 1  # the seen rows say whose record it is
    assert [entry.changed for entry in injection_record(one).classes] == [False, True]
    assert [entry.changed for entry in injection_record(both).classes] == [True, True]
    save_for_hf(one, tmp_path)
    assert [entry.changed for entry in injection_record(load(tmp_path)).classes] == [False, True]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert r"**electric scooter**: its row was changed after it was predicted, by further training or by hand" in card
    assert "**okapi**: its row was changed" not in card
    bias = one.fc.bias[11].item()
    add(one, ["coyote"])
    assert one.fc.bias[11].item() == bias


def test_a_head_that_was_replaced_is_told_by_its_count_or_its_rows(tmp_path):
    model = load(saved(tmp_path))
    model.reset_classifier(5)
    assert find_record(model) is None
    with pytest.raises(ArgumentValueError, match="nothing was injected, or its head was replaced since"):
        injection_record(model)
    model.reset_classifier(12)
    with pytest.raises(ArgumentValueError) as caught:
        add(model, ["coyote"])
    assert str(caught.value) == (
        "The injection record does not fit this model: none of the rows of 'okapi', 'electric scooter' is as it was written. They "
        "were trained further, the head was replaced, or the weights are another model's. If every row was trained on images, say "
        "so: timm_inject.attach_record(model, None). If the record is still true of the classes, keep it: "
        "timm_inject.attach_record(model, model.pretrained_cfg, rows_changed=True)."
    )
    assert find_record(timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5)) is None


def test_random_weights_are_not_taken_for_injected_rows(tmp_path):
    saved(tmp_path)
    with pytest.raises(ArgumentValueError, match="none of the rows"):
        injection_record(timm.create_model(f"local-dir:{tmp_path}"))


def test_rows_that_were_cut_off_by_hand_are_noticed():
    model = patched()
    model.fc.weight, model.fc.bias = (nn.Parameter(each[:11].detach().clone()) for each in (model.fc.weight, model.fc.bias))
    model.fc.out_features = model.num_classes = 11
    with pytest.raises(ArgumentValueError) as caught:
        add(model, ["coyote"])
    assert str(caught.value).startswith(
        "The injection record does not fit this model: it is of 12 classes, the head has 11, and rows that were injected are still "
        "among them ('okapi'). Take classes out with `remove`, not by hand; load the model again."
    )


def test_labels_that_are_others_are_told():
    model = patched()
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": [*NAMES, "Okapi", "Elektroroller"]}
    with pytest.raises(ArgumentValueError) as caught:
        injection_record(model)
    assert str(caught.value).startswith(
        "The injection record does not fit this model: 'electric scooter' is labelled 'Elektroroller'. Call classes something else "
        "with `rename`, or put the labels back."
    )
    with torch.no_grad():
        model.fc.weight.mul_(2)
    with pytest.raises(ArgumentValueError, match="neither the rows nor the labels of 'okapi', 'electric scooter' are there"):
        injection_record(model)


def test_a_head_that_has_no_values_keeps_its_record():
    """Nor can the rows of a quantised or sharded one be read, so labels and count have to do."""
    model = patched()
    model.fc.to("meta")
    assert names_of(model) == NEW


# --- any order of calls ----------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(["copy", "pickle", "save", "save by timm", "half and back", "inject", "rename", "remove", "delete folder"]),
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_the_record_follows_the_model_through_any_life(steps, tmp_path_factory):
    model, expected, rest = patched(), list(NEW), ["coyote", "walrus", "ibex", "tapir", "quokka", "numbat"]
    folder = tmp_path_factory.mktemp("life")
    for number, step in enumerate(steps):
        place = folder / str(number)
        if step == "copy":
            model = copy.deepcopy(model)
        elif step == "pickle":
            model = pickle.loads(pickle.dumps(model))
        elif step == "save":
            model = load(save_for_hf(model, place))
        elif step == "save by timm":
            timm.models.save_for_hf(model, str(place), safe_serialization=True)
            model = load(place)
        elif step == "half and back":
            model = model.bfloat16().float()
        elif step == "inject":
            expected.append(rest.pop())
            add(model, expected[-1:])
        elif step == "rename" and expected:
            renamed = f"{expected[0]} again"
            rename(model, {expected[0]: renamed})
            expected[0] = renamed
        elif step == "remove" and expected:
            remove(model, [expected.pop()])
        elif step == "delete folder":
            shutil.rmtree(folder)
            folder.mkdir()
    record = find_record(model)
    assert [entry.name for entry in record.classes] == expected if expected else record is None
    assert model.num_classes == 10 + len(expected)
    assert model.pretrained_cfg["label_names"] == [*NAMES, *expected]
