"""Class texts to class descriptors, by one rule for seen and unseen classes."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from timm_inject.cache import content_key, load_or_compute
from timm_inject.errors import EncoderError, TimmInjectError, list_some
from timm_inject.text.encoder import EncoderHandle, ProgressCallback
from timm_inject.text.kinds import KIND_DIM, encode_kinds, kind_words
from timm_inject.text.texts import ClassText
from timm_inject.text.vectors import as_matrix

__all__ = ["descriptor_probe", "encode_descriptors", "identity_of", "is_near", "sentences_of"]

_USUAL_CHUNK, _MAX_CHUNK = 256, 1024
# How PyTorch says it, on GPUs and on CPUs.
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
_SHOWN = 100
# Length of the kind's part beside 1 for the text's. Chosen on photos of validation classes: docs/design.md ("Texts").
_KIND_WEIGHT = 0.4
# From how many seen classes a kind is borrowed, and the difference of cosines by which a share falls to 1 / e; likewise.
_LENDERS, _LENDING_WIDTH = 8, 0.05
# Another machine's embeddings differ by about 1e-6 from these; another encoder's by about 1e-1.
_PROBE_TOLERANCE = 2e-3
_PROBE_CLASSES, _PROBE_COLUMNS = 4, 4


def sentences_of(text: ClassText) -> list[str]:
    """What is embedded for one class; the embeddings are averaged.

    One text says what it is, three say what is seen: with the name, alone, and with the words of the kind. Which ones, and that the
    definition counts as one among four, was chosen on photos of validation classes: docs/design.md ("Texts").
    """
    names = ", ".join(text.lemmas)
    said = [f"{names}: {text.definition}"] if text.definition else []
    for seen in text.seen_in_photos:
        said += [f"a photo of a {text.name}, {seen}", seen]
        if text.kind:
            said.append(f"{kind_words(text.kind)}: {seen}")
    if text.definition and not text.seen_in_photos:
        said.append(f"a photo of a {text.name}, {text.definition}")
    return list(dict.fromkeys(said)) or [names, f"a photo of a {text.name}"]


def identity_of(text: ClassText) -> list[str]:
    """Everything that a descriptor is made from, to tell by a hash whether it is the same."""
    return [*sentences_of(text), text.kind or ""]


def encode_descriptors(
    texts: Sequence[ClassText],
    encoder: EncoderHandle,
    progress: ProgressCallback | None = None,
    *,
    seen_descriptors: Tensor | None = None,
) -> Tensor:
    """Encode classes as descriptors.

    Each sentence's embedding is scaled to length 1, a class is the mean of its sentences, scaled to length 1. A sentence that the
    encoder gives zeros for, as it knows no word of it, does not count. Beside it stands the kind, with a weight of 0.4. A class
    whose kind nobody states gets the mean kind of the seen classes with the nearest texts.

    Args:
        texts: One entry a class.
        encoder: Loaded only when it is needed; see `EncoderHandle`.
        progress: Called with the step's name, how many texts are done and how many there are.
        seen_descriptors: (num_seen, descriptor_dim), of the classes whose kinds may be borrowed; None for `texts` themselves.

    Returns:
        (num_classes, descriptor_dim), float32, L2-normalised; descriptor_dim is the encoder's dimension and `KIND_DIM`.

    Raises:
        EncoderError: The encoder fails, does not give one finite vector a text, or gives zeros for every text of a class.
    """
    told = normalize(_encode(texts, encoder, progress))
    kinds = encode_kinds([text.kind for text in texts])
    unknown = torch.tensor([text.kind is None and bool(text.descriptions) for text in texts], dtype=torch.bool, device="cpu")
    if unknown.any():
        if seen_descriptors is None:
            others = ~torch.tensor([text.kind is None for text in texts], dtype=torch.bool, device="cpu")
            seen_told, seen_kinds = told[others], kinds[others]
        else:
            seen_told, seen_kinds = seen_descriptors[:, : told.shape[1]], seen_descriptors[:, told.shape[1] :]
        kinds[unknown] = _borrow_kinds(told[unknown], normalize(seen_told), normalize(seen_kinds))
    return normalize(torch.cat([told, _KIND_WEIGHT * kinds], dim=1))


def _borrow_kinds(told: Tensor, seen_told: Tensor, seen_kinds: Tensor) -> Tensor:
    """The mean kind of the nearest seen classes, by their texts: (n, KIND_DIM), of length 1."""
    if not len(seen_told):
        return torch.zeros(len(told), KIND_DIM, dtype=torch.float32, device="cpu")
    nearest = (told @ seen_told.T).topk(min(_LENDERS, len(seen_told)), dim=1)
    shares = torch.softmax(nearest.values / _LENDING_WIDTH, dim=1)
    return normalize(torch.einsum("nk,nkd->nd", shares, seen_kinds[nearest.indices]))


def _encode(texts: Sequence[ClassText], encoder: EncoderHandle, progress: ProgressCallback | None) -> Tensor:
    """The mean embedding of each class's sentences, (num_classes, dim); every sentence's is of length 1.

    Sentences go to the encoder in order of their length, as a batch is padded to its longest, each different one once; those whose
    embeddings come with the package do not go there. The embeddings themselves are not kept: with many names they would take twice
    the memory of the descriptors.
    """
    owners: dict[str, list[int]] = {}
    for position, text in enumerate(texts):
        for sentence in sentences_of(text):
            owners.setdefault(sentence, []).append(position)
    if encoder.check_texts is not None:
        encoder.check_texts(owners)
    sums, done = torch.zeros(0, 0, dtype=torch.float32, device="cpu"), 0
    counts = torch.zeros(len(texts), 1, dtype=torch.float32, device="cpu")
    for chunk, embeddings in _embed(owners, encoder):
        if not done:
            sums = torch.zeros(len(texts), embeddings.shape[1], dtype=torch.float32, device="cpu")
        if embeddings.shape[1] != sums.shape[1]:
            widths = sorted({embeddings.shape[1], sums.shape[1]})
            raise EncoderError(f"The encoder {encoder.encoder_id!r} returned vectors of different widths: {widths}.")
        pairs = torch.tensor([(owner, row) for row, text in enumerate(chunk) for owner in owners[text]], device="cpu")
        sums.index_add_(0, pairs[:, 0], embeddings[pairs[:, 1]])
        counts.index_add_(0, pairs[:, 0], embeddings.any(dim=1, keepdim=True).float()[pairs[:, 1]])
        done += len(chunk)
        if progress is not None:
            progress("Encode the texts", done, len(owners))
    _check_known(texts, counts, encoder)
    return sums.div_(counts)


def _check_known(texts: Sequence[ClassText], counts: Tensor, encoder: EncoderHandle) -> None:
    """Refuse classes without a sentence of which the encoder knows a word; `counts` is how many sentences each class has left."""
    unknown = [f"{text.name!r} ({sentences_of(text)[0]!r})" for text, count in zip(texts, counts, strict=True) if not count]
    if unknown:
        raise EncoderError(
            f"The encoder {encoder.encoder_id!r} returned all-zero vectors for every text of {len(unknown)} of {len(texts)} "
            f"classes: {list_some(unknown)}. It knows no word of them: describe them in other words (`descriptions=`), or take "
            "another encoder."
        )


def _embed(texts: Iterable[str], encoder: EncoderHandle) -> Iterator[tuple[list[str], Tensor]]:
    """Texts with their embeddings, some at a time: first those that come with the package, then the others."""
    shipped, others = encoder.shipped(), list(texts)
    if shipped is not None:
        places = {text: place for text in others if (place := shipped.find(text)) is not None}
        others = [text for text in others if text not in places]
        if places:
            yield list(places), normalize(shipped.embeddings[list(places.values())].float())
    for chunk in _chunks(sorted(others, key=lambda text: (len(text), text))):
        yield chunk, _encode_chunk(chunk, encoder)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Cut a sorted list of texts where the texts themselves say so.

    A chunk is what the encoder gets at once and what the cache keeps: the last bits of an embedding depend on the texts that it is
    encoded with, and the same call must give the same bits with and without the cache. A call that was stopped goes on after the
    last whole chunk. As no chunk's ends depend on how many texts come before it, one more name changes one chunk.
    """
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == _MAX_CHUNK or zlib.crc32(text.encode("utf-8", "surrogatepass")) % _USUAL_CHUNK == 0:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _encode_chunk(chunk: list[str], encoder: EncoderHandle) -> Tensor:
    """(num_texts, dim), each of length 1 or 0, from the cache where this very chunk was encoded before."""
    if encoder.cache_key is None:
        return _encode_now(chunk, encoder)
    key = content_key(encoder.cache_key, *chunk)
    return load_or_compute("embeddings", key, lambda: {"embeddings": _encode_now(chunk, encoder)})["embeddings"]


