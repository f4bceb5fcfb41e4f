"""Every mapper of the registry."""

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.mappers.registry import MAPPERS, create_mapper, mapper_names

FAST = [name for name in MAPPERS if name != "icis-paper"]


def test_registry_has_what_the_documentation_names():
    assert mapper_names() == [
        "icis", "icis-paper", "icis-networks", "kernel-ridge", "ridge", "wavg", "smo", "costa", "conse", "mean-row",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FAST)
def test_fitted_mapper_predicts_finite_rows_and_survives_its_tensors(name):
    descriptors, rows = related_classes()
    mapper = create_mapper(name).fit(descriptors[:50], rows[:50])
    predicted = mapper.predict_rows(descriptors[50:])
    assert predicted.shape == (10, 24)
    assert torch.isfinite(predicted).all()
    copy = create_mapper(name)
    copy.tensors = {key: tensor.clone() for key, tensor in mapper.tensors.items()}
    assert torch.equal(copy.predict_rows(descriptors[50:]), predicted)


@pytest.mark.parametrize("name", [name for name in FAST if name != "mean-row"])
def test_hidden_rows_are_found_better_than_by_chance(name):
    descriptors, rows = related_classes()
    predicted = create_mapper(name).fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    mean_row = rows[:50].mean(0)
    similarity = (
        torch.nn.functional.normalize(rows[50:] - mean_row, dim=1) @ torch.nn.functional.normalize(predicted - mean_row, dim=1).T
    )
    assert (similarity.argmax(1) == torch.arange(10)).float().mean() >= 0.3  # chance: 0.1


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("num_seen", [2, 3, 7])
def test_a_few_seen_classes_are_enough_to_run(name, num_seen):
    descriptors, rows = related_classes()
    predicted = create_mapper(name).fit(descriptors[:num_seen], rows[:num_seen]).predict_rows(descriptors[10:12])
    assert torch.isfinite(predicted).all()


@pytest.mark.parametrize("name", FAST)
def test_identical_descriptors_do_not_break_it(name):
    _, rows = related_classes(num_classes=8)
    descriptors = torch.ones(8, 4) / 2
    assert torch.isfinite(create_mapper(name).fit(descriptors, rows).predict_rows(descriptors)).all()


@pytest.mark.parametrize("name", FAST)
def test_rows_that_are_all_alike_do_not_break_it(name):
    descriptors, _ = related_classes(num_classes=30)
    assert torch.isfinite(create_mapper(name).fit(descriptors, torch.ones(30, 6)).predict_rows(descriptors)).all()
