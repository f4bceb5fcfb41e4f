"""A mapper that is trained once, saved, loaded and used by many injections."""

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import NAMES, NEW, WordEncoder, bits_of, make_model, make_small_model, needs_offline, same_bits
from timm_inject import ArgumentTypeError, MapperError, SaveError, TrainedMapper, fit_mapper, inject, injection_record, save_for_hf
from timm_inject.hub.trained_mapper import _hash_tensors
from timm_inject.mappers.registry import MAPPERS


@pytest.fixture
def trained(small_model):
    return fit_mapper(small_model, encoder=WordEncoder(), mapper="kernel-ridge")


@pytest.mark.parametrize("mapper", [name for name in MAPPERS if not MAPPERS[name].uses_unseen_descriptors])
@pytest.mark.parametrize("calibration", ["balanced", None])
def test_same_bits_as_by_name(small_model, tmp_path, monkeypatch, mapper, calibration):
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    by_name, by_object, original = copy.deepcopy(small_model), copy.deepcopy(small_model), bits_of(small_model)
    trained = fit_mapper(small_model, encoder=WordEncoder(), mapper=mapper)
    assert same_bits(bits_of(small_model), original)
    trained.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "mapper.safetensors"}
    inject(by_name, NEW, encoder=WordEncoder(), mapper=mapper, calibration=calibration)
    inject(by_object, NEW, encoder=WordEncoder(), mapper=trained, calibration=calibration)
    inject(small_model, NEW, encoder=WordEncoder(), mapper=str(tmp_path), calibration=calibration)
    assert same_bits(bits_of(by_object), bits_of(by_name))
    assert same_bits(bits_of(small_model), bits_of(by_name))
    assert injection_record(small_model) == injection_record(by_name)


def test_one_mapper_a_layer(tmp_path):
    model = make_small_model("deit_tiny_distilled_patch16_224")
    by_name = copy.deepcopy(model)
    fit_mapper(model, encoder=WordEncoder(), mapper="ridge").save_pretrained(tmp_path)
    assert TrainedMapper.from_pretrained(tmp_path).facts.layers == ("head", "head_dist")
    inject(by_name, NEW, encoder=WordEncoder(), mapper="ridge")
    inject(model, NEW, encoder=WordEncoder(), mapper=tmp_path)
    assert same_bits(bits_of(model), bits_of(by_name))


def test_the_seen_texts_are_not_encoded_again(small_model, trained, monkeypatch):
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    sentences = []

    class Counting(WordEncoder):
        def encode(self, texts):
            sentences.extend(texts)
            return super().encode(texts)

    inject(small_model, NEW, encoder=Counting(), mapper=trained)
    # Only the first classes are, to know the encoder again.
    assert any("tabby" in text for text in sentences)
    assert not any("school bus" in text or "fire truck" in text for text in sentences)
    assert any("okapi" in text for text in sentences)


def test_it_serves_the_next_injection_and_a_model_with_injected_classes(small_model, trained):
    by_name = copy.deepcopy(small_model)
    inject(small_model, NEW[:1], encoder=WordEncoder(), mapper=trained)
    inject(small_model, NEW[1:], encoder=WordEncoder(), mapper=trained)
    inject(by_name, NEW, encoder=WordEncoder(), mapper="kernel-ridge")
    assert same_bits(bits_of(small_model), bits_of(by_name))
    again = fit_mapper(small_model, encoder=WordEncoder(), mapper="kernel-ridge")
    assert again.facts == trained.facts


@needs_offline
def test_real_weights(packaged_model, tmp_path):
    by_name = copy.deepcopy(packaged_model)
    fit_mapper(packaged_model, mapper="ridge").save_pretrained(tmp_path)
    inject(by_name, ["dahlia"], mapper="ridge")
    inject(packaged_model, ["dahlia"], mapper=str(tmp_path))
    assert same_bits(bits_of(packaged_model), bits_of(by_name))


class _Negated(WordEncoder):
    def encode(self, sentences):
        return -super().encode(sentences)


def _train(model):
    with torch.no_grad():
        model.fc.weight[3, 7] += 1e-4


