"""The text encoder: what may be passed as `encoder`, and how it is found and loaded."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

import huggingface_hub
import torch

from timm_inject.cache import cache_directory, content_key
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, EncoderError, list_some
from timm_inject.io import expand_user
from timm_inject.offline import INSTALL_HINT, hub_is_reachable, packaged_encoder_directory
from timm_inject.text.precomputed import EMBEDDING_SUFFIXES, PrecomputedEncoder
from timm_inject.text.shipped_embeddings import ShippedEmbeddings, find_shipped_embeddings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "DEFAULT_ENCODER",
    "EncoderHandle",
    "EncoderSource",
    "ProgressCallback",
    "SentenceEncoder",
    "TextEncoder",
    "resolve_encoder",
]

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
_ORGANISATION = "sentence-transformers"
_WEIGHTS_NAME = "model.safetensors"
# One of these lies in the root of every model; modules.json alone where no transformer is in it.
_ROOT_FILES = ("modules.json", "config.json")
# Batches whose activations stay in a CPU's cache; a GPU is busy with large ones only.
_CPU_BATCH, _GPU_BATCH = 32, 256
# Models of the Hub's early days that have a short name of their own. Source: sentence-transformers, `ORIGINAL_TRANSFORMER_MODELS`.
_OWN_SHORT_NAMES = """
albert-base-v1 albert-base-v2 albert-large-v1 albert-large-v2 albert-xlarge-v1 albert-xlarge-v2 albert-xxlarge-v1
albert-xxlarge-v2 bert-base-cased-finetuned-mrpc bert-base-cased bert-base-chinese bert-base-german-cased
bert-base-german-dbmdz-cased bert-base-german-dbmdz-uncased bert-base-multilingual-cased bert-base-multilingual-uncased
bert-base-uncased bert-large-cased-whole-word-masking-finetuned-squad bert-large-cased-whole-word-masking bert-large-cased
bert-large-uncased-whole-word-masking-finetuned-squad bert-large-uncased-whole-word-masking bert-large-uncased camembert-base
ctrl distilbert-base-cased-distilled-squad distilbert-base-cased distilbert-base-german-cased
distilbert-base-multilingual-cased distilbert-base-uncased-distilled-squad distilbert-base-uncased-finetuned-sst-2-english
distilbert-base-uncased distilgpt2 distilroberta-base gpt2-large gpt2-medium gpt2-xl gpt2 openai-gpt
roberta-base-openai-detector roberta-base roberta-large-mnli roberta-large-openai-detector roberta-large t5-11b t5-3b t5-base
t5-large t5-small transfo-xl-wt103 xlm-clm-ende-1024 xlm-clm-enfr-1024 xlm-mlm-100-1280 xlm-mlm-17-1280 xlm-mlm-en-2048
xlm-mlm-ende-1024 xlm-mlm-enfr-1024 xlm-mlm-enro-1024 xlm-mlm-tlm-xnli15-1024 xlm-mlm-xnli15-1024 xlm-roberta-base
xlm-roberta-large-finetuned-conll02-dutch xlm-roberta-large-finetuned-conll02-spanish
xlm-roberta-large-finetuned-conll03-english xlm-roberta-large-finetuned-conll03-german xlm-roberta-large xlnet-base-cased
xlnet-large-cased
"""
# Embedded to tell loaded models apart whose weights are the same, such as one with its adapters switched off.
_PROBE = "a small red bird with a long tail"
# One model at a time is loaded or in use: a tokenizer that two threads use at once fails.
_LOCK = threading.RLock()
# The last model that was loaded by id or folder, for the next call: (where, its state, device) -> model.
_last_loaded: dict[tuple[str, str | None, str | None], Any] = {}


@runtime_checkable
class TextEncoder(Protocol):
    """Anything that turns n texts into an array of shape (n, dim).

    NumPy, PyTorch (dense or sparse), a sparse SciPy matrix, nested lists of floats, or a list of n vectors.
    """

    def encode(self, sentences: list[str], /) -> Any:
        """Return one vector a text."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SentenceEncoder:
    """A sentence-transformers model with a prompt, a batch size or a device of your own, to pass as `encoder=`.

    Without these, pass the id, the folder or the loaded model itself.

    Args:
        model: An id on the Hub ("all-MiniLM-L6-v2" is short for "sentence-transformers/all-MiniLM-L6-v2"), a folder, or a loaded
            `SentenceTransformer`.
        prompt: What stands before every text, such as "query: " for the E5 models.
        prompt_name: The same by its name among the model's own `prompts`, such as "Clustering" for EmbeddingGemma.
        batch_size: How many texts are encoded at a time. None takes 32 on a CPU and 256 elsewhere.
        device: Where the model is loaded to, such as "cpu" or "cuda:1". None takes what sentence-transformers does.

    Raises:
        ArgumentTypeError: `model` is none of these.
        ArgumentValueError: Both prompts are given, a device for a loaded model, or a batch size below 1.

    Example:
        >>> encoder = timm_inject.SentenceEncoder("intfloat/e5-small-v2", prompt="query: ")
        >>> head = timm_inject.inject(model, ["okapi"], encoder=encoder)
    """

    model: str | Path | SentenceTransformer
    prompt: str | None = field(default=None, kw_only=True)
    prompt_name: str | None = field(default=None, kw_only=True)
    batch_size: int | None = field(default=None, kw_only=True)
    device: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        is_loaded = _is_sentence_transformer(self.model)
        if not is_loaded and not isinstance(self.model, str | Path):
            raise ArgumentTypeError(
                f"`model` must be a sentence-transformers model id, a folder or a loaded `SentenceTransformer`, got "
                f"{type(self.model).__name__}."
            )
        for name, value in (("prompt", self.prompt), ("prompt_name", self.prompt_name), ("device", self.device)):
            if value is not None and not isinstance(value, str):
                raise ArgumentTypeError(f"`{name}` must be a text, got {type(value).__name__}.")
        if self.prompt is not None and self.prompt_name is not None:
            raise ArgumentValueError(f"Give `prompt` or `prompt_name`, not both: got {self.prompt!r} and {self.prompt_name!r}.")
        if is_loaded and self.device is not None:
            raise ArgumentValueError("`device` is for a model that is still to be loaded; move this one with `model.to(device)`.")
        if self.batch_size is not None and (not isinstance(self.batch_size, int) or self.batch_size < 1):
            raise ArgumentValueError(f"`batch_size` must be a whole number of at least 1, got {self.batch_size!r}.")

    def encode(self, sentences: list[str], /) -> Any:
        """Return one vector a text, (n, dim).

        Raises:
            EncoderError: The model cannot be found or loaded, or has no such prompt.
        """
        return _load_ready(self, _find_model(self)).encode(sentences)


