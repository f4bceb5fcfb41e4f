"""Class texts to class descriptors, by one rule for seen and unseen classes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from timm_inject.cache import content_key, load_or_compute
from timm_inject.errors import EncoderError
from timm_inject.text.encoder import EncoderHandle, ProgressCallback, TextEncoder
from timm_inject.text.kinds import KIND_DIM, encode_kinds, kind_words
from timm_inject.text.texts import ClassText

__all__ = ["descriptor_probe", "encode_descriptors", "identity_of", "is_near", "sentences_of"]

_USUAL_CHUNK, _MAX_CHUNK = 256, 1024
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

    Each sentence's embedding is scaled to length 1, a class is the mean of its sentences, scaled to length 1. Beside it stands
    its kind, with a weight of 0.4. A class whose kind nobody states gets the mean kind of the seen classes with the nearest texts.

    Args:
        texts: One entry a class.
        encoder: Loaded only when it is needed; see `EncoderHandle`.
        progress: Called with the step's name, how many texts are done and how many there are.
        seen_descriptors: (num_seen, descriptor_dim), of the classes whose kinds may be borrowed; None for `texts` themselves.

    Returns:
        (num_classes, descriptor_dim), float32, L2-normalised; descriptor_dim is the encoder's dimension and `KIND_DIM`.

    Raises:
        EncoderError: The encoder fails, or does not give one finite vector a text.
    """
    told = normalize(_encode([sentences_of(text) for text in texts], encoder, progress))
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


def _encode(groups: Sequence[Sequence[str]], encoder: EncoderHandle, progress: ProgressCallback | None) -> Tensor:
    """The mean embedding of each group of texts, (num_groups, dim); every text's is of length 1.

    Texts go to the encoder in order of their length, as a batch is padded to its longest, each different text once; those whose
    embeddings come with the package do not go there. The embeddings themselves are not kept: with many names they would take twice
    the memory of the descriptors.
    """
    owners: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        for text in group:
            owners.setdefault(text, []).append(position)
    if encoder.check_texts is not None:
        encoder.check_texts(owners)
    sums, done = torch.zeros(0, 0, dtype=torch.float32, device="cpu"), 0
    for chunk, embeddings in _embed(owners, encoder):
        if not done:
            sums = torch.zeros(len(groups), embeddings.shape[1], dtype=torch.float32, device="cpu")
        if embeddings.shape[1] != sums.shape[1]:
            widths = sorted({embeddings.shape[1], sums.shape[1]})
            raise EncoderError(f"The encoder {_name(encoder.load())} returned vectors of different widths: {widths}.")
        pairs = torch.tensor([(owner, row) for row, text in enumerate(chunk) for owner in owners[text]], device="cpu")
        sums.index_add_(0, pairs[:, 0], embeddings[pairs[:, 1]])
        done += len(chunk)
        if progress is not None:
            progress("Encode the texts", done, len(owners))
    return sums.div_(torch.tensor([[len(group)] for group in groups], dtype=torch.float32, device="cpu"))


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
    """(num_texts, dim), each of length 1, from the cache where this very chunk was encoded before."""
    if encoder.cache_key is None:
        return _encode_now(chunk, encoder.load())
    key = content_key(encoder.cache_key, *chunk)
    return load_or_compute("embeddings", key, lambda: {"embeddings": _encode_now(chunk, encoder.load())})["embeddings"]


def _encode_now(chunk: list[str], encoder: TextEncoder) -> Tensor:
    return normalize(_check_embeddings(encoder.encode(list(chunk)), chunk, encoder))


def _check_embeddings(output: Any, sentences: list[str], encoder: TextEncoder) -> Tensor:
    expected = f"an array of {len(sentences)} finite vectors of one length, one a text"
    try:
        embeddings = torch.as_tensor(output).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"The encoder {_name(encoder)} returned {type(output).__name__}, expected {expected}: {error}"
        ) from error
    if embeddings.ndim != 2 or len(embeddings) != len(sentences) or embeddings.shape[1] == 0:
        raise EncoderError(
            f"The encoder {_name(encoder)} returned shape {tuple(embeddings.shape)}, expected {expected}: ({len(sentences)}, dim)."
        )
    bad = (~torch.isfinite(embeddings)).any(1) | (embeddings == 0).all(1)
    if bad.any():
        text = sentences[int(bad.nonzero()[0, 0])]
        raise EncoderError(
            f"The encoder {_name(encoder)} returned NaN, infinite or all-zero vectors for {int(bad.sum())} of {len(sentences)} "
            f"texts, the first of them {text!r}; expected {expected}."
        )
    return embeddings


def _name(encoder: TextEncoder) -> str:
    return repr(type(encoder).__name__)


def descriptor_probe(descriptors: Tensor) -> tuple[float, ...]:
    """A few numbers by which to know an encoder again: the width, and the corner of (num_classes, descriptor_dim)."""
    corner = descriptors[:_PROBE_CLASSES, :_PROBE_COLUMNS].flatten().tolist()
    return (float(descriptors.shape[1]), *(round(value, 5) for value in corner))


def is_near(probe: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two probes are of one encoder."""
    return len(probe) == len(other) and all(abs(a - b) <= _PROBE_TOLERANCE for a, b in zip(probe, other, strict=True))
