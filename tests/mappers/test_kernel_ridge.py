"""Kernel ridge regression, against scikit-learn and against leaving one out in a loop."""

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from torch import nn

from tests.helpers import (
    related_classes,
)
from timm_inject.mappers import kernel_ridge
from timm_inject.mappers.kernel_ridge import gaussian_kernel, leave_one_out_rows
from timm_inject.mappers.registry import create_mapper


def test_kernel_ridge_agrees_with_sklearn():
    descriptors, rows = related_classes()
    mapper = create_mapper("kernel-ridge").fit(descriptors[:50], rows[:50])
    width = mapper.tensors["width"].item()
    centred = rows[:50] - rows[:50].mean(0)
    kernel = gaussian_kernel(descriptors[:50], descriptors[:50], width)
    ridge = next(
        value
        for value in (0.01, 0.03, 0.1, 0.3, 1.0)
        if torch.allclose((kernel + value * torch.eye(50)) @ mapper.tensors["coefficients"], centred, atol=1e-3)
    )
    oracle = KernelRidge(alpha=ridge, kernel="rbf", gamma=1 / (2 * width**2)).fit(descriptors[:50], centred)
    expected = torch.as_tensor(oracle.predict(descriptors[50:])).float() + rows[:50].mean(0)
    assert torch.allclose(mapper.predict_rows(descriptors[50:]), expected, atol=1e-3)


def test_leave_one_out_in_closed_form_is_leaving_one_out():
    descriptors, rows = related_classes(num_classes=12)
    kernel = gaussian_kernel(descriptors, descriptors, 0.7)
    fast = leave_one_out_rows(kernel, rows, 0.1)
    for out in range(12):
        kept = torch.arange(12) != out
        solved = torch.linalg.solve(kernel[kept][:, kept] + 0.1 * torch.eye(11), rows[kept])
        assert torch.allclose(fast[out], kernel[out, kept] @ solved, atol=1e-3)


def test_the_kernel_is_sought_from_the_middle_to_the_nearest_best():
    tried = []

    def score(value):
        tried.append(value)
        return {1: 0, 2: 9, 3: 4, 4: 3, 5: 2, 6: 8}[value]

    assert kernel_ridge.climb((1, 2, 3, 4, 5, 6), score) == 2
    assert 6 not in tried
    assert kernel_ridge.climb((1, 2, 3), lambda value: 0) == 2


def test_settings_of_the_default_mapper_are_tried_on_a_part_of_a_large_head(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    descriptors = nn.functional.normalize(torch.randn(300, 16, generator=generator))
    rows = torch.randn(300, 20, generator=generator)
    whole = kernel_ridge.choose_kernel(descriptors, rows)
    every_third = kernel_ridge.choose_kernel(descriptors[::3], rows[::3])
    monkeypatch.setattr(kernel_ridge, "_MAX_TRIED", 100)
    assert kernel_ridge.choose_kernel(descriptors, rows) == every_third != whole
