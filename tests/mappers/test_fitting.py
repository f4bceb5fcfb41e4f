"""A mapper with what calibration needs to know about it, through the cache."""

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.cache import inspect_cache
from timm_inject.mappers.fitting import fit_and_crossfit
from timm_inject.mappers.registry import create_mapper


@pytest.mark.parametrize(("feature_dim", "has_bias"), [(23, True), (24, False)])
def test_it_knows_what_a_row_is_made_of(feature_dim, has_bias):
    descriptors, rows = related_classes(20)
    fitted = fit_and_crossfit("ridge", descriptors, rows, feature_dim=feature_dim, activation="sigmoid", seed=3)
    assert fitted.has_bias == has_bias
    assert torch.equal(fitted.weights, rows[:, :feature_dim])
    assert (fitted.feature_dim, fitted.activation, fitted.seed) == (feature_dim, "sigmoid", 3)


def test_the_whole_is_fitted_on_all_classes_and_the_folds_without_theirs():
    descriptors, rows = related_classes(20)
    fitted = fit_and_crossfit("ridge", descriptors, rows, feature_dim=23)
    whole = create_mapper("ridge").fit(descriptors, rows).predict_rows(descriptors)
    assert torch.equal(fitted.mapper.predict_rows(descriptors), whole)
    assert fitted.crossfit.fold.bincount().tolist() == [4] * 5
    assert (fitted.crossfit.rows - rows).norm() > 1.1 * (whole - rows).norm()


def test_a_second_fit_is_read_from_the_cache_with_every_bit(monkeypatch):
    descriptors, rows = related_classes(20)
    first = fit_and_crossfit("kernel-ridge", descriptors, rows, feature_dim=23, seed=1)
    assert inspect_cache().entries["mappers"] == 1
    fit_and_crossfit("kernel-ridge", descriptors, rows, feature_dim=23, activation="sigmoid", seed=1)
    assert inspect_cache().entries["mappers"] == 1  # how the head is read has no part in it
    monkeypatch.setattr(type(first.mapper), "fit", None)  # not to be called
    again = fit_and_crossfit("kernel-ridge", descriptors, rows, feature_dim=23, seed=1)
    assert all(torch.equal(again.mapper.tensors[key], tensor) for key, tensor in first.mapper.tensors.items())
    assert torch.equal(again.crossfit.rows, first.crossfit.rows)
    with pytest.raises(TypeError):
        fit_and_crossfit("kernel-ridge", descriptors, rows, feature_dim=23, seed=2)


def test_new_descriptors_count_only_for_a_mapper_that_looks_at_them(monkeypatch):
    monkeypatch.setattr("timm_inject.mappers.icis_paper.IcisPaperMapper.max_epochs", 1)
    descriptors, rows = related_classes(20)
    for name, entries in (("ridge", 1), ("icis-paper", 3)):
        for unseen in (descriptors[:2], descriptors[2:4]):
            fit_and_crossfit(name, descriptors, rows, feature_dim=23, unseen_descriptors=unseen)
        assert inspect_cache().entries["mappers"] == entries
