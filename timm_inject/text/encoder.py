"""The text encoder: what may be passed as `encoder`, and how it is loaded."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import huggingface_hub

from timm_inject.cache import content_key
from timm_inject.errors import ArgumentTypeError, EncoderError
from timm_inject.offline import INSTALL_HINT, hub_is_reachable, packaged_encoder_directory
from timm_inject.text.precomputed import EMBEDDING_SUFFIXES, PrecomputedEncoder
from timm_inject.text.shipped_embeddings import ShippedEmbeddings, find_shipped_embeddings

__all__ = ["DEFAULT_ENCODER", "EncoderSource", "EncoderHandle", "ProgressCallback", "TextEncoder", "resolve_encoder"]

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
_WEIGHTS_NAME = "model.safetensors"
# Batches whose activations stay in a CPU's cache; a GPU is busy with large ones only.
_CPU_BATCH, _GPU_BATCH = 32, 256


@runtime_checkable
class TextEncoder(Protocol):
    """Anything that turns n texts into an array of shape (n, dim): numpy, torch, or nested lists of floats."""

    def encode(self, sentences: list[str], /) -> Any:
        """Return one vector a text."""
        ...


# Called as progress(step, done, total) while something slow runs.
ProgressCallback = Callable[[str, int, int], None]
# What users may pass as `encoder`; None takes the default.
EncoderSource = str | Path | TextEncoder | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EncoderHandle:
    """An encoder that is loaded when it is first used.

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
        encoder: A sentence-transformers model id or folder, an object with `encode`, embeddings that were computed before
            (a mapping text -> vector, a `PrecomputedEncoder`, or a file that its `load` reads), or None for the default, by
            whose name it can be asked for too.

    Raises:
        ArgumentTypeError: It is none of these.
        EncoderError: A folder or file that does not exist, or a model id that is neither in the local cache nor reachable.
    """
    if encoder is None:
        return _default_encoder()
    if isinstance(encoder, str | Path) and Path(encoder).suffix in EMBEDDING_SUFFIXES:
        encoder = PrecomputedEncoder.load(encoder)
    if isinstance(encoder, str | Path):
        if _names_a_folder(encoder):
            return _folder_encoder(Path(encoder))
        return _default_encoder() if encoder == DEFAULT_ENCODER else _hub_encoder(str(encoder))
    if isinstance(encoder, Mapping):
        encoder = PrecomputedEncoder(list(encoder), list(encoder.values()))
    if isinstance(encoder, PrecomputedEncoder):
        return EncoderHandle(encoder.name, None, lambda: encoder, encoder.check_texts)
    if not callable(getattr(encoder, "encode", None)):
        raise ArgumentTypeError(
            f"`encoder` must be a sentence-transformers model id or folder, or an object with "
            f"`encode(list[str]) -> array (n, dim)`, or embeddings by text, got {type(encoder).__name__}."
        )
    return EncoderHandle(f"{type(encoder).__module__}.{type(encoder).__qualname__}", None, lambda: encoder)


def _default_encoder() -> EncoderHandle:
    packaged = packaged_encoder_directory()
    if _cached_revision(DEFAULT_ENCODER) is None and packaged is not None and not hub_is_reachable():
        # The packaged copy is the same file as on the Hub, so the record names the model, not the way it came.
        load, weights = functools.cache(lambda: _load(str(packaged))), packaged / _WEIGHTS_NAME
        shipped = functools.partial(find_shipped_embeddings, weights)
        return EncoderHandle(DEFAULT_ENCODER, _folder_key(packaged), load, shipped=shipped)
    return _hub_encoder(DEFAULT_ENCODER)


def _names_a_folder(encoder: str | Path) -> bool:
    return isinstance(encoder, Path) or Path(encoder).is_dir() or encoder.startswith((".", "/", "~"))


def _folder_encoder(folder: Path) -> EncoderHandle:
    folder = folder.expanduser()
    if not folder.is_dir():
        raise EncoderError(f"The encoder folder '{folder}' does not exist. Pass a sentence-transformers folder or model id.")
    # None of the embeddings in the package: a folder with the same weights may pool them in another way.
    return EncoderHandle(str(folder), _folder_key(folder), functools.cache(lambda: _load(str(folder))))


def _hub_encoder(model_id: str) -> EncoderHandle:
    revision = _cached_revision(model_id)
    if revision is None and not hub_is_reachable():
        raise EncoderError(
            f"The encoder {model_id!r} is not in the local Hugging Face cache and the Hub can't be reached. Go online, pass a "
            f"folder that holds a sentence-transformers model, or {INSTALL_HINT}, which carries {DEFAULT_ENCODER!r}."
        )
    key = content_key(model_id, revision) if revision else None
    load = functools.cache(lambda: _load(model_id, local_files_only=not hub_is_reachable()))

    def shipped() -> ShippedEmbeddings | None:
        if model_id != DEFAULT_ENCODER:
            return None
        if revision is None:
            load()  # fetches the weights, so that the first call gives what later ones give
        return find_shipped_embeddings(_cached_file(model_id, _WEIGHTS_NAME))

    return EncoderHandle(model_id, key, load, shipped=shipped)


def _cached_revision(model_id: str) -> str | None:
    """The commit of the model in the local Hugging Face cache, or None."""
    path = _cached_file(model_id, "config.json")
    return path.parent.name if path else None


def _cached_file(model_id: str, name: str) -> Path | None:
    """A file of the model in the local Hugging Face cache, or None."""
    try:
        path = huggingface_hub.try_to_load_from_cache(model_id, name)
    except huggingface_hub.errors.HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def _folder_key(folder: Path) -> str:
    files: Sequence[Path] = sorted(path for path in folder.rglob("*") if path.is_file())
    states = (f"{path.relative_to(folder)}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)
    return content_key(*states)


def _load(location: str, *, local_files_only: bool = False) -> TextEncoder:
    # Imported here: it costs seconds, and a cached run does not need it.
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    draws_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # A bar for reading a file of our own choosing would only be noise.
    try:
        model = SentenceTransformer(location, local_files_only=local_files_only)
    except Exception as error:
        raise EncoderError(
            f"sentence-transformers could not load the encoder {location!r}: {type(error).__name__}: {error}"
        ) from error
    finally:
        if draws_bars:
            logging.enable_progress_bar()
    return _SentenceTransformerEncoder(model)


class _SentenceTransformerEncoder:
    def __init__(self, model: Any) -> None:
        self._model = model

    def encode(self, sentences: list[str], /) -> Any:
        batch_size = _CPU_BATCH if self._model.device.type == "cpu" else _GPU_BATCH
        return self._model.encode(sentences, batch_size=batch_size, show_progress_bar=False)
