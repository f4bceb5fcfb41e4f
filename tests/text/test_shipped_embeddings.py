import shutil

import pytest
import torch
from safetensors import safe_open
from torch.nn.functional import normalize

from tests.helpers import needs_offline
from timm_inject.offline import packaged_encoder_directory
from timm_inject.text import encoder as encoder_module
from timm_inject.text.descriptors import encode_descriptors, sentences_of
from timm_inject.text.encoder import DEFAULT_ENCODER, EncoderHandle, resolve_encoder
from timm_inject.text.shipped_embeddings import ShippedEmbeddings, find_shipped_embeddings, write_table
from timm_inject.text.texts import ClassText
from tools.shipped_table import embed, imagenet_texts

pytestmark = needs_offline


@pytest.fixture(scope="module")
def table():
    return find_shipped_embeddings(packaged_encoder_directory() / "model.safetensors")


def test_the_table_holds_every_text_of_an_imagenet_head_as_the_encoder_gives_it(table):
    texts = imagenet_texts()
    places = [table.find(text) for text in texts]
    assert None not in places
    assert len(set(places)) == len(texts) == len(table.embeddings)  # `python -m tools.shipped_table` writes it anew
    some = texts[::200]
    stored = table.embeddings[places[::200]].float()
    assert torch.allclose(stored, embed(some), atol=3e-4)


def test_the_table_is_for_the_very_weights_that_made_it(tmp_path, table):
    weights = packaged_encoder_directory() / "model.safetensors"
    same = shutil.copy(weights, tmp_path / "same.safetensors")
    assert find_shipped_embeddings(same) is table
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    (tmp_path / "tuned.safetensors").write_bytes(data)
    assert find_shipped_embeddings(tmp_path / "tuned.safetensors") is None
    assert find_shipped_embeddings(tmp_path / "none.safetensors") is None
    assert find_shipped_embeddings(None) is None


def test_only_other_texts_go_to_the_encoder(table):
    """A class of the table and one that is not in it come out as if both had been encoded."""
    gone = []

    class Recorder:
        def encode(self, sentences):
            gone.extend(sentences)
            return resolve_encoder(None).load().encode(sentences)

    shipped = imagenet_texts()
    named, _, told = next(text for text in shipped if text.startswith("tench")).partition(": ")
    sentence = next(text for text in shipped if text.startswith("a photo of a tench, ")).removeprefix("a photo of a tench, ")
    texts = [ClassText("tench", tuple(named.split(", ")), told, sentence), ClassText("okapi", ("okapi",), "a striped giraffe")]
    with_table = encode_descriptors(texts, EncoderHandle("recorder", None, Recorder, shipped=lambda: table))
    assert sorted(gone) == sorted(sentences_of(texts[1]))
    without = encode_descriptors(texts, EncoderHandle("recorder", None, Recorder))
    assert torch.allclose(with_table, without, atol=3e-4)


def test_a_written_table_is_read_back(tmp_path):
    texts, vectors = ["one", "zwei \N{SNOWMAN}"], normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))
    (tmp_path / "weights").write_bytes(b"abc")
    write_table(tmp_path / "table.safetensors", texts, vectors, tmp_path / "weights")
    with safe_open(tmp_path / "table.safetensors", "pt") as file:
        # SHA-256 of "abc": FIPS 180-2, appendix B.1.
        assert file.metadata() == {"weights_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
        keys = [bytes(key) for key in file.get_tensor("keys").tolist()]
        read = ShippedEmbeddings({key: place for place, key in enumerate(keys)}, file.get_tensor("embeddings"))
    assert [read.find(text) for text in [*texts, "three"]] == [0, 1, None]
    assert torch.allclose(read.embeddings.float(), vectors, atol=3e-4)


def test_the_default_by_its_id_fetches_its_weights_before_it_looks_for_the_table(monkeypatch, tmp_path):
    """Else the first call, without a local copy, would give other bits than the second."""
    fetched = []

    def cached_file(model_id, name):
        return packaged_encoder_directory() / name if fetched else None

    monkeypatch.setattr(encoder_module, "_cached_file", cached_file)
    monkeypatch.setattr(encoder_module, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(encoder_module, "_load", lambda *_, **__: fetched.append("weights"))
    assert resolve_encoder(DEFAULT_ENCODER).shipped() is not None
    assert fetched == ["weights"]
    fetched.clear()
    assert resolve_encoder("someone/else").shipped() is None
    assert not fetched
