"""Scores of a head that was given rows for new classes, from its logits.

Classes are in logit order, seen ones first. Every accuracy is a mean over classes, each of which counts the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.images import accuracy_by_class, harmonic_mean, harmonic_means, mean_accuracy

_TOP = 5


@dataclass(frozen=True, slots=True)
class SeenUnseenCurve:
    """What every offset on the new classes' logits would give.

    Attributes:
        unseen: (num_points,) unseen accuracy, rising from 0.
        seen: (num_points,) seen accuracy, falling to 0.
    """

    unseen: Tensor
    seen: Tensor

    @property
    def area(self) -> float:
        """Area under the curve, by trapezoids, in [0, 1]; no choice of an offset can flatter it.

        Source: Chao, Changpinyo, Gong, Sha, "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
        Recognition in the Wild", ECCV 2016, section 4 (AUSUC).
        """
        return torch.trapezoid(self.seen, self.unseen).item()

    @property
    def best_harmonic_mean(self) -> float:
        """The best that an offset chosen on the test images would give: a bound, not a result."""
        return harmonic_means(self.seen, self.unseen).max().item()

    def thinned(self, num_points: int) -> "SeenUnseenCurve":
        """The curve through about so many of its points, both ends included, for plots."""
        if len(self.unseen) <= num_points:
            return self
        kept = torch.linspace(0, len(self.unseen) - 1, num_points).round().long()
        return SeenUnseenCurve(self.unseen[kept], self.seen[kept])


@dataclass(frozen=True, slots=True)
class ZeroShotScores:
    """Fractions in [0, 1]; means over classes. None where there is no image to measure it on.

    Attributes:
        zsl_accuracy: T1: images of new classes, predicted among the new classes only.
        zsl_top5: The same, with the true class among the five best.
        unseen_accuracy: u: images of new classes, predicted over all classes.
        seen_accuracy: s: images of seen classes, predicted over all classes.
        harmonic_mean: H of s and u; 0 where both are 0.
        area: Under the seen-unseen curve.
        best_harmonic_mean: H with the offset that is best on these very images: a bound, not a result.
        image_accuracy: Share of all images that are predicted right over all classes; big classes count more.
        moved_share: Share of the images of seen classes that are predicted as a new class.
    """

    zsl_accuracy: float | None
    zsl_top5: float | None
    unseen_accuracy: float | None
    seen_accuracy: float | None
    harmonic_mean: float | None
    area: float | None
    best_harmonic_mean: float | None
    image_accuracy: float
    moved_share: float | None


def linear_logits(features: Tensor, rows: Tensor) -> Tensor:
    """Logits of (num_images, feature_dim) under (num_classes, feature_dim) rows, or (…, feature_dim + 1) with bias."""
    feature_dim = features.shape[1]
    logits = features @ rows[:, :feature_dim].T
    return logits + rows[:, feature_dim] if rows.shape[1] > feature_dim else logits


def zero_shot_scores(logits: Tensor, target: Tensor, num_seen: int) -> tuple[ZeroShotScores, SeenUnseenCurve | None]:
    """Score the logits of images of seen and new classes.

    A class without an image has no accuracy and enters no mean. Of equal logits the class that comes first wins, so a new
    class must beat a seen one to take an image from it.

    Args:
        logits: (num_images, num_classes).
        target: (num_images,) logit index of the true class.
        num_seen: How many of the classes are seen; they come first.

    Returns:
        The scores, and the curve behind `area`; no curve where seen or new classes have no image.
    """
    is_new = target >= num_seen
    predicted = _first_argmax(logits)
    by_class = accuracy_by_class(predicted, target)
    seen = mean_accuracy({index: value for index, value in by_class.items() if index < num_seen})
    unseen = mean_accuracy({index: value for index, value in by_class.items() if index >= num_seen})
    curve = seen_unseen_curve(logits, target, num_seen) if seen is not None and unseen is not None else None
    new_logits, new_target = logits[is_new, num_seen:], target[is_new] - num_seen
    scores = ZeroShotScores(
        zsl_accuracy=mean_accuracy(accuracy_by_class(_first_argmax(new_logits), new_target)) if len(new_target) else None,
        zsl_top5=_top_accuracy(new_logits, new_target) if len(new_target) else None,
        unseen_accuracy=unseen,
        seen_accuracy=seen,
        harmonic_mean=None if seen is None or unseen is None else harmonic_mean(seen, unseen),
        area=curve.area if curve else None,
        best_harmonic_mean=curve.best_harmonic_mean if curve else None,
        image_accuracy=(predicted == target).double().mean().item(),
        moved_share=(predicted[~is_new] >= num_seen).double().mean().item() if not is_new.all() else None,
    )
    return scores, curve


def seen_unseen_curve(logits: Tensor, target: Tensor, num_seen: int) -> SeenUnseenCurve:
    """Sweep one offset on the new classes' logits from where no image goes to them to where every image does.

    Args:
        logits: (num_images, num_classes), of images of seen and of new classes.
        target: (num_images,) logit index of the true class.
        num_seen: How many of the classes are seen; they come first.
    """
    best_seen, best_new = logits[:, :num_seen].amax(1), logits[:, num_seen:].amax(1)
    # An offset above the image's own hands it to the new classes; an equal one leaves it with the seen ones.
    needed = (best_seen - best_new).double()
    is_new = target >= num_seen
    right = torch.where(
        is_new, _first_argmax(logits[:, num_seen:]) + num_seen == target, _first_argmax(logits[:, :num_seen]) == target
    )
    weight = _class_mean_weights(target, is_new) * right
    offsets, position = needed.unique(return_inverse=True)
    gained = torch.zeros(len(offsets), dtype=torch.float64).index_add_(0, position[is_new], weight[is_new])
    lost = torch.zeros(len(offsets), dtype=torch.float64).index_add_(0, position[~is_new], weight[~is_new])
    start = torch.zeros(1, dtype=torch.float64)
    unseen = torch.cat([start, gained.cumsum(0)])
    # Summed from the far end, so that the curve ends at 0 exactly.
    seen = torch.cat([lost.flip(0).cumsum(0).flip(0), start])
    return SeenUnseenCurve(unseen, seen)


def _class_mean_weights(target: Tensor, is_new: Tensor) -> Tensor:
    """What each image adds, when it is right, to the mean over the classes of its group."""
    _, position, counts = target.unique(return_inverse=True, return_counts=True)
    num_new = len(target[is_new].unique())
    num_seen = len(target[~is_new].unique())
    of_group = torch.where(is_new, float(max(num_new, 1)), float(max(num_seen, 1))).double()
    return 1 / (counts[position].double() * of_group)


def _first_argmax(logits: Tensor) -> Tensor:
    """Argmax with ties to the lowest index; torch's own does not promise which one it takes."""
    last = logits.shape[1] - 1
    # Nothing equals NaN, so an image whose logits are NaN gets the last index.
    return torch.where(logits == logits.amax(1, keepdim=True), torch.arange(last + 1), last).amin(1)


def _top_accuracy(logits: Tensor, target: Tensor) -> float | None:
    rank = (logits > logits.gather(1, target[:, None])).sum(1)
    by_class = accuracy_by_class(torch.where(rank < _TOP, target, -1), target)
    return mean_accuracy(by_class)
