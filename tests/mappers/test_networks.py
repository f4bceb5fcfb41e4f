"""The two encoders and two decoders, and what they are trained to do."""

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.mappers.networks import IcisNetworks, icis_loss


def test_networks_are_as_published():
    networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
    assert networks.descriptor_encoder.out_features == networks.row_encoder.out_features == 2048
    assert networks.row_decoder.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(parameter.any() for name, parameter in networks.named_parameters() if name.endswith("bias"))
    assert networks.dropout == 0


def test_loss_is_the_sum_of_four_cosine_terms():
    networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
    descriptors, rows = related_classes(5, 8, 12)
    cosine = torch.nn.CosineSimilarity(dim=1)
    by_hand = (
        (1 - cosine(networks.descriptor_from_descriptor(descriptors), descriptors)).mean()
        + (1 - cosine(networks.row_from_row(rows), rows)).mean()
        + (1 - cosine(networks.descriptor_from_row(rows), descriptors)).mean()
        + (1 - cosine(networks.row_from_descriptor(descriptors), rows)).mean()
    )
    assert torch.allclose(icis_loss(networks, descriptors, rows, torch.ones(5, dtype=torch.bool)), by_hand)


def test_unseen_descriptors_take_part_in_their_own_reconstruction_alone():
    networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
    descriptors, _ = related_classes(5, 8, 12)
    loss = icis_loss(networks, descriptors, torch.empty(0, 12), torch.zeros(5, dtype=torch.bool))
    loss.backward()
    assert networks.row_encoder.weight.grad is None
    assert networks.row_decoder.weight.grad is None
    assert networks.descriptor_decoder.weight.grad.abs().sum() > 0
