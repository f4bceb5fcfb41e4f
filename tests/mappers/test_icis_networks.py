"""The paper's networks, trained in a second."""

import torch

from tests.helpers import related_classes
from timm_inject.mappers import icis_networks
from timm_inject.mappers.registry import create_mapper


def test_large_heads_train_on_a_part_of_their_classes_at_a_time(monkeypatch):
    monkeypatch.setattr(icis_networks, "_MAX_PER_EPOCH", 30)
    seen = []
    loss = icis_networks.icis_loss
    monkeypatch.setattr(
        icis_networks, "icis_loss", lambda networks, d, r, is_seen: seen.append(len(d)) or loss(networks, d, r, is_seen)
    )
    descriptors, rows = related_classes()
    predicted = create_mapper("icis-networks").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    assert set(seen) == {30}
    assert torch.isfinite(predicted).all()


def test_one_seed_gives_one_result_and_leaves_the_global_generator_alone():
    descriptors, rows = related_classes()
    state = torch.get_rng_state()
    one, other = (create_mapper("icis-networks").fit(descriptors, rows, seed=3).predict_rows(descriptors) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(create_mapper("icis-networks").fit(descriptors, rows, seed=4).predict_rows(descriptors), one)
