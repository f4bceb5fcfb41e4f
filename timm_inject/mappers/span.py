"""Rows in coordinates of their own span."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.mappers.base import normalize

__all__ = ["RowSpan"]

_MIN_SHARE = 1e-4  # directions with less than this share of the largest singular value are rounding errors
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class RowSpan:
    """The singular value decomposition of centred rows: rows = coordinates @ basis.

    Attributes:
        coordinates: (num_rows, rank).
        singular: (rank,), falling.
        basis: (rank, row_dim).
    """

    coordinates: Tensor
    singular: Tensor
    basis: Tensor

    @staticmethod
    def of(centred: Tensor) -> RowSpan:
        """Decompose (num_rows, row_dim) rows."""
        # By the smaller table of inner products, much faster than a decomposition of the rows; in double precision, as it squares
        # the values.
        wide = centred.double()
        is_tall = len(centred) > centred.shape[1]
        squares, vectors = torch.linalg.eigh(wide.T @ wide if is_tall else wide @ wide.T)
        singular, vectors = squares.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
        kept = singular > _MIN_SHARE * singular[0].clamp_min(_EPSILON)
        kept[0] = True  # of rows that are all alike, one direction of length 0
        singular, vectors = singular[kept], vectors[:, kept]
        if is_tall:
            basis = vectors.T
            coordinates = wide @ vectors
        else:
            coordinates = vectors * singular
            basis = normalize(vectors.T @ wide)
        return RowSpan(coordinates.float(), singular.float(), basis.float().contiguous())
