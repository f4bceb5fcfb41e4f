"""Predicted rows for seen classes, each by a mapper that was fitted without that class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.mappers.base import Mapper
from timm_inject.text import ProgressCallback

__all__ = ["MIN_CLASSES", "Crossfit", "assign_folds", "crossfit"]

# With one class held out, a mapper needs two to learn from.
MIN_CLASSES = 3


@dataclass(frozen=True, slots=True)
class Crossfit:
    """Seen classes with a predicted row beside the true one.

    Attributes:
        fold: (num_seen,) int64: the fold in which the class was held out, -1 where it never was.
        rows: (num_seen, row_dim): the predicted row; zeros where `fold` is -1.
    """

    fold: Tensor
    rows: Tensor


def assign_folds(num_classes: int, num_folds: int, generator: torch.Generator) -> Tensor:
    """Deal classes to folds at random, of sizes that differ by at most one: (num_classes,) int64."""
    fold = torch.empty(num_classes, dtype=torch.int64)
    fold[torch.randperm(num_classes, generator=generator)] = torch.arange(num_classes) % num_folds
    return fold


def crossfit(
    create: Callable[[], Mapper],
    descriptors: Tensor,
    rows: Tensor,
    *,
    num_folds: int,
    seed: int,
    fits: int,
    progress: ProgressCallback | None = None,
) -> Crossfit:
    """Hold each fold of the seen classes out in turn and predict its rows; with fewer than 3 classes, none.

    Args:
        create: Makes an unfitted mapper.
        descriptors: (num_seen, descriptor_dim).
        rows: (num_seen, row_dim).
        num_folds: How many folds; at most one a class.
        seed: Deals the folds and seeds the mappers.
        fits: How many of the folds are held out, so many fits it takes.
        progress: Called with the step's name, how many folds are done and how many there are.
    """
    if len(rows) < MIN_CLASSES:
        return Crossfit(torch.full((len(rows),), -1), torch.zeros_like(rows))
    num_folds = min(num_folds, len(rows))
    fold = assign_folds(len(rows), num_folds, torch.Generator().manual_seed(seed))
    predicted = torch.zeros_like(rows)
    fits = min(fits, num_folds)
    for held_out in range(fits):
        out = fold == held_out
        mapper = create()
        unseen_descriptors = descriptors[out] if mapper.uses_unseen_descriptors else None
        mapper.fit(descriptors[~out], rows[~out], seed=seed, unseen_descriptors=unseen_descriptors)
        predicted[out] = mapper.predict_rows(descriptors[out])
        if progress is not None:
            progress("Try the mapper on hidden classes", held_out + 1, fits)
    return Crossfit(torch.where(fold < fits, fold, -1), predicted)
