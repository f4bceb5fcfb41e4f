"""Embeddings that were computed elsewhere, in the place of a text encoder."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, EncoderError, SaveError, list_some
from timm_inject.io import expand_user, written_beside
from timm_inject.text.vectors import as_matrix

__all__ = ["EMBEDDING_SUFFIXES", "PrecomputedEncoder"]

EMBEDDING_SUFFIXES = (".npz", ".safetensors")
_TENSOR, _TEXTS = "embeddings", "texts"
_HOW = "`timm_inject.texts_to_encode(model, names, ...)` lists the texts, with the `descriptions` and names that `inject` gets."


class PrecomputedEncoder:
    """Gives embeddings that you computed with an engine of your own (sentence-transformers' multi-process pool, Ray, Spark ...).

    Pass it as `encoder=`; a plain mapping text -> vector does too. Which texts are needed, `timm_inject.texts_to_encode` says.

    Args:
        texts: What was embedded; each text once.
        embeddings: An array of one finite vector a text, (len(texts), dim): numpy, torch, or nested lists.
        name: How the injection record names the encoder. Name the model that made the embeddings: names that are injected later
            with that model itself then count as made with the same settings.

    Attributes:
        name: As given.

    Raises:
        ArgumentTypeError: `texts` is no list of strings, or `embeddings` no array of numbers.
        ArgumentValueError: There is not one vector a text, or a text comes twice.

    Example:
        >>> texts = timm_inject.texts_to_encode(model, ["okapi"])
        >>> encoder = timm_inject.PrecomputedEncoder(texts, my_engine(texts), name="my-engine")
        >>> head = timm_inject.inject(model, ["okapi"], encoder=encoder)
    """

    def __init__(self, texts: Sequence[str], embeddings: Any, *, name: str = "precomputed") -> None:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ArgumentTypeError("`texts` must be a list of strings, one an embedding.")
        self.name = name
        self._embeddings = _check_matrix(embeddings)
        self._position = {text: position for position, text in enumerate(texts)}
        if len(self._embeddings) != len(texts):
            raise ArgumentValueError(
                f"`embeddings` has {len(self._embeddings)} vectors for {len(texts)} texts. Give one vector a text, in that order."
            )
        if len(self._position) < len(texts):
            twice = list_some(repr(text) for position, text in enumerate(texts) if self._position[text] != position)
            raise ArgumentValueError(f"`texts` holds {len(texts) - len(self._position)} texts again: {twice}. Give each text once.")

    def __len__(self) -> int:
        """How many texts it knows."""
        return len(self._position)

    def encode(self, sentences: list[str], /) -> Tensor:
        """The vectors of these texts, (n, dim).

        Raises:
            EncoderError: A text has no vector.
        """
        self.check_texts(sentences)
        return self._embeddings[torch.tensor([self._position[text] for text in sentences], dtype=torch.long, device="cpu")]

    def check_texts(self, sentences: Iterable[str]) -> None:
        """Refuse texts that have no vector, all at once.

        Raises:
            EncoderError: With the first of them.
        """
        wanted = list(sentences)
        missing = [text for text in wanted if text not in self._position]
        if missing:
            raise EncoderError(
                f"The precomputed embeddings lack {len(missing)} of the {len(wanted)} texts that are needed: "
                f"{list_some(repr(text) for text in missing)}. {_HOW}"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write texts and vectors to one safetensors file, which `PrecomputedEncoder.load` reads.

        Raises:
            SaveError: The file cannot be written.
        """
        target = expand_user(path)
        metadata = {"name": self.name, _TEXTS: json.dumps(list(self._position))}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_beside(target) as whole:
                save_file({_TENSOR: self._embeddings}, whole, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise SaveError(f"The embeddings could not be saved to '{target}': {error}. Choose another place.") from error

    @staticmethod
    def load(path: str | os.PathLike[str], *, name: str | None = None) -> PrecomputedEncoder:
        """Read a file of embeddings.

        Args:
            path: A safetensors file that `save` wrote, or an `.npz` with the arrays `texts` (of strings) and `embeddings`, as
                `numpy.savez(path, texts=texts, embeddings=embeddings)` writes it. Nothing is unpickled.
            name: As in `PrecomputedEncoder`; None takes what the file says, or the file's name.

        Raises:
            EncoderError: There is no such file, or it holds something else.
        """
        file = expand_user(path)
        try:
            texts, embeddings, own_name = _read_npz(file) if file.suffix == ".npz" else _read_safetensors(file)
            return PrecomputedEncoder(texts, embeddings, name=name or own_name or file.name)
        except (OSError, EOFError, zipfile.BadZipFile, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise EncoderError(
                f"The embeddings in '{file}' could not be read: {type(error).__name__}: {error!s:.300}. Give a file of "
                "`PrecomputedEncoder.save`, or one of numpy.savez(path, texts=texts, embeddings=embeddings)."
            ) from error


def _check_matrix(embeddings: Any) -> Tensor:
    try:
        matrix = as_matrix(embeddings)
    except ArgumentValueError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"`embeddings` must be an array of numbers, got {type(embeddings).__name__}: {error}") from error
    if matrix.ndim != 2:
        raise ArgumentValueError(f"`embeddings` must have shape (num_texts, dim), got {tuple(matrix.shape)}.")
    return matrix.contiguous()


def _read_npz(file: Path) -> tuple[list[str], Any, None]:
    with np.load(file, allow_pickle=False) as arrays:
        texts = np.asarray(arrays[_TEXTS]).tolist()
        return ([str(text) for text in texts] if isinstance(texts, list) else []), arrays[_TENSOR], None


def _read_safetensors(file: Path) -> tuple[list[str], Tensor, str | None]:
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata() or {}
        texts = json.loads(metadata[_TEXTS])
        return texts, content.get_tensor(_TENSOR).clone(), metadata.get("name")
