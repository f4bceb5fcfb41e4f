"""Fit a mapper on the seen classes, and once more on each fold of them, through the cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.cache import content_key, load_or_compute
from timm_inject.mappers.base import Mapper
from timm_inject.mappers.crossfit import Crossfit, crossfit
from timm_inject.mappers.registry import create_mapper
from timm_inject.text import ProgressCallback
from timm_inject.version import ROWS_VERSION

__all__ = ["FittedMapper", "fit_and_crossfit"]

_MAPPER_PREFIX, _CROSSFIT_PREFIX = "mapper/", "crossfit/"


@dataclass(frozen=True, slots=True)
class FittedMapper:
    """A mapper with what calibration needs to know about it.

    Attributes:
        mapper: Fitted on all seen classes.
        descriptors: (num_seen, descriptor_dim), what it was fitted on.
        rows: (num_seen, row_dim), what it was fitted on.
        crossfit: The seen rows as mappers predict them that were fitted without them, with settings chosen on all.
        feature_dim: How many of a row's columns are weights; the rest, if any, is the bias.
        activation: How the head is read: "softmax", "sigmoid" or "sigmoid-top1".
        seed: Of the folds, the mapper and everything that is drawn from it.
    """

    mapper: Mapper
    descriptors: Tensor
    rows: Tensor
    crossfit: Crossfit
    feature_dim: int
    activation: str = "softmax"
    seed: int = 0

    @property
    def has_bias(self) -> bool:
        """Whether a row ends with a bias."""
        return self.rows.shape[1] > self.feature_dim

    @property
    def weights(self) -> Tensor:
        """(num_seen, feature_dim), the rows without the bias."""
        return self.rows[:, : self.feature_dim]


def fit_and_crossfit(
    name: str,
    descriptors: Tensor,
    rows: Tensor,
    *,
    feature_dim: int,
    activation: str = "softmax",
    seed: int = 0,
    unseen_descriptors: Tensor | None = None,
    progress: ProgressCallback | None = None,
) -> FittedMapper:
    """Fit the mapper `name` on all seen classes, and again without each fold of them.

    What it chose on all classes (a kernel's width) it keeps in the folds. These few numbers are chosen by leave-one-out rows, so a
    hidden class has hardly a say in them, and choosing is most of the time that a fit takes.

    Args:
        name: In the registry.
        descriptors: (num_seen, descriptor_dim).
        rows: (num_seen, row_dim).
        feature_dim: How many of a row's columns are weights.
        activation: How the head is read.
        seed: Seeds the folds and the mappers.
        unseen_descriptors: Passed to mappers that use them.
        progress: As in `Mapper.fit`.
    """
    mapper = create_mapper(name)
    unseen = unseen_descriptors if mapper.uses_unseen_descriptors else None

    def compute() -> dict[str, Tensor]:
        fitted = create_mapper(name).fit(descriptors, rows, seed=seed, unseen_descriptors=unseen, progress=progress)
        held_out = crossfit(
            fitted.unfitted,
            descriptors,
            rows,
            num_folds=fitted.num_folds,
            fits=fitted.crossfits,
            seed=seed,
            progress=progress,
        )
        tensors = {_MAPPER_PREFIX + key: tensor for key, tensor in fitted.tensors.items()}
        return tensors | {_CROSSFIT_PREFIX + "fold": held_out.fold, _CROSSFIT_PREFIX + "rows": held_out.rows}

    # The version stands for the code. torch's stands for its kernels' last bits.
    parts: list[str | Tensor] = [ROWS_VERSION, torch.__version__, name, str(seed), descriptors, rows]
    key = content_key(*parts, *([] if unseen is None else [unseen]))
    entry = load_or_compute("mappers", key, compute)
    mapper.tensors = _without_prefix(entry, _MAPPER_PREFIX)
    held_out = _without_prefix(entry, _CROSSFIT_PREFIX)
    return FittedMapper(mapper, descriptors, rows, Crossfit(held_out["fold"], held_out["rows"]), feature_dim, activation, seed)


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