def _encode_now(chunk: list[str], encoder: EncoderHandle) -> Tensor:
    ready = encoder.load()
    try:
        output = ready.encode(list(chunk))
    except TimmInjectError:
        raise
    except Exception as error:
        raise EncoderError(_describe_failure(error, chunk, encoder)) from error
    return normalize(_check_embeddings(output, chunk, encoder))


def _describe_failure(error: Exception, chunk: list[str], encoder: EncoderHandle) -> str:
    longest = max(chunk, key=len)
    said = f"{type(error).__name__}: {error!s:.300}".rstrip(" .:")
    if isinstance(error, MemoryError) or any(phrase in said.lower() for phrase in _OUT_OF_MEMORY):
        advice = "Encode fewer at a time, or on the CPU: `encoder=timm_inject.SentenceEncoder(id, batch_size=8, device='cpu')`."
    else:
        advice = "If that is more than it takes, shorten the descriptions, or pass an encoder that cuts long texts off."
    return (
        f"The encoder {encoder.encoder_id!r} failed at {len(chunk)} texts: {said}. The longest of them has {len(longest)} "
        f"characters, {len(longest.split())} words: {textwrap.shorten(longest, _SHOWN)!r}. {advice}"
    )


def _check_embeddings(output: Any, sentences: list[str], encoder: EncoderHandle) -> Tensor:
    name, expected = repr(encoder.encoder_id), f"an array of {len(sentences)} finite vectors of one length, one a text"
    try:
        embeddings = as_matrix(output)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EncoderError(f"The encoder {name} returned {type(output).__name__}, expected {expected}: {error}") from error
    if embeddings.ndim != 2 or len(embeddings) != len(sentences) or embeddings.shape[1] == 0:
        raise EncoderError(
            f"The encoder {name} returned shape {tuple(embeddings.shape)}, expected {expected}: ({len(sentences)}, dim)."
        )
    bad = (~torch.isfinite(embeddings)).any(1)
    if bad.any():
        text = sentences[int(bad.nonzero()[0, 0])]
        raise EncoderError(
            f"The encoder {name} returned NaN or infinite vectors for {int(bad.sum())} of {len(sentences)} texts, the first of "
            f"them {text!r}; expected {expected}."
        )
    return embeddings


def descriptor_probe(descriptors: Tensor) -> tuple[float, ...]:
    """A few numbers by which to know an encoder again: the width, and the corner of (num_classes, descriptor_dim)."""
    corner = descriptors[:_PROBE_CLASSES, :_PROBE_COLUMNS].flatten().tolist()
    return (float(descriptors.shape[1]), *(round(value, 5) for value in corner))


def is_near(probe: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two probes are of one encoder."""
    return len(probe) == len(other) and all(abs(a - b) <= _PROBE_TOLERANCE for a, b in zip(probe, other, strict=True))