REFUSED = [
    (
        _train,
        {},
        "The mapper was trained for other weights (of 'timm/resnet10t.c3_in1k'): the rows of this model's classifier are not those "
        "that it learned from. Train one for it: `timm_inject.fit_mapper(model)`.",
    ),
    (
        lambda model: None,
        {"encoder": _Negated()},
        "The mapper was trained with the encoder 'tests.helpers.WordEncoder', and 'tests.hub.test_trained_mapper._Negated' gives "
        "other descriptors. Pass `encoder='tests.helpers.WordEncoder'` if you trust it, or train a mapper for yours.",
    ),
    (lambda model: None, {"encoder": WordEncoder(16)}, "The mapper was trained with the encoder 'tests.helpers.WordEncoder'"),
    (
        lambda model: None,
        {"descriptions": None},
        "The mapper was trained with other names or descriptions of the seen classes. Pass the `seen_class_names` and "
        "`descriptions` that it was trained with, or train one for these: `timm_inject.fit_mapper(model, ...)`.",
    ),
    (lambda model: None, {"seed": 1}, "The mapper was trained with seed 0, `inject` was called with 1. Pass `seed=0`."),
]


@pytest.mark.parametrize(("change", "options", "message"), REFUSED)
def test_what_it_was_not_trained_for_is_refused(small_model, trained, change, options, message):
    change(small_model)
    before = bits_of(small_model)
    with pytest.raises(MapperError) as caught:
        inject(small_model, NEW, **{"encoder": WordEncoder(), "mapper": trained, **options})
    assert str(caught.value).startswith(message)
    assert same_bits(bits_of(small_model), before)


def test_another_head_is_refused(trained):
    other = make_model(num_classes=4)
    with pytest.raises(MapperError) as caught:
        inject(other, NEW, encoder=WordEncoder(), mapper=trained)
    assert str(caught.value).startswith(
        "The mapper was trained for 'timm/resnet10t.c3_in1k' with 10 classes at fc; this head has 4 at "
    )


def test_own_description_of_a_new_class_is_fine(small_model, trained):
    inject(small_model, {"okapi": "a striped relative of the giraffe"}, encoder=WordEncoder(), mapper=trained)
    assert injection_record(small_model).classes[0].description_source == "user"


def _edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config["timm_inject_mapper"] |= changes
    (folder / "config.json").write_text(json.dumps(config))


def _edit_tensors(folder, change):
    tensors = load_file(folder / "mapper.safetensors")
    change(tensors)
    save_file(tensors, folder / "mapper.safetensors")
    _edit(folder, tensors=_hash_tensors(tensors))


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


HOSTILE = {
    "config is no JSON": lambda f: (f / "config.json").write_text("{"),
    "config is a list": lambda f: (f / "config.json").write_text("[]"),
    "config is deep": lambda f: (f / "config.json").write_text("[" * 100_000),
    "facts are a list": lambda f: (f / "config.json").write_text('{"timm_inject_mapper": []}'),
    "another format": lambda f: _edit(f, format=99),
    "the format before": lambda f: _edit(f, format=1),
    "unknown mapper": lambda f: _edit(f, mapper="os.system"),
    "mapper is no text": lambda f: _edit(f, mapper=["icis"]),
    "seed is no number": lambda f: _edit(f, seed="0"),
    "huge count": lambda f: _edit(f, num_seen=10**18),
    "infinite probe": lambda f: _edit(f, probe="x"),
    "many layers": lambda f: _edit(f, layers=["fc"] * 10_000),
    "no layer": lambda f: _edit(f, layers=[], rows=[]),
    "path as a layer": lambda f: _edit(f, layers=["../../etc"], rows=["x"] * 2),
    "pickle for tensors": lambda f: (f / "mapper.safetensors").write_bytes(pickle.dumps(_Evil())),
    "no tensors": lambda f: (f / "mapper.safetensors").unlink(),
    "half a file": lambda f: (f / "mapper.safetensors").write_bytes((f / "mapper.safetensors").read_bytes()[:5000]),
    "header of a huge length": lambda f: (f / "mapper.safetensors").write_bytes(b"\xff" * 8 + b"{}"),
    "another file's tensors": lambda f: save_file({"descriptors": torch.zeros(10, 32)}, f / "mapper.safetensors"),
    "a tensor is missing": lambda f: _edit_tensors(f, lambda t: t.pop("layer0/crossfit/rows")),
    "a mapper's tensor is missing": lambda f: _edit_tensors(f, lambda t: t.pop("layer0/mapper/coefficients")),
    "other shapes": lambda f: _edit_tensors(f, lambda t: t.update({"layer0/mapper/coefficients": torch.zeros(3, 3)})),
    "not finite": lambda f: _edit_tensors(f, lambda t: t["layer0/mapper/mean_row"].fill_(float("nan"))),
    "descriptors of another width": lambda f: _edit_tensors(f, lambda t: t.update({"descriptors": torch.zeros(10, 2)})),
}


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE)
def test_hostile_or_damaged_files_are_refused(small_model, trained, tmp_path, damage):
    trained.save_pretrained(tmp_path)
    damage(tmp_path)
    before = bits_of(small_model)
    with pytest.raises(MapperError) as caught:
        inject(small_model, NEW, encoder=WordEncoder(), mapper=str(tmp_path))
    assert str(caught.value).startswith(f"The mapper in '{tmp_path}' cannot be used: ")
    assert str(caught.value).endswith(
        "It takes the config.json and mapper.safetensors that `save_pretrained` of this version wrote."
    )
    assert same_bits(bits_of(small_model), before)


