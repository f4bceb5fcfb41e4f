"""Heads to fit on: real rows where the packaged models have them, else made-up ones with a real head's spectrum."""

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks import BenchmarkDataError
from benchmarks.descriptors import encode_names
from timm_inject.head import find_head, read_rows
from timm_inject.mappers import normalize
from timm_inject.offline import create_packaged_model
from timm_inject.text import ClassName, resolve_seen_class_names

_REAL_MODEL, _REAL_SIZE = "tf_efficientnet_lite0", (1000, 1281)
_LABEL_SETS = {1000: "imagenet-1k", 11_821: "imagenet-12k", 21_843: "imagenet-21k-goog"}
_HIDDEN_SHARE, _MAX_HIDDEN = 0.1, 500
# Of the made-up rows: how much of a row its descriptor tells. Set so that held-out cosines are near those on real rows.
_TOLD_SHARE = 0.4


class QuickEncoder:
    """A text is the sum of fixed random vectors of its words: takes no time, so that what is measured is not the encoder."""

    def __init__(self, dim: int = 384) -> None:
        self._table = torch.randn(4096, dim, generator=torch.Generator().manual_seed(0))

    def encode(self, sentences: list[str], /) -> Tensor:
        """(n, dim)."""
        words = [[zlib.crc32(word.encode()) % len(self._table) for word in sentence.split()] or [0] for sentence in sentences]
        offsets = torch.tensor([0, *(len(group) for group in words[:-1])]).cumsum(0)
        flat = torch.tensor([index for group in words for index in group])
        return torch.nn.functional.embedding_bag(flat, self._table, offsets, mode="sum")


@dataclass(frozen=True, slots=True)
class FitProblem:
    """What a mapper learns from, (num_classes, dim), and hidden classes to try it on, (num_hidden, dim).

    Attributes:
        is_real: Whether the rows are a trained head's.
    """

    descriptors: Tensor
    rows: Tensor
    hidden_descriptors: Tensor
    hidden_rows: Tensor
    is_real: bool


def make_problem(num_classes: int, row_dim: int) -> FitProblem:
    """A head of that size, with a tenth more classes, at most 500, that are hidden.

    Names, definitions and places in WordNet are those of ImageNet's classes. The default encoder embeds them where they are few, so
    that quality means something, and `QuickEncoder` for larger heads, as it would take longer than the fit.
    """
    real = read_rows(find_head(create_packaged_model(_REAL_MODEL)).leaves[0])
    is_real = (num_classes, row_dim) == _REAL_SIZE
    num_hidden = max(2, min(_MAX_HIDDEN, round(_HIDDEN_SHARE * num_classes)))
    # A real head has no classes to spare: of its thousand a tenth is hidden, and the rest is learned from.
    total = num_classes if is_real else num_classes + num_hidden
    descriptors = encode_names(class_names(total), None if num_classes <= _REAL_SIZE[0] else QuickEncoder())
    rows = real if is_real else _made_up_rows(descriptors, row_dim, torch.linalg.svdvals(real - real.mean(0)))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    hidden, kept = order[:num_hidden], order[num_hidden:].sort().values
    return FitProblem(descriptors[kept], rows[kept], descriptors[hidden], rows[hidden], is_real)


def score_rows(predicted: Tensor, problem: FitProblem) -> dict[str, float]:
    """How well predicted rows point at those of the hidden classes.

    Returns:
        `cosine`: mean cosine of centred rows. `found`: share of the true rows whose nearest predicted row is their own class's.
    """
    mean = problem.rows.mean(0)
    own, true = predicted - mean, problem.hidden_rows - mean
    nearest = (normalize(true) @ normalize(own).T).argmax(1)
    found = (nearest == torch.arange(len(true))).float().mean().item()
    return {"cosine": cosine_similarity(own, true, dim=1).mean().item(), "found": found}


def class_names(count: int) -> list[ClassName]:
    """So many classes of the smallest ImageNet that has them; up to 500 more than the largest has are made-up kinds."""
    size = next((size for size in _LABEL_SETS if count <= size), max(_LABEL_SETS))
    if count > size + _MAX_HIDDEN:
        raise BenchmarkDataError(f"A head of {count} classes is more than ImageNet has names for, {size}.")
    names = list(resolve_seen_class_names(None, size, _LABEL_SETS[size]))
    return [*names, *(ClassName(f"other {name.name}") for name in names)][:count]


def _made_up_rows(descriptors: Tensor, row_dim: int, spectrum: Tensor) -> Tensor:
    """Rows with that spectrum, stretched to their width, a part of which follows smoothly from the descriptors."""
    generator = torch.Generator().manual_seed(1)
    rank = min(len(descriptors), row_dim) - 1
    waves = torch.randn(descriptors.shape[1], rank, generator=generator) * 2
    told = torch.cos(descriptors @ waves + 6.28 * torch.rand(rank, generator=generator)) * 2**0.5
    mixed = _TOLD_SHARE * told + (1 - _TOLD_SHARE**2) ** 0.5 * torch.randn(len(descriptors), rank, generator=generator)
    places = torch.linspace(0, len(spectrum) - 1, rank).long()
    left, _ = torch.linalg.qr(mixed - mixed.mean(0))
    right, _ = torch.linalg.qr(torch.randn(row_dim, rank, generator=generator))
    scale = (len(descriptors) / _REAL_SIZE[0]) ** 0.5  # a row's length does not depend on how many there are
    return (left * spectrum[places] * scale) @ right.T
