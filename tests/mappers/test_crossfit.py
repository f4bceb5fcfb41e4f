"""Seen rows as mappers predict them that were fitted without them."""

import torch

from tests.helpers import related_classes
from timm_inject.mappers.crossfit import assign_folds, crossfit
from timm_inject.mappers.registry import create_mapper


def test_crossfit_predicts_every_class_without_itself():
    descriptors, rows = related_classes(20)
    result = crossfit(lambda: create_mapper("kernel-ridge"), descriptors, rows, num_folds=5, fits=5, seed=0)
    assert result.fold.bincount().tolist() == [4] * 5
    changed = rows.clone()
    out = result.fold == 2
    changed[out] = torch.randn(4, 24, generator=torch.Generator().manual_seed(1))
    again = crossfit(lambda: create_mapper("kernel-ridge"), descriptors, changed, num_folds=5, fits=5, seed=0)
    assert torch.equal(result.rows[out], again.rows[out])  # the hidden rows had no say in their prediction
    assert not torch.equal(result.rows[~out], again.rows[~out])


def test_crossfit_of_a_slow_mapper_holds_out_what_it_says():
    descriptors, rows = related_classes(20)
    result = crossfit(lambda: create_mapper("mean-row"), descriptors, rows, num_folds=5, fits=1, seed=0)
    assert sorted(result.fold.unique().tolist()) == [-1, 0]
    assert (result.fold == 0).sum() == 4


def test_folds_differ_by_at_most_one():
    sizes = assign_folds(23, 5, torch.Generator().manual_seed(0)).bincount()
    assert sorted(sizes.tolist()) == [4, 4, 5, 5, 5]
