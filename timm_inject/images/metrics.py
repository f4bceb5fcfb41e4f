"""Scores of zero-shot and generalised zero-shot classification."""

import torch
from torch import Tensor

__all__ = ["accuracy_by_class", "harmonic_mean", "harmonic_means", "mean_accuracy"]


def accuracy_by_class(predicted: Tensor, target: Tensor) -> dict[int, float]:
    """Accuracy of each class that occurs in `target`.

    Args:
        predicted: (num_images,) class indices.
        target: (num_images,) class indices.

    Returns:
        Class index -> share of its images that were predicted right, in [0, 1], in index order. A class without an image
        has no accuracy and is absent, so it does not enter a mean.
    """
    classes, positions, counts = target.unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(classes), dtype=torch.float64)
    hits.index_add_(0, positions, (predicted == target).double())
    return dict(zip(classes.tolist(), (hits / counts).tolist(), strict=True))


def mean_accuracy(accuracies: dict[int, float]) -> float | None:
    """The mean over classes, each of which counts the same however many images it has; None for no class."""
    return sum(accuracies.values()) / len(accuracies) if accuracies else None


def harmonic_mean(seen_accuracy: float, unseen_accuracy: float) -> float:
    """Combine seen and unseen accuracy into the GZSL score H = 2su / (s + u).

    Args:
        seen_accuracy: Mean per-class accuracy on seen classes, a fraction in [0, 1].
        unseen_accuracy: The same on unseen classes, both predicted over all classes.

    Returns:
        A fraction in [0, 1]; 0.0 when both inputs are 0, where the formula is undefined.

    Source: Xian et al., "Zero-Shot Learning - The Good, the Bad and the Ugly", CVPR 2017.
    """
    total = seen_accuracy + unseen_accuracy
    return 2 * seen_accuracy * unseen_accuracy / total if total else 0.0


def harmonic_means(seen_accuracy: Tensor, unseen_accuracy: Tensor) -> Tensor:
    """`harmonic_mean` of each pair of entries of two tensors of one shape."""
    # Accuracies are 0 or far above this, so it only keeps 0 / 0 away.
    return 2 * seen_accuracy * unseen_accuracy / (seen_accuracy + unseen_accuracy).clamp_min(1e-12)
