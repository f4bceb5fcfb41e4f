"""Saving, the record, the card and the reload without the plugin."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data.dataset_info import CustomDatasetInfo

from tests.helpers import NAMES, WordEncoder
from timm_inject import ArgumentValueError, InjectionWarning, SaveError, inject, injection_record, remove, save_for_hf
from timm_inject.injected import CONFIG_KEY, find_record

NEW = ["okapi", "electric scooter"]


def test_round_trip_with_plain_timm(patched, tmp_path):
    save_for_hf(patched, tmp_path / "model")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    assert loaded.num_classes == 12
    assert loaded.pretrained_cfg["label_names"] == [*NAMES, *NEW]
    assert set(loaded.pretrained_cfg["label_descriptions"]) == {*NAMES, *NEW}
    for key, value in patched.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded(images), patched(images))
    assert injection_record(loaded) == injection_record(patched)
    inject(loaded, ["coyote"], encoder=WordEncoder(), mapper="ridge")
    assert [entry.name for entry in injection_record(loaded).classes] == [*NEW, "coyote"]


def test_reload_where_timm_inject_is_not_importable(patched, tmp_path):
    save_for_hf(patched, tmp_path)
    code = (
        "import sys; sys.modules['timm_inject'] = None; import timm, torch; from safetensors.torch import save_file; "
        "m = timm.create_model('local-dir:' + sys.argv[1], pretrained=True).eval(); "
        "x = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64); "
        "save_file({'logits': m(x).detach()}, sys.argv[1] + '/logits.st')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    images = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
    assert torch.equal(load_file(tmp_path / "logits.st")["logits"], patched(images))


def test_folder_holds_safetensors_config_and_card_only(patched, tmp_path):
    config = {"note": "mine"}
    save_for_hf(patched, tmp_path, model_config=config)
    assert config == {"note": "mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors", "timm_inject.png"}
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["note"] == "mine"
    assert written[CONFIG_KEY]["num_seen"] == 10


def test_existing_readme_is_kept(patched, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    save_for_hf(patched, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_card_of_ours_is_replaced_until_somebody_changes_it(patched, tmp_path):
    save_for_hf(patched, tmp_path)
    inject(patched, ["coyote"], encoder=WordEncoder(), mapper="ridge")
    save_for_hf(patched, tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "3 injected classes" in card
    (tmp_path / "README.md").write_text(card.replace("coyote", "prairie wolf"), encoding="utf-8")
    save_for_hf(patched, tmp_path)
    assert "prairie wolf" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_no_card_stays_that_speaks_of_classes_that_are_gone(patched, tmp_path):
    save_for_hf(patched, tmp_path)
    remove(patched, NEW)
    save_for_hf(patched, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    for name in ("README.md", "timm_inject.png"):
        (tmp_path / name).write_text("mine")
    save_for_hf(patched, tmp_path)
    assert (tmp_path / "README.md").read_text() == (tmp_path / "timm_inject.png").read_text() == "mine"


def test_labels_are_shown_as_timms_inference_script_reads_them(patched, tmp_path):
    save_for_hf(patched, tmp_path)
    config = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).pretrained_cfg
    info = CustomDatasetInfo(label_names=config["label_names"], label_descriptions=config["label_descriptions"])
    assert info.num_classes() == config["num_classes"] == 12
    assert [info.index_to_label_name(index) for index in (0, 10, 11)] == [NAMES[0], *NEW]
    assert [info.index_to_description(index) for index in (0, 10, 11)] == [NAMES[0], *NEW]


def own_head(model):
    model.fc = torch.nn.Sequential(torch.nn.BatchNorm1d(512), torch.nn.Linear(512, 10))


def no_bias(model):
    model.fc = torch.nn.Linear(512, 10, bias=False)


def own_architecture(model):
    model.pretrained_cfg = {**model.pretrained_cfg, "architecture": "mine"}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (own_head, "9 tensors are not those of timm's 'resnet10t': 'fc.0.weight', 'fc.0.bias', "),
        (no_bias, "1 tensors are not those of timm's 'resnet10t': 'fc.bias'. Save the model without the change"),
        (own_architecture, "it can't build the model from its config (RuntimeError: Unknown model (mine)"),
    ],
)
def test_what_plain_timm_will_not_load_is_told(small_model, tmp_path, change, difference):
    change(small_model)
    inject(small_model, NEW, encoder=WordEncoder(), mapper="ridge")
    with pytest.warns(InjectionWarning) as caught:
        save_for_hf(small_model, tmp_path)
    (text,) = (str(entry.message) for entry in caught)
    assert text.startswith(f"timm.create_model will not load what was saved: {difference}")
    assert caught[0].filename == __file__
    with pytest.raises(RuntimeError):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_the_config_fits_transformers(patched, tmp_path):
    """TimmWrapper passes num_classes itself and takes no second one from `model_args`."""
    save_for_hf(patched, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["num_classes"] == 12
    assert "num_classes" not in config["model_args"]


def test_data_config_and_model_args_reach_timm(patched, tmp_path):
    save_for_hf(patched, tmp_path, model_args={"drop_rate": 0.1}, data_config={"crop_pct": 0.5})
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_args"]["drop_rate"] == 0.1
    assert config["pretrained_cfg"]["crop_pct"] == 0.5


def test_a_failed_save_leaves_the_old_files(patched, tmp_path, monkeypatch):
    save_for_hf(patched, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("timm.models.save_for_hf", full_disk)
    with pytest.raises(SaveError, match="No space left on device"):
        save_for_hf(patched, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unwritable_folder_is_told(patched, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError) as caught:
        save_for_hf(patched, tmp_path / "file" / "model")
    assert str(caught.value).startswith(f"The model could not be saved to '{tmp_path / 'file' / 'model'}': ")
    assert str(caught.value).endswith("Choose a folder that you can write to.")


def test_a_model_without_injected_classes_is_saved_and_has_no_record(small_model, tmp_path):
    save_for_hf(small_model, tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert find_record(loaded) is None
    with pytest.raises(ArgumentValueError, match="This model holds no injected classes"):
        injection_record(loaded)
