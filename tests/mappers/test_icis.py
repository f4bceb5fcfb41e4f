"""The default mapper."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import special_ortho_group

from tests.helpers import related_classes
from timm_inject.mappers import icis
from timm_inject.mappers.kernel_blend import choose_blend
from timm_inject.mappers.registry import create_mapper


def test_icis_finds_hidden_rows_no_worse_than_kernel_ridge():
    descriptors, rows = related_classes(num_classes=120, descriptor_dim=32, row_dim=48)

    def cosine(name):
        predicted = create_mapper(name).fit(descriptors[:100], rows[:100]).predict_rows(descriptors[100:])
        mean_row = rows[:100].mean(0)
        return torch.nn.functional.cosine_similarity(predicted - mean_row, rows[100:] - mean_row, dim=1).mean()

    assert cosine("icis") >= cosine("kernel-ridge") - 0.02


def test_icis_takes_roots_of_percentages_and_leaves_other_descriptors_alone():
    """Attributes whose roots decide the rows are told from descriptors that decide them as they are."""
    generator = torch.Generator().manual_seed(0)
    percentages = torch.rand(60, 16, generator=generator) ** 4
    map_ = torch.randn(16, 24, generator=generator)
    roots = torch.nn.functional.normalize(percentages.sqrt(), dim=1)
    percent = create_mapper("icis").fit(torch.nn.functional.normalize(percentages, dim=1), roots @ map_)
    assert set(percent.tensors["powers"].tolist()) == {0.5}
    descriptors, rows = related_classes()
    assert _share_of_power(create_mapper("icis").fit(descriptors, rows), 1.0) > 0.5


def _share_of_power(mapper, power):
    return mapper.tensors["shares"][mapper.tensors["powers"] == power].sum().item()


def test_the_mix_gets_a_weight_where_it_finds_rows_that_kernel_ridge_does_not():
    descriptors, rows = related_classes()
    coordinates = rows - rows.mean(0)
    weights = icis.IcisParts().mix_weights
    good, ridge = choose_blend(descriptors, coordinates, (1.0,))
    blind = replace(good, widths=torch.full_like(good.widths, 1e-3))  # sees each class alone: predicts nothing for the others
    assert icis._choose_mix_weight(descriptors, coordinates, good, ridge, weights) == 0.0
    assert icis._choose_mix_weight(descriptors, coordinates, blind, ridge, weights) > 0.0


def test_the_mix_gets_no_weight_for_a_gain_that_may_be_chance(monkeypatch):
    descriptors, rows = related_classes(30)
    rows = rows + 2.0 * rows.std() * torch.randn(rows.shape, generator=torch.Generator().manual_seed(6))
    coordinates, weights = rows - rows.mean(0), icis.IcisParts().mix_weights
    blend, ridge = choose_blend(descriptors, coordinates, (1.0,))
    assert icis._choose_mix_weight(descriptors, coordinates, blend, ridge, weights) == 0.0
    monkeypatch.setattr(icis, "_CLEAR", 0.0)
    assert icis._choose_mix_weight(descriptors, coordinates, blend, ridge, weights) > 0.0  # on average it had looked better


def test_networks_weigh_less_with_few_classes(monkeypatch):
    descriptors, rows = related_classes(50)
    monkeypatch.setattr(icis, "_ENOUGH_FOR_NETWORKS", 40)
    weights = [create_mapper("icis").fit(descriptors[:n], rows[:n]).tensors["network_weight"].item() for n in (10, 40, 50)]
    full = icis.IcisParts().network_weight
    assert weights == pytest.approx([full / 4, full, full])


def test_a_handful_of_classes_is_too_few_for_the_mix():
    """However clear it looks: a few ranks that all gain alike have no spread at all."""
    descriptors, rows = related_classes()
    coordinates, weights = rows - rows.mean(0), icis.IcisParts().mix_weights
    good, ridge = choose_blend(descriptors, coordinates, (1.0,))
    blind = replace(good, widths=torch.full_like(good.widths, 1e-3))
    few = slice(0, icis._FEWEST_FOR_MIX)
    assert icis._choose_mix_weight(descriptors[few], coordinates[few], blind, ridge, weights) > 0.0
    fewer = slice(1, icis._FEWEST_FOR_MIX)
    assert icis._choose_mix_weight(descriptors[fewer], coordinates[fewer], blind, ridge, weights) == 0.0


def test_large_heads_train_on_a_part_of_their_classes_at_a_time(monkeypatch):
    monkeypatch.setattr(icis, "_MAX_PER_EPOCH", 30)
    seen = []
    original = icis.icis_loss
    monkeypatch.setattr(icis, "icis_loss", lambda networks, d, r, is_seen: seen.append(len(d)) or original(networks, d, r, is_seen))
    descriptors, rows = related_classes()
    predicted = create_mapper("icis").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    assert set(seen) == {30}
    assert torch.isfinite(predicted).all()


def test_icis_does_not_depend_on_the_rows_common_part():
    """Adding one vector to every row changes no prediction of a classifier, so it must not change what is learned."""
    descriptors, rows = related_classes()
    shift = torch.linspace(-1, 1, 24)
    one = create_mapper("icis").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    other = create_mapper("icis").fit(descriptors[:50], rows[:50] + shift).predict_rows(descriptors[50:])
    similarity = torch.nn.functional.cosine_similarity(one - rows[:50].mean(0), other - shift - rows[:50].mean(0), dim=1)
    assert similarity.min() > 0.99


def test_icis_turns_with_the_feature_space():
    descriptors, rows = related_classes()
    rotation = torch.as_tensor(special_ortho_group.rvs(24, random_state=0)).float()
    one = create_mapper("icis").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    other = create_mapper("icis").fit(descriptors[:50], rows[:50] @ rotation).predict_rows(descriptors[50:])
    mean_row = rows[:50].mean(0)
    similarity = torch.nn.functional.cosine_similarity(one - mean_row, other @ rotation.T - mean_row, dim=1)
    assert similarity.min() > 0.9  # the networks start from other random weights
