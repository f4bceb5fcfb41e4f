"""Write the embeddings that come with the package: `python -m tools.shipped_table`.

To be run when the default encoder, the texts of ImageNet-1k or the rule that makes sentences of them change; a test says so.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import timm_inject
from timm_inject.mappers.base import normalize
from timm_inject.offline import packaged_encoder_directory
from timm_inject.text.descriptors import sentences_of
from timm_inject.text.encoder import resolve_encoder
from timm_inject.text.names import resolve_seen_class_names
from timm_inject.text.shipped_embeddings import TABLE_NAME, write_table
from timm_inject.text.texts import resolve_class_texts

PATH = Path(timm_inject.__file__).parent / "text" / "data" / TABLE_NAME


def imagenet_texts() -> list[str]:
    """Every sentence that `inject` encodes for the classes of an ImageNet-1k head, once, in a fixed order."""
    texts, _ = resolve_class_texts(resolve_seen_class_names(None, 1000, "imagenet-1k"), [])
    return sorted({sentence for text in texts for sentence in sentences_of(text)}, key=lambda sentence: (len(sentence), sentence))


def embed(texts: list[str]) -> Tensor:
    """(num_texts, dim), each of length 1, by the default encoder itself."""
    return normalize(torch.as_tensor(resolve_encoder(None).load().encode(texts), dtype=torch.float32))


if __name__ == "__main__":
    folder = packaged_encoder_directory()
    assert folder is not None, "the extra `offline` is not installed"
    PATH.parent.mkdir(exist_ok=True)
    texts = imagenet_texts()
    write_table(PATH, texts, embed(texts), folder / "model.safetensors")
    print(f"{PATH}: {len(texts)} texts, {PATH.stat().st_size / 1e6:.1f} MB")
