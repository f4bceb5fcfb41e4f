"""Rows in coordinates of their own span."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
        if len(centred) > 2 * centred.shape[1]:
            # Of many rows the small table of inner products is enough; in double precision, as it squares the values.
            wide = centred.double()
            squares, vectors = torch.linalg.eigh(wide.T @ wide)
            singular, basis = squares.flip(0).clamp_min(0).sqrt().float(), vectors.flip(1).T.float().contiguous()
            coordinates = centred @ basis.T
        else:
            left, singular, basis = torch.linalg.svd(centred, full_matrices=False)
            coordinates = left * singular
        kept = singular > _MIN_SHARE * singular[0].clamp_min(_EPSILON)
        kept[0] = True  # of rows that are all alike, one direction of length 0
        return RowSpan(coordinates[:, kept], singular[kept], basis[kept])
