"""Kernel ridge regression, against a plain solve and against leaving one out in a loop; and the default mapper made of it."""

import pytest
import torch
from scipy.stats import special_ortho_group
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from tests.helpers import related_classes
from timm_inject.mappers import kernel_ridge
from timm_inject.mappers.kernel_ridge import cauchy_kernel, leave_one_out_rows, solve_ridge
from timm_inject.mappers.registry import create_mapper


def test_the_cauchy_kernel_is_its_formula():
    descriptors, _ = related_classes(num_classes=6)
    distance = (descriptors[:, None] - descriptors[None]).norm(dim=2)
    assert torch.allclose(cauchy_kernel(descriptors, descriptors, 0.6), 1 / (1 + (distance / 0.6) ** 2), atol=1e-5)


def test_the_solution_is_that_of_a_plain_solve():
    descriptors, rows = related_classes(num_classes=20)
    kernel = cauchy_kernel(descriptors, descriptors, 0.7)
    expected = torch.linalg.solve(kernel.double() + 0.1 * torch.eye(20), rows.double())
    assert torch.allclose(solve_ridge(kernel.clone(), 0.1, rows).double(), expected, atol=1e-3)


def test_predictions_point_where_a_plain_kernel_ridge_does():
    descriptors, rows = related_classes()
    mapper = create_mapper("kernel-ridge").fit(descriptors[:50], rows[:50])
    learned = mapper.tensors
    mean_row, mean = rows[:50].mean(0), descriptors[:50].mean(0)
    placed, new = normalize(descriptors[:50] - mean), normalize(descriptors[50:] - mean)
    kernel = cauchy_kernel(placed, placed, learned["width"].item())
    solved = torch.linalg.solve(kernel + learned["ridge"].item() * torch.eye(50), rows[:50] - mean_row)
    expected = cauchy_kernel(new, placed, learned["width"].item()) @ solved
    predicted = mapper.predict_rows(descriptors[50:]) - mean_row
    assert cosine_similarity(predicted, expected, dim=1).min() > 0.999
    assert torch.allclose(predicted.norm(dim=1), (rows[:50] - mean_row).norm(dim=1).mean().expand(10), rtol=1e-3)


def test_leave_one_out_in_closed_form_is_leaving_one_out():
    """Also of the mean row: with few classes, one that keeps its part in the mean looks far worse than it is."""
    descriptors, rows = related_classes(num_classes=8)
    centred = rows - rows.mean(0)
    kernel = cauchy_kernel(descriptors, descriptors, 0.7)
    fast = leave_one_out_rows(kernel, centred, 0.1)
    for out in range(8):
        kept = torch.arange(8) != out
        others = centred[kept] - centred[kept].mean(0)
        solved = torch.linalg.solve(kernel[kept][:, kept] + 0.1 * torch.eye(7), others)
        assert torch.allclose(fast[out], kernel[out, kept] @ solved, atol=1e-3)


def test_the_kernel_is_sought_from_the_middle_to_the_nearest_best():
    tried = []

    def score(value):
        tried.append(value)
        return {1: 0, 2: 9, 3: 4, 4: 3, 5: 2, 6: 8}[value]

    assert kernel_ridge._climb((1, 2, 3, 4, 5, 6), score) == 2
    assert 6 not in tried
    assert kernel_ridge._climb((1, 2, 3), lambda value: 0) == 2


def test_settings_are_tried_on_a_part_of_a_large_head(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    descriptors = nn.functional.normalize(torch.randn(300, 16, generator=generator))
    rows = torch.randn(300, 20, generator=generator)
    whole = kernel_ridge.choose_kernel(descriptors, rows)
    every_third = kernel_ridge.choose_kernel(descriptors[::3], rows[::3])
    monkeypatch.setattr(kernel_ridge, "_MAX_TRIED", 100)
    assert kernel_ridge.choose_kernel(descriptors, rows) == every_third != whole


def test_the_default_finds_hidden_rows_no_worse_than_plain_kernel_ridge():
    descriptors, rows = related_classes(num_classes=120, descriptor_dim=32, row_dim=48)

    def cosine(name):
        predicted = create_mapper(name).fit(descriptors[:100], rows[:100]).predict_rows(descriptors[100:])
        mean_row = rows[:100].mean(0)
        return cosine_similarity(predicted - mean_row, rows[100:] - mean_row, dim=1).mean()

    assert cosine("icis") >= cosine("kernel-ridge") - 0.02


def test_the_default_takes_roots_of_percentages_and_leaves_other_descriptors_alone():
    """Attributes whose roots decide the rows are told from descriptors that decide them as they are."""
    generator = torch.Generator().manual_seed(0)
    percentages = torch.rand(60, 16, generator=generator) ** 4
    map_ = torch.randn(16, 24, generator=generator)
    roots = normalize(percentages.sqrt(), dim=1)
    percent = create_mapper("icis").fit(normalize(percentages, dim=1), roots @ map_)
    assert percent.tensors["power"].item() == 0.5
    assert create_mapper("icis").fit(*related_classes()).tensors["power"].item() == 1.0


@pytest.mark.parametrize("name", ["icis", "kernel-ridge"])
def test_it_does_not_depend_on_the_rows_common_part(name):
    """Adding one vector to every row changes no prediction of a classifier, so it must not change what is learned."""
    descriptors, rows = related_classes()
    shift = torch.linspace(-1, 1, 24)
    one = create_mapper(name).fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    other = create_mapper(name).fit(descriptors[:50], rows[:50] + shift).predict_rows(descriptors[50:])
    similarity = cosine_similarity(one - rows[:50].mean(0), other - shift - rows[:50].mean(0), dim=1)
    assert similarity.min() > 0.99


def test_it_turns_with_the_feature_space():
    descriptors, rows = related_classes()
    rotation = torch.as_tensor(special_ortho_group.rvs(24, random_state=0)).float()
    one = create_mapper("icis").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    other = create_mapper("icis").fit(descriptors[:50], rows[:50] @ rotation).predict_rows(descriptors[50:])
    mean_row = rows[:50].mean(0)
    assert cosine_similarity(one - mean_row, other @ rotation.T - mean_row, dim=1).min() > 0.99
