"""Embeddings that come with the package: ImageNet-1k's texts by the default encoder.

Most timm heads know these classes, and to embed them takes longer than everything else that `inject` does. The table serves the
encoder whose weights made it, told by the hash of their file, and no other.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["TABLE_NAME", "ShippedEmbeddings", "digest_of_file", "find_shipped_embeddings", "write_table"]

TABLE_NAME = "imagenet-1k-all-MiniLM-L6-v2.safetensors"
_KEYS, _EMBEDDINGS, _WEIGHTS = "keys", "embeddings", "weights_sha256"
# Of a text's hash; among a few thousand texts the odds of two alike are 1 in 10 million million.
_KEY_BYTES = 8


@dataclass(frozen=True, slots=True)
class ShippedEmbeddings:
    """A table text -> embedding; texts are told by their hashes.

    Attributes:
        positions: Hash of a text -> its row.
        embeddings: (num_texts, dim), float16, each of length 1 but for rounding: it moves an embedding by about 0.0003.
    """

    positions: dict[bytes, int]
    embeddings: Tensor

    def find(self, text: str) -> int | None:
        """The row of a text, or None."""
        return self.positions.get(_key(text))


def find_shipped_embeddings(weights: Path | None) -> ShippedEmbeddings | None:
    """The table for the encoder with this weights file, or None where there is none."""
    if weights is None or not weights.is_file():
        return None
    status = weights.stat()
    table, made_with = _read_table()
    return table if _digest_once(weights.resolve(), status.st_size, status.st_mtime_ns) == made_with else None


def write_table(path: Path, texts: Iterable[str], embeddings: Tensor, weights: Path) -> None:
    """Write a table.

    Args:
        path: The file.
        texts: What was embedded.
        embeddings: (num_texts, dim), each of length 1.
        weights: The encoder's weights file.
    """
    keys = torch.tensor([list(_key(text)) for text in texts], dtype=torch.uint8)
    save_file({_KEYS: keys, _EMBEDDINGS: embeddings.half()}, path, {_WEIGHTS: digest_of_file(weights)})


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@functools.cache
def _digest_once(path: Path, size: int, modified: int) -> str:
    """`digest_of_file` of a file in this state."""
    return digest_of_file(path)


@functools.cache
def _read_table() -> tuple[ShippedEmbeddings, str]:
    """The table and the hash of the weights that made it."""
    resource = importlib.resources.files("timm_inject.text") / "data" / TABLE_NAME
    with importlib.resources.as_file(resource) as path, safe_open(path, "pt") as file:
        positions = {bytes(key): position for position, key in enumerate(file.get_tensor(_KEYS).tolist())}
        return ShippedEmbeddings(positions, file.get_tensor(_EMBEDDINGS)), file.metadata()[_WEIGHTS]


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
