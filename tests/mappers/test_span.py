"""Rows in the coordinates of their own span."""

import torch

from timm_inject.mappers.span import RowSpan


def test_many_rows_and_few_have_the_same_span():
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    rows -= rows.mean(0)
    many, svd = RowSpan.of(rows), torch.linalg.svdvals(rows)
    assert torch.allclose(many.singular, svd, atol=1e-4)
    assert torch.allclose(many.coordinates @ many.basis, rows, atol=1e-4)
    wide = RowSpan.of(rows.T - rows.T.mean(0))
    assert torch.allclose(wide.coordinates @ wide.basis, rows.T - rows.T.mean(0), atol=1e-4)
