"""Remove and rename."""

import copy

import pytest
import torch
from timm.data.dataset_info import CustomDatasetInfo

from tests.helpers import NAMES, NEW, WordEncoder, bits_of, reload, same_bits
from timm_inject import ArgumentTypeError, ArgumentValueError, ClassNameError, inject, injection_record, remove, rename
from timm_inject.injected.record import find_record


@pytest.mark.parametrize("with_labels", [True, False])
def test_removing_all_gives_back_the_original(with_labels, small_model, tmp_path):
    if not with_labels:
        small_model.pretrained_cfg = {key: v for key, v in small_model.pretrained_cfg.items() if key != "label_names"}
    names = {} if with_labels else {"seen_class_names": NAMES}
    original, config = bits_of(small_model), copy.deepcopy(small_model.pretrained_cfg)
    inject(small_model, NEW, encoder=WordEncoder(), **names, mapper="ridge")
    loaded = reload(small_model, tmp_path)
    for model in (small_model, loaded):
        head = remove(model, NEW)
        assert head is model.get_classifier()
        assert same_bits(bits_of(model), original)
        assert model.num_classes == 10
        assert find_record(model) is None
    assert small_model.pretrained_cfg == config
    assert loaded.pretrained_cfg.get("label_names") == config.get("label_names")
    again = reload(loaded, tmp_path / "again")
    assert same_bits(bits_of(again), original)
    assert find_record(again) is None


def test_removing_one_keeps_the_other_rows_labels_and_order(small_model):
    inject(small_model, NEW, encoder=WordEncoder(), mapper="ridge")
    before = bits_of(small_model)
    remove(small_model, ["Electric-Scooter"])
    kept = [*range(11), 12]
    assert torch.equal(small_model.fc.weight, before["fc.weight"][kept])
    assert torch.equal(small_model.fc.bias, before["fc.bias"][kept])
    assert [(entry.name, entry.index) for entry in injection_record(small_model).classes] == [("okapi", 10), ("coyote", 11)]
    assert small_model.pretrained_cfg["label_names"] == [*NAMES, "okapi", "coyote"]
    assert "electric scooter" not in small_model.pretrained_cfg["label_descriptions"]


def test_rename_changes_words_alone(small_model, tmp_path):
    inject(small_model, NEW, encoder=WordEncoder(), mapper="ridge")
    twin = copy.deepcopy(small_model)
    before = bits_of(small_model)
    rename(small_model, {"okapi": "forest giraffe", "coyote": "okapi"})
    assert same_bits(bits_of(small_model), before)
    loaded = reload(small_model, tmp_path)
    for model in (small_model, loaded):
        assert [entry.name for entry in injection_record(model).classes] == ["forest giraffe", "electric scooter", "okapi"]
        assert model.pretrained_cfg["label_names"] == [*NAMES, "forest giraffe", "electric scooter", "okapi"]
        assert set(model.pretrained_cfg["label_descriptions"]) == set(model.pretrained_cfg["label_names"])
    # A later injection embeds the texts as they were.
    for model in (loaded, twin):
        inject(model, ["red panda"], encoder=WordEncoder(), mapper="ridge")
    assert same_bits(bits_of(loaded), bits_of(twin))


@pytest.mark.parametrize(
    "names",
    [
        {"okapi": "coyote", "coyote": "okapi"},
        {"okapi": "Okapi"},
        {"okapi": "electric scooter", "electric scooter": "coyote", "coyote": "okapi"},
    ],
)
def test_names_may_swap_and_every_label_keeps_a_description(small_model, names):
    inject(small_model, NEW, encoder=WordEncoder(), mapper="ridge")
    rename(small_model, names)
    new = [names.get(name, name) for name in NEW]
    assert [entry.name for entry in injection_record(small_model).classes] == new
    config = small_model.pretrained_cfg
    assert config["label_names"] == [*NAMES, *new]
    assert {label: config["label_descriptions"][label] for label in new} == dict(zip(new, new, strict=True))
    # timm's own reader of labels, as its inference script uses it, refuses a label without a description.
    info = CustomDatasetInfo(config["label_names"], config["label_descriptions"])
    assert [info.index_to_description(index) for index in range(10, 13)] == new


BAD = [
    (remove, "okapi", ArgumentTypeError, "`names` must be a list of names, got str. Write ['okapi'] for a single class."),
    (remove, 3, ArgumentTypeError, "`names` must be a list of names, got int."),
    (remove, [3], ArgumentTypeError, "`names` must hold strings only, got 3."),
    (remove, [], ArgumentValueError, "`names` is empty. The record, `injection_record(model)`, has the names to choose from."),
    (
        remove,
        ["okapi", "okapie", "zebra"],
        ClassNameError,
        "2 of 3 classes cannot be removed, as they were not injected: 'okapie', 'zebra'. Did you mean 'okapi'? "
        "Injected: 'okapi', 'electric scooter', 'coyote'. Original classes stay as they are.",
    ),
    (remove, ["okapi", "Okapi"], ClassNameError, "Classes are named twice: 'okapi', 'Okapi'. Name each once."),
    (rename, ["okapi"], ArgumentTypeError, "`names` must be a mapping old name -> new name, got list."),
    (rename, {"okapi": "zebra"}, ClassNameError, "1 of 1 new names cannot be given: 'zebra' is already seen class 6."),
    (rename, {"okapi": "coyote"}, ClassNameError, "1 of 1 new names cannot be given: 'coyote' is already injected class 12."),
    (rename, {"zebra": "striped horse"}, ClassNameError, "1 of 1 classes cannot be renamed, as they were not injected: 'zebra'."),
]


@pytest.mark.parametrize(("change", "names", "error", "message"), BAD)
def test_mistakes_change_nothing(small_model, change, names, error, message):
    inject(small_model, NEW, encoder=WordEncoder(), mapper="ridge")
    before, record = bits_of(small_model), injection_record(small_model)
    with pytest.raises(error) as caught:
        change(small_model, names)
    assert str(caught.value).startswith(message)
    assert same_bits(bits_of(small_model), before)
    assert injection_record(small_model) == record


def test_a_strangers_record_sets_nothing_but_labels(small_model):
    """`remove` puts the labels of the record back into the config, which says where timm loads from."""
    inject(small_model, NEW, encoder=WordEncoder(), mapper="ridge")
    small_model.timm_inject_record["original_labels"] |= {"url": "http://evil.example/x.pth", "num_classes": 5, "source": "url"}
    before = small_model.pretrained_cfg
    remove(small_model, NEW)
    assert small_model.pretrained_cfg["label_names"] == NAMES
    assert small_model.num_classes == small_model.pretrained_cfg["num_classes"] == 10
    for key in ("url", "source"):
        assert small_model.pretrained_cfg.get(key) == before.get(key)


def test_nothing_to_remove(small_model):
    with pytest.raises(ArgumentValueError, match="This model holds no injected classes"):
        remove(small_model, ["okapi"])


def test_a_replaced_head_has_no_record(small_model):
    inject(small_model, NEW, encoder=WordEncoder(), mapper="ridge")
    small_model.reset_classifier(5)
    assert find_record(small_model) is None