# Called as progress(step, done, total) while something slow runs.
ProgressCallback = Callable[[str, int, int], None]
# What users may pass as `encoder`; None takes the default.
EncoderSource = str | Path | TextEncoder | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EncoderHandle:
    """An encoder that is found, and loaded when it is first used.

    Attributes:
        encoder_id: How the injection record names it.
        cache_key: Identifies its weights for the cache of embeddings; None where they cannot be identified.
        load: Gives the encoder, the same one each time. Called only when some text is not in the cache, or when nothing of a
            model on the Hub is on this machine yet.
        check_texts: Refuses texts that the encoder cannot encode, before the first is encoded; None where it takes any.
        shipped: Gives the embeddings that come with the package where they are this encoder's, the default, else None.
    """

    encoder_id: str
    cache_key: str | None
    load: Callable[[], TextEncoder]
    check_texts: Callable[[Iterable[str]], None] | None = None
    shipped: Callable[[], ShippedEmbeddings | None] = lambda: None


def resolve_encoder(encoder: EncoderSource | None) -> EncoderHandle:
    """Find the encoder without loading it.

    Args:
        encoder: A sentence-transformers model id or folder, a loaded `SentenceTransformer`, a `SentenceEncoder`, another object
            with `encode`, embeddings that were computed before (a mapping text -> vector, a `PrecomputedEncoder`, or a file that
            its `load` reads), or None for the default, by whose name it can be asked for too.

    Raises:
        ArgumentTypeError: It is none of these.
        EncoderError: A folder or file that does not exist, or a model id that is neither in the local cache nor reachable.
    """
    if encoder is None:
        encoder = DEFAULT_ENCODER
    if isinstance(encoder, str | Path) and Path(encoder).suffix in EMBEDDING_SUFFIXES:
        encoder = PrecomputedEncoder.load(encoder)
    if isinstance(encoder, Mapping):
        encoder = PrecomputedEncoder(list(encoder), list(encoder.values()))
    if isinstance(encoder, PrecomputedEncoder):
        return EncoderHandle(encoder.name, None, functools.partial(_give, encoder), encoder.check_texts)
    if isinstance(encoder, str | Path) or _is_sentence_transformer(encoder):
        encoder = SentenceEncoder(encoder)
    if isinstance(encoder, SentenceEncoder):
        return _make_handle(encoder)
    if not callable(getattr(encoder, "encode", None)):
        raise ArgumentTypeError(
            f"`encoder` must be a sentence-transformers model id or folder, or an object with "
            f"`encode(list[str]) -> array (n, dim)`, or embeddings by text, got {type(encoder).__name__}."
        )
    return EncoderHandle(f"{type(encoder).__module__}.{type(encoder).__qualname__}", None, functools.partial(_give, encoder))


