"""The method as published."""

import torch

from tests.helpers import related_classes
from timm_inject.mappers.icis_paper import IcisPaperMapper, has_converged


def test_training_follows_the_recipe(monkeypatch):
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


def test_slope_rule():
    falling = [4 - 0.01 * epoch for epoch in range(100)]
    flat = [1.0] * 25
    assert not any(has_converged(falling[:end]) for end in range(100))
    assert not any(has_converged(flat[:end]) for end in range(25))
    assert has_converged(flat)  # epochs 21 to 25 are flat
    # 2e-3 an epoch is the limit, and it is not reached while one of the last five epochs is above it.
    assert has_converged([4 - 0.0019 * epoch for epoch in range(25)])
    assert not has_converged([4 - 0.0021 * epoch for epoch in range(25)])
