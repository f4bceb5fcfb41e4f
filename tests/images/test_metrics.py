import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from timm_inject.images.metrics import accuracy_by_class, harmonic_mean, mean_accuracy


def test_mean_per_class_accuracy_agrees_with_sklearn():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 7, (500,), generator=generator)
    predicted = torch.where(torch.rand(500, generator=generator) < 0.6, target, (target + 1) % 7)
    by_class = accuracy_by_class(predicted, target)
    assert mean_accuracy(by_class) == pytest.approx(balanced_accuracy_score(target, predicted))
    for index, value in by_class.items():
        chosen = target == index
        assert value == pytest.approx(accuracy_score(target[chosen], predicted[chosen]))


def test_a_class_without_images_has_no_accuracy():
    assert accuracy_by_class(torch.tensor([0, 2]), torch.tensor([0, 0])) == {0: 0.5}


def test_no_class_has_no_mean():
    assert mean_accuracy(accuracy_by_class(torch.tensor([]), torch.tensor([]))) is None


@pytest.mark.parametrize(("seen", "unseen", "expected"), [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.0, 0.0), (0.6, 0.3, 0.4)])
def test_harmonic_mean(seen, unseen, expected):
    assert harmonic_mean(seen, unseen) == pytest.approx(expected)
