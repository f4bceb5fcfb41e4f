import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.helpers import WordEncoder
from timm_inject import (
    ArgumentTypeError,
    ArgumentValueError,
    EncoderError,
    PrecomputedEncoder,
    SaveError,
    fit_mapper,
    inject,
    injection_record,
    self_score,
    texts_to_encode,
)

NEW = {"okapi": "a striped relative of the giraffe", "coyote": None}


@pytest.fixture
def texts(small_model):
    return texts_to_encode(small_model, NEW)


def _embed(texts):
    return WordEncoder().encode(texts)


def _weights(model):
    return model.get_classifier().weight


def test_the_texts_are_all_that_is_encoded(small_model, texts):
    class Recorder(WordEncoder):
        asked = ()

        def encode(self, sentences):
            self.asked = (*self.asked, *sentences)
            return super().encode(sentences)

    recorder = Recorder()
    inject(small_model, NEW, encoder=recorder)
    assert len(texts) == len(set(texts))
    assert set(recorder.asked) == set(texts)
    # Injected again, the earlier names are encoded with the new one.
    more = texts_to_encode(small_model, ["quagga"])
    assert set(texts) < set(more)
    inject(small_model, ["quagga"], encoder=PrecomputedEncoder(more, _embed(more), name="tests.text.test_precomputed.Recorder"))
    assert injection_record(small_model).num_classes == 13


def test_settings_decide_the_texts(small_model):
    assert "okapi" in texts_to_encode(small_model, iter(["okapi"]), descriptions=None)
    assert "okapi" not in texts_to_encode(small_model, NEW)
    assert len(texts_to_encode(small_model)) < len(texts_to_encode(small_model, NEW))
    with pytest.raises(ArgumentTypeError, match="must be a list of names, got the string 'okapi'"):
        texts_to_encode(small_model, "okapi")


def test_rows_are_those_of_the_engine_itself(small_model, texts, tmp_path):
    import copy

    models = [copy.deepcopy(small_model) for _ in range(5)]
    inject(models[0], NEW, encoder=WordEncoder())
    encoder = PrecomputedEncoder(texts, _embed(texts), name="my engine")
    inject(models[1], NEW, encoder=encoder)
    inject(models[2], NEW, encoder=dict(zip(texts, _embed(texts), strict=True)))
    encoder.save(tmp_path / "deeper" / "texts.safetensors")
    inject(models[3], NEW, encoder=tmp_path / "deeper" / "texts.safetensors")
    np.savez(tmp_path / "texts.npz", texts=texts, embeddings=_embed(texts))
    inject(models[4], NEW, encoder=str(tmp_path / "texts.npz"))
    assert all(torch.equal(_weights(model), _weights(models[0])) for model in models[1:])
    names = [injection_record(model).classes[0].encoder for model in models[1:]]
    assert names == ["my engine", "precomputed", "my engine", "texts.npz"]
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == ["texts.safetensors"]


def test_without_new_names_they_do_for_a_mapper_and_a_score(small_model):
    texts = texts_to_encode(small_model)
    encoder = PrecomputedEncoder(texts, _embed(texts))
    assert fit_mapper(small_model, encoder=encoder, mapper="ridge").facts.encoder == "precomputed"
    assert self_score(small_model, encoder=encoder, mapper="ridge").num_seen == 10


def test_missing_texts_are_told_at_once_and_the_model_stays(small_model, texts):
    kept = texts[:-2]
    before = {key: value.clone() for key, value in small_model.state_dict().items()}
    with pytest.raises(EncoderError) as caught:
        inject(small_model, NEW, encoder=PrecomputedEncoder(kept, _embed(kept)))
    assert str(caught.value) == (
        f"The precomputed embeddings lack 2 of the 11 texts that are needed: {texts[-2]!r}, {texts[-1]!r}. "
        "`timm_inject.texts_to_encode(model, names, ...)` lists the texts, with the `descriptions` and names that `inject` gets."
    )
    assert all(torch.equal(value, before[key]) for key, value in small_model.state_dict().items())


@pytest.mark.parametrize(
    ("texts", "embeddings", "error", "message"),
    [
        (["a", "b"], [[1.0, 2.0]], ArgumentValueError, "`embeddings` has 1 vectors for 2 texts. Give one vector a text"),
        (["a", "a"], [[1.0], [2.0]], ArgumentValueError, "`texts` holds 1 texts again: 'a'. Give each text once."),
        (["a"], [1.0], ArgumentValueError, "`embeddings` must have shape (num_texts, dim), got (1,)."),
        ("ab", [[1.0], [2.0]], ArgumentTypeError, "`texts` must be a list of strings, one an embedding."),
        (["a", 1], [[1.0], [2.0]], ArgumentTypeError, "`texts` must be a list of strings, one an embedding."),
        (["a"], ["x"], ArgumentTypeError, "`embeddings` must be an array of numbers, got list"),
        (["a", "b"], [np.ones(2), np.ones(3)], ArgumentValueError, "The embeddings have different shapes: (2,), (3,)."),
    ],
)
def test_what_does_not_fit_is_told(texts, embeddings, error, message):
    with pytest.raises(error) as caught:
        PrecomputedEncoder(texts, embeddings)
    assert message in str(caught.value)


def test_vectors_of_any_kind_of_array():
    expected = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for embeddings in (expected.half(), expected.numpy(), expected.tolist(), list(expected), list(expected.numpy())):
        encoder = PrecomputedEncoder(["a", "b"], embeddings)
        assert len(encoder) == 2
        assert torch.equal(encoder.encode(["b", "a", "b"]), expected[[1, 0, 1]])


def test_files_that_are_none_are_told(tmp_path):
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    save_file({"embeddings": torch.ones(2, 2)}, tmp_path / "texts.safetensors", metadata={"texts": json.dumps(["a"])})
    np.savez(tmp_path / "pickled.npz", texts=np.array(["a"], dtype=object), embeddings=np.ones((1, 2)))
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("texts.npy", b"nothing")
    for path in [*tmp_path.iterdir(), tmp_path / "none.npz"]:
        with pytest.raises(EncoderError, match=r"The embeddings in '.*' could not be read: .* Give a file of"):
            PrecomputedEncoder.load(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="could not be saved to"):
        PrecomputedEncoder(["a"], [[1.0]]).save(tmp_path / "file" / "texts.safetensors")
