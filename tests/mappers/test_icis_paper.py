"""The method as published."""

import pytest
import torch

from tests.helpers import related_classes
from timm_inject.mappers.icis_paper import IcisPaperMapper, has_converged
from timm_inject.mappers.networks import IcisNetworks, icis_loss


class TestPaper:
    def test_networks_are_as_published(self):
        networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
        assert networks.descriptor_encoder.out_features == networks.row_encoder.out_features == 2048
        assert networks.row_decoder.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not any(parameter.any() for name, parameter in networks.named_parameters() if name.endswith("bias"))
        assert networks.dropout == 0

    def test_loss_is_the_sum_of_four_cosine_terms(self):
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

    def test_unseen_descriptors_take_part_in_their_own_reconstruction_alone(self):
        networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
        descriptors, _ = related_classes(5, 8, 12)
        loss = icis_loss(networks, descriptors, torch.empty(0, 12), torch.zeros(5, dtype=torch.bool))
        loss.backward()
        assert networks.row_encoder.weight.grad is None
        assert networks.row_decoder.weight.grad is None
        assert networks.descriptor_decoder.weight.grad.abs().sum() > 0

    def test_training_follows_the_recipe(self, monkeypatch):
        steps = []
        original = torch.optim.Adam

        class Recorded(original):
            def __init__(self, parameters, lr, **options):
                steps.append(lr)
                super().__init__(parameters, lr=lr, **options)

            def step(self, *arguments):
                steps.append("step")
                return super().step(*arguments)

        monkeypatch.setattr(torch.optim, "Adam", Recorded)
        descriptors, rows = related_classes(20, 8, 12)
        progress = []
        mapper = IcisPaperMapper().fit(
            descriptors, rows, unseen_descriptors=descriptors[:3], progress=lambda *step: progress.append(step)
        )
        epochs = int(mapper.tensors["num_epochs"])
        assert steps[0] == 1e-5
        assert steps.count("step") == 2 * epochs  # 23 classes in batches of 16
        assert progress[0] == ("Train the mapper", 1, 1000)
        assert 25 <= epochs <= 1000
        assert mapper.predict_rows(descriptors[:2]).shape == (2, 12)

    def test_slope_rule(self):
        falling = [4 - 0.01 * epoch for epoch in range(100)]
        flat = [1.0] * 25
        assert not any(has_converged(falling[:end]) for end in range(100))
        assert not any(has_converged(flat[:end]) for end in range(25))
        assert has_converged(flat)  # epochs 21 to 25 are flat
        # 2e-3 an epoch is the limit, and it is not reached while one of the last five epochs is above it.
        assert has_converged([4 - 0.0019 * epoch for epoch in range(25)])
        assert not has_converged([4 - 0.0021 * epoch for epoch in range(25)])