def test_what_the_mapper_may_be(small_model, tmp_path):
    for value, error, text in [
        (3, ArgumentTypeError, "`mapper` must be a name from the registry, got int. A mapper of `fit_mapper`, its folder or its"),
        (tmp_path / "none", MapperError, f"The folder '{tmp_path / 'none'}' does not exist."),
        ("./none", MapperError, "The folder './none' does not exist. Give one that `save_pretrained` wrote, or a Hub id."),
        (str(tmp_path), MapperError, f"The mapper in '{tmp_path}' cannot be used: FileNotFoundError"),
        ("icsi", MapperError, "There is no mapper 'icsi'. Did you mean 'icis'?"),
        ("a/b/c", MapperError, "There is no mapper 'a/b/c': it is neither a registry name, a folder, nor a repository"),
    ]:
        with pytest.raises(error) as caught:
            inject(small_model, NEW, encoder=WordEncoder(), mapper=value)
        assert str(caught.value).startswith(text)
    with pytest.raises(MapperError, match="There is no mapper 'icsi'"):
        fit_mapper(small_model, mapper="icsi")
    with pytest.raises(ArgumentTypeError, match="`mapper` must be a name from the registry, got int"):
        fit_mapper(small_model, mapper=3)


def test_a_folder_that_cannot_be_made_is_told(trained, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SaveError) as caught:
            trained.save_pretrained(folder)
        assert str(caught.value).startswith(f"The mapper could not be saved to '{folder}': ")


def test_a_models_folder_is_not_taken_for_the_mapper(small_model, trained, tmp_path):
    save_for_hf(small_model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SaveError) as caught:
        trained.save_pretrained(tmp_path)
    assert str(caught.value) == (
        f"The mapper was not saved: '{tmp_path / 'config.json'}' belongs to something else, such as a model, and would be "
        "replaced. Choose another folder."
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failed_save_leaves_the_old_mapper(trained, tmp_path, monkeypatch):
    trained.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("timm_inject.hub.trained_mapper.save_file", full_disk)
    with pytest.raises(SaveError, match="No space left on device"):
        trained.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_classes_have_a_mapper_too(small_model):
    small_model.reset_classifier(2)
    small_model.pretrained_cfg = {**small_model.pretrained_cfg, "num_classes": 2, "label_names": NAMES[:2]}
    by_name = copy.deepcopy(small_model)
    trained = fit_mapper(small_model, encoder=WordEncoder(), mapper="ridge")
    inject(small_model, NEW, encoder=WordEncoder(), mapper=trained)
    inject(by_name, NEW, encoder=WordEncoder(), mapper="ridge")
    assert same_bits(bits_of(small_model), bits_of(by_name))


def test_a_readme_of_the_users_own_is_kept(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    assert "# Mapper for timm/resnet10t" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    trained.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
