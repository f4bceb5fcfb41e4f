"""Giving a model its record where its weights came without it."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from tests.helpers import NAMES, WordEncoder, make_model, snapshot
from timm_inject import (
    ArgumentTypeError,
    ArgumentValueError,
    InjectionRecord,
    attach_record,
    inject,
    injection_record,
    remove,
    save_for_hf,
)
from timm_inject.injected import CONFIG_KEY, find_record

NEW = ["okapi", "electric scooter"]


@pytest.fixture
def folder(tmp_path) -> Path:
    model = make_model("test_resnet")
    inject(model, NEW, encoder=WordEncoder(), mapper="wavg")
    return save_for_hf(model, tmp_path / "model")


def bare(folder: Path) -> nn.Module:
    """As from a checkpoint: the rows, and timm's config of the architecture."""
    model = timm.create_model("test_resnet", num_classes=12).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


def as_given(folder: Path) -> dict[str, object]:
    config = json.loads((folder / "config.json").read_text())
    return {
        "path": folder,
        "text": str(folder),
        "as timm takes it": f"local-dir:{folder}",
        "record": InjectionRecord.from_dict(config[CONFIG_KEY]),
        "dictionary": config[CONFIG_KEY],
        "config": config,
        "config of a model": timm.create_model(f"local-dir:{folder}", pretrained=True).pretrained_cfg,
    }


@pytest.mark.parametrize("kind", ["path", "text", "as timm takes it", "record", "dictionary", "config", "config of a model"])
def test_a_bare_state_dict_gets_record_and_labels(folder, kind):
    model = bare(folder)
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    record = attach_record(model, as_given(folder)[kind])
    assert record == injection_record(model) == injection_record(timm.create_model(f"local-dir:{folder}", pretrained=True))
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == before
    assert model.pretrained_cfg["label_names"] == [*NAMES, *NEW]
    inject(model, ["coyote"], encoder=WordEncoder(), mapper="wavg")
    assert [entry.index for entry in injection_record(model).classes] == [10, 11, 12]
    remove(model, [*NEW, "coyote"])
    assert torch.equal(model.fc.weight, make_model("test_resnet").fc.weight)


def test_checkpoint_path_and_a_module_around_the_model(folder, tmp_path):
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "last.pth")
    model = timm.create_model("test_resnet", num_classes=12, checkpoint_path=str(tmp_path / "last.pth"))
    assert find_record(model) is None
    attach_record(nn.DataParallel(model), folder)
    assert [entry.name for entry in injection_record(model).classes] == NEW


def test_labels_of_ids_come_back_with_a_record_alone():
    model = make_model("test_resnet")
    del model.pretrained_cfg["label_names"]
    ids = [
        "n01440764",
        "n01443537",
        "n01484850",
        "n01491361",
        "n01494475",
        "n01496331",
        "n01498041",
        "n01514668",
        "n01514859",
        "n02012849",
    ]
    inject(model, NEW, seen_class_names=ids, encoder=WordEncoder(), mapper="wavg")
    other = timm.create_model("test_resnet", num_classes=12).eval()
    other.load_state_dict(model.state_dict())
    attach_record(other, injection_record(model))
    assert other.pretrained_cfg["label_names"] == model.pretrained_cfg["label_names"]
    assert other.pretrained_cfg["label_names"][0] == "tench, Tinca tinca"


def test_trained_rows_keep_their_record_where_that_is_asked(folder):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    with torch.no_grad():
        model.fc.weight.mul_(1.5)
    before = snapshot(model)
    with pytest.raises(ArgumentValueError) as caught:
        attach_record(model, folder)
    assert str(caught.value).endswith("Pass `rows_changed=True` if the rows were trained further and the record still holds.")
    assert snapshot(model) == before
    attach_record(model, folder, rows_changed=True)
    assert [(entry.name, entry.changed, entry.row_hash) for entry in injection_record(model).classes] == [
        ("okapi", True, None),
        ("electric scooter", True, None),
    ]
    again = timm.create_model(f"local-dir:{save_for_hf(model, folder)}", pretrained=True)
    assert all(entry.changed for entry in injection_record(again).classes)


def test_none_says_that_every_row_was_trained(folder):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    with torch.no_grad():
        model.fc.weight.mul_(1.5)
    assert attach_record(model, None) is None
    assert find_record(model) is None
    inject(model, ["coyote"], encoder=WordEncoder(), mapper="wavg")
    assert injection_record(model).num_seen == 12
    remove(model, ["coyote"])
    assert find_record(model) is None  # though the folder has a record of as many classes
    loaded = timm.create_model(f"local-dir:{save_for_hf(model, folder)}", pretrained=True)
    assert find_record(loaded) is None
    assert loaded.pretrained_cfg["label_names"] == [*NAMES, *NEW]


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "{}", '{"timm_inject": 3}', '{"timm_inject": {"format": 9}}', "[" * 100_000]
)
def test_what_holds_no_record_is_told_and_nothing_changes(tmp_path, folder, content):
    (tmp_path / "other").mkdir()
    if content is not None:
        (tmp_path / "other" / "config.json").write_text(content)
    model = bare(folder)
    before = snapshot(model)
    with pytest.raises(ArgumentValueError):
        attach_record(model, tmp_path / "other")
    assert snapshot(model) == before


MISTAKES = [
    (3, ArgumentTypeError, "`folder_or_repo` must be a folder, a Hub id, a record or None, got int."),
    ({"label_names": []}, ArgumentValueError, "There is no injection record in the config: the model there holds no injected"),
    (Path("/no/such/folder"), ArgumentValueError, "The folder '/no/such/folder' does not exist. Give the one that the model was"),
    ("local-dir:nowhere", ArgumentValueError, "The folder 'nowhere' does not exist."),
]


@pytest.mark.parametrize(("source", "error", "message"), MISTAKES)
def test_mistakes_are_told(folder, source, error, message):
    with pytest.raises(error) as caught:
        attach_record(bare(folder), source)
    assert str(caught.value).startswith(message)


def test_a_record_of_another_head_is_refused(folder):
    model = make_model("test_resnet")
    with pytest.raises(ArgumentValueError, match=r"it is of 12 classes, the head has 10\."):
        attach_record(model, folder)
    other = timm.create_model("test_resnet", num_classes=12)
    with pytest.raises(ArgumentValueError, match="none of the rows of 'okapi', 'electric scooter' is as it was written"):
        attach_record(other, folder)
    assert find_record(other) is None
