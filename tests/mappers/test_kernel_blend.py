"""Several kernels, each with a share."""

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.mappers import kernel_blend, kernel_ridge
from timm_inject.mappers.kernel_blend import KernelBlend, Texts, choose_blend
from timm_inject.mappers.kernel_ridge import gaussian_kernel


def test_a_blend_is_the_sum_of_its_kernels():
    descriptors, _ = related_classes(30)
    new, _ = related_classes(40)
    # The largest share is of the root, the largest sum of shares of the descriptors as they are.
    powers, widths, shares = torch.tensor([[1.0, 0.4, 0.3], [0.5, 0.9, 0.4], [1.0, 0.7, 0.3]], dtype=torch.float64).T
    blend = KernelBlend(powers, widths, shares)
    expected = torch.zeros(40, 30)
    for power, width, share in zip(powers.tolist(), widths.tolist(), shares.tolist(), strict=True):
        texts = Texts.of(descriptors, power)
        expected += share * gaussian_kernel(texts.centred_of(new), texts.centred, width)
    assert torch.allclose(blend.kernel(new, blend.texts_of(descriptors)), expected, atol=1e-6)
    assert torch.allclose(blend.kernel(descriptors, blend.texts_of(descriptors)).diagonal(), torch.ones(30), atol=1e-5)
    assert blend.main_power == 1.0


def test_half_of_a_kernel_is_enough_to_solve(monkeypatch):
    monkeypatch.setattr(kernel_blend, "_CHUNK", 7)  # several parts
    descriptors, rows = related_classes(30)
    blend, _ = choose_blend(descriptors, rows, (1.0, 0.5))
    texts = blend.texts_of(descriptors)
    whole, half = blend.kernel(descriptors, texts), blend.kernel(descriptors, texts, upper_only=True)
    assert torch.allclose(half.triu(), whole.triu(), atol=1e-6)
    assert (half[21:, :14] == 0).all()
    expected = torch.linalg.solve(whole.double() + 0.1 * torch.eye(30), rows.double()).float()
    assert torch.allclose(kernel_ridge.solve_ridge(half, 0.1, rows), expected, atol=1e-4)


def test_shares_fall_with_what_a_kernel_predicts_worse_and_the_best_can_have_all():
    descriptors, rows = related_classes(40)
    coordinates = rows - rows.mean(0)
    blend, ridge = choose_blend(descriptors, coordinates, (1.0,))
    only, _ = choose_blend(descriptors, coordinates, (1.0,), only_best=True)
    assert len(blend.widths) > 1 == len(only.widths)
    assert blend.shares.sum().item() == pytest.approx(1.0)
    assert only.widths[0] == blend.widths[blend.shares.argmax()]
    kernels = [gaussian_kernel(*[Texts.of(descriptors, 1.0).centred] * 2, width) for width in blend.widths.tolist()]
    cosines = torch.tensor([kernel_ridge.mean_cosine(kernel, coordinates, kernel_ridge.MIDDLE_RIDGE) for kernel in kernels])
    log_ratios = blend.shares.log() - blend.shares.log()[0]
    assert torch.allclose(log_ratios.float(), 3 * 40 * (cosines - cosines[0]), atol=1e-2)
    assert ridge in kernel_ridge.RIDGES


def test_powers_that_start_far_from_the_best_are_left_out(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    percentages = torch.rand(60, 16, generator=generator) ** 4
    rows = torch.nn.functional.normalize(percentages.sqrt(), dim=1) @ torch.randn(16, 24, generator=generator)
    coordinates = rows - rows.mean(0)
    started, searched = [], []
    of = kernel_blend.KernelScores
    start, search = of.start_cosine, of.best_width
    monkeypatch.setattr(of, "start_cosine", lambda self: started.append(id(self)) or start(self))
    monkeypatch.setattr(of, "best_width", lambda self: searched.append(id(self)) or search(self))
    blend, _ = choose_blend(percentages, coordinates, (1.0, 0.5))
    assert len(set(started)) == 2
    assert len(searched) == 1
    assert set(blend.powers.tolist()) == {0.5}


def test_the_best_kernel_alone_is_the_best_of_all_powers(monkeypatch):
    monkeypatch.setattr(kernel_blend, "_SHARPNESS", 1e-3)  # all powers take part, with about equal shares
    generator = torch.Generator().manual_seed(0)
    percentages = torch.rand(60, 16, generator=generator) ** 4
    rows = torch.nn.functional.normalize(percentages.sqrt(), dim=1) @ torch.randn(16, 24, generator=generator)
    coordinates = rows - rows.mean(0)
    blend, _ = choose_blend(percentages, coordinates, (1.0, 0.5))
    only, _ = choose_blend(percentages, coordinates, (1.0, 0.5), only_best=True)
    assert set(blend.powers.tolist()) == {1.0, 0.5}
    assert only.powers.tolist() == [0.5]
    assert only.widths[0] == blend.widths[blend.shares.argmax()]
    assert only.shares.tolist() == [1.0]


def test_large_heads_choose_by_evenly_spaced_classes(monkeypatch):
    descriptors, rows = related_classes(90)
    coordinates = rows - rows.mean(0)
    few, ridge = choose_blend(descriptors[::3], coordinates[::3], (1.0, 0.5))
    monkeypatch.setattr(kernel_ridge, "_MAX_TRIED", 30)
    many, same_ridge = choose_blend(descriptors, coordinates, (1.0, 0.5))
    assert many.powers.tolist() == few.powers.tolist()
    assert same_ridge == ridge
    # Descriptors are centred on the mean of all classes here, so that widths and shares are near and not the same.
    assert torch.allclose(many.widths, few.widths, rtol=0.1)
    assert torch.allclose(many.shares, few.shares, atol=0.1)