def _give(encoder: TextEncoder) -> TextEncoder:
    return encoder


# ---- sentence-transformers: what to load, and what it is ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A sentence-transformers model that was found.

    Attributes:
        model_id: Its id, its folder, or what a loaded one says of itself.
        find_state: Gives what identifies its weights; None where nothing does.
        load: Gives the `SentenceTransformer`.
        shipped: As in `EncoderHandle`.
    """

    model_id: str
    find_state: Callable[[], str | None]
    load: Callable[[], Any]
    shipped: Callable[[], ShippedEmbeddings | None] = lambda: None


def _make_handle(encoder: SentenceEncoder) -> EncoderHandle:
    found = _find_model(encoder)
    state = found.find_state() if cache_directory() else None
    settings = repr((encoder.prompt, encoder.prompt_name, encoder.batch_size, encoder.device))
    has_prompt = encoder.prompt is not None or encoder.prompt_name is not None
    said = f" (prompt {encoder.prompt!r})" if encoder.prompt else f" (prompt {encoder.prompt_name})" if encoder.prompt_name else ""
    return EncoderHandle(
        found.model_id + said,
        content_key(state, settings) if state else None,
        functools.cache(lambda: _load_ready(encoder, found)),
        shipped=(lambda: None) if has_prompt else found.shipped,
    )


def _find_model(encoder: SentenceEncoder) -> _Found:
    if not isinstance(encoder.model, str | Path):
        return _found_loaded(encoder.model)
    if _names_a_folder(encoder.model):
        return _find_folder(Path(encoder.model), encoder.device)
    model_id = _full_name(str(encoder.model))
    packaged = packaged_encoder_directory() if model_id == DEFAULT_ENCODER else None
    if packaged is not None and _cached_revision(model_id) is None and not hub_is_reachable():
        # The packaged copy is the same file as on the Hub, so the record names the model, not the way it came.
        shipped = functools.partial(find_shipped_embeddings, packaged / _WEIGHTS_NAME)
        return _Found(model_id, *_of_folder(packaged, encoder.device), shipped)
    return _find_on_hub(model_id, encoder.device)


def _names_a_folder(encoder: str | Path) -> bool:
    return isinstance(encoder, Path) or Path(encoder).is_dir() or encoder.startswith((".", "/", "~"))


def _full_name(model_id: str) -> str:
    """The id on the Hub of a model that people call by its short name."""
    return model_id if "/" in model_id or model_id.lower() in _OWN_SHORT_NAMES.split() else f"{_ORGANISATION}/{model_id}"


def _find_folder(folder: Path, device: str | None) -> _Found:
    folder = expand_user(folder)
    if not folder.is_dir():
        raise EncoderError(f"The encoder folder '{folder}' does not exist. Pass a sentence-transformers folder or model id.")
    # None of the embeddings in the package: a folder with the same weights may pool them in another way.
    return _Found(str(folder), *_of_folder(folder, device))


def _of_folder(folder: Path, device: str | None) -> tuple[Callable[[], str], Callable[[], Any]]:
    """How to find the state of a folder and to load it."""
    find_state = functools.partial(_folder_key, folder)
    return find_state, lambda: _load_once(str(folder), find_state, device)


def _find_on_hub(model_id: str, device: str | None) -> _Found:
    if _cached_revision(model_id) is None and not hub_is_reachable():
        raise EncoderError(
            f"The encoder {model_id!r} is not in the local Hugging Face cache and the Hub can't be reached. Go online, pass a "
            f"folder that holds a sentence-transformers model, or {INSTALL_HINT}, which carries {DEFAULT_ENCODER!r}."
        )

    def find_state() -> str | None:
        revision = _cached_revision(model_id)
        return content_key(model_id, revision) if revision else None

    def load() -> Any:
        return _load_once(model_id, find_state, device, local_files_only=not hub_is_reachable())

    def shipped() -> ShippedEmbeddings | None:
        if model_id != DEFAULT_ENCODER:
            return None
        if _cached_revision(model_id) is None:
            load()  # fetches the weights, so that the first call gives what later ones give
        return find_shipped_embeddings(_cached_file(model_id, _WEIGHTS_NAME))

    return _Found(model_id, find_state, load, shipped)


def _found_loaded(model: SentenceTransformer) -> _Found:
    default = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    said = f" (prompt {default!r})" if default else ""
    return _Found(_name_of(model) + said, lambda: _state_of(model), lambda: model)


def _cached_revision(model_id: str) -> str | None:
    """The commit of the model in the local cache, or None."""
    paths = (_cached_file(model_id, name) for name in _ROOT_FILES)
    return next((path.parent.name for path in paths if path), None)


def _cached_file(model_id: str, name: str) -> Path | None:
    """A file of the model in the local cache, sentence-transformers' own where it has one, or None."""
    folder = os.environ.get("SENTENCE_TRANSFORMERS_HOME") or None
    try:
        path = huggingface_hub.try_to_load_from_cache(model_id, name, cache_dir=folder)
    except huggingface_hub.errors.HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def _folder_key(folder: Path) -> str:
    files: Sequence[Path] = sorted(path for path in folder.rglob("*") if path.is_file())
    states = (f"{path.relative_to(folder)}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)
    return content_key(*states)


# ---- sentence-transformers: loading and using -----------------------------------------------------------------------


def _is_sentence_transformer(encoder: object) -> TypeGuard[SentenceTransformer]:
    # Whoever passes one has imported the package, which takes seconds.
    package = sys.modules.get("sentence_transformers")
    return package is not None and isinstance(encoder, package.SentenceTransformer)


def _load_once(where: str, find_state: Callable[[], str | None], device: str | None, **options: bool) -> Any:
    """Load a model, or give the one that was loaded last where it is this one, unchanged."""
    with _LOCK:
        model = _last_loaded.get((where, find_state(), device))
        if model is None:
            model = _load(where, device=device, **options)
            state = find_state()  # of a model that had to be fetched it is known only now
            _last_loaded.clear()
            if state is not None:
                _last_loaded[where, state, device] = model
        return model


def _load(location: str, *, device: str | None = None, local_files_only: bool = False) -> Any:
    # Imported here: it costs seconds, and a cached run does not need it.
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    draws_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # A bar for reading a file of our own choosing would only be noise.
    try:
        return SentenceTransformer(location, device=device, local_files_only=local_files_only)
    except Exception as error:
        said = f"{type(error).__name__}: {error!s:.500}".rstrip()
        raise EncoderError(
            f"sentence-transformers could not load the encoder {location!r}: {said}{'' if said.endswith('.') else '.'} Check the "
            "name; a model that needs further arguments can be passed loaded: encoder=SentenceTransformer(...)."
        ) from error
    finally:
        if draws_bars:
            logging.enable_progress_bar()


def _load_ready(encoder: SentenceEncoder, found: _Found) -> _ReadyEncoder:
    model = found.load()
    if encoder.prompt_name is not None and not model.prompts.get(encoder.prompt_name):
        known = [name for name, prompt in model.prompts.items() if prompt]
        raise EncoderError(
            f"The encoder {found.model_id!r} has no prompt of the name {encoder.prompt_name!r}; it has "
            f"{list_some(repr(name) for name in known) or 'none'}. Give the text itself: `prompt='query: '`."
        )
    return _ReadyEncoder(model, encoder)


class _ReadyEncoder:
    def __init__(self, model: Any, settings: SentenceEncoder) -> None:
        self._model = model
        self._batch_size = settings.batch_size
        prompts = {"prompt": settings.prompt, "prompt_name": settings.prompt_name}
        self._prompts = {name: value for name, value in prompts.items() if value is not None}

    def encode(self, sentences: list[str], /) -> Any:
        usual = _CPU_BATCH if self._model.device.type == "cpu" else _GPU_BATCH
        return _encode(self._model, sentences, batch_size=self._batch_size or usual, **self._prompts)


def _encode(model: Any, sentences: list[str], **options: Any) -> Any:
    """Encode, and leave the model in training mode where it is."""
    with _LOCK:
        training = [module for module in model.modules() if module.training]
        try:
            return model.encode(sentences, show_progress_bar=False, **options)
        finally:
            for module in training:
                module.training = True


def _name_of(model: Any) -> str:
    """The id or folder that a loaded model came from, or its class."""
    first = next(iter(model.children()), None)
    config = getattr(getattr(first, "auto_model", None), "config", None)
    origins = (
        getattr(config, "_name_or_path", None),
        getattr(getattr(model, "model_card_data", None), "base_model", None),
        getattr(first, "base_model", None),
    )
    own = f"{type(model).__module__.partition('.')[0]}.{type(model).__qualname__}"
    return next((origin for origin in origins if isinstance(origin, str) and origin), own)


def _state_of(model: Any) -> str | None:
    """Identify a loaded model by its weights, its settings and what it makes of a text; None where they can't be read."""
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    if not tensors:
        return None  # of ONNX or OpenVINO
    try:
        settings = (repr(model), model.prompts, model.default_prompt_name, model.max_seq_length)
        seen = torch.as_tensor(_encode(model, [_PROBE])).float()
        probe = torch.nn.functional.normalize(seen).half()  # rounded, as the last bits may differ each time
        parts = [part for name, value in sorted(tensors.items()) for part in (name, value)]
        return content_key(repr(settings), _tokenizer_key(model), probe, *parts)
    except Exception:  # noqa: BLE001 - no key is no fault: what is wrong with the model shows when it encodes
        return None


def _tokenizer_key(model: Any) -> str:
    """The tokenizer's vocabulary and rules, without what changes while it is used."""
    tokenizer = getattr(model, "tokenizer", None)
    rules: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(rules, "to_str"):
        return repr(tokenizer)
    content = json.loads(rules.to_str())
    return json.dumps(content | {"truncation": None, "padding": None})
