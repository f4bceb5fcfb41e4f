"""Scores of a head that was given rows for new classes, from its logits.

Classes are in logit order, seen ones first. Every accuracy is a mean over classes, each of which counts the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.images import accuracy_by_class, harmonic_means, mean_accuracy
from timm_inject.images.evaluation import gzsl_scores

_TOP = 5


@dataclass(frozen=True, slots=True)
class SeenUnseenCurve:
    """What every offset on the new classes' logits would give: (num_points,) accuracies, unseen from 0 up and seen down to 0."""

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

    def points(self, num_points: int) -> tuple[tuple[float, float], ...]:
        """(unseen, seen) of at most so many points, both ends included, for plots."""
        kept = torch.linspace(0, len(self.unseen) - 1, min(num_points, len(self.unseen))).round().long()
        return tuple(
            (round(unseen, 5), round(seen, 5)) for unseen, seen in torch.stack([self.unseen, self.seen])[:, kept].T.tolist()
        )


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
    """Score the logits of images of seen and new classes: (num_images, num_classes), and the (num_images,) true logit indices.

    A class without an image has no accuracy and enters no mean. Of equal logits the class that comes first wins, so a new
    class must beat a seen one to take an image from it.

    Returns:
        The scores, and the curve behind `area`; no curve where seen or new classes have no image.
    """
    is_new = target >= num_seen
    predicted, among_new = _first_argmax(logits), _first_argmax(logits[:, num_seen:]) + num_seen
    names = [str(index) for index in range(logits.shape[1])]
    plain = gzsl_scores(predicted, among_new, target, names=names, num_seen=num_seen)
    curve = None if plain.harmonic_mean is None else seen_unseen_curve(logits, target, num_seen)
    new_logits, new_target = logits[is_new, num_seen:], target[is_new] - num_seen
    is_top = (new_logits > new_logits.gather(1, new_target[:, None])).sum(1) < _TOP
    scores = ZeroShotScores(
        zsl_accuracy=plain.zsl_accuracy,
        zsl_top5=mean_accuracy(accuracy_by_class(torch.where(is_top, new_target, -1), new_target)),
        unseen_accuracy=plain.unseen_accuracy,
        seen_accuracy=plain.seen_accuracy,
        harmonic_mean=plain.harmonic_mean,
        area=curve.area if curve else None,
        best_harmonic_mean=curve.best_harmonic_mean if curve else None,
        image_accuracy=(predicted == target).double().mean().item(),
        moved_share=plain.moved_share,
    )
    return scores, curve


def seen_unseen_curve(logits: Tensor, target: Tensor, num_seen: int) -> SeenUnseenCurve:
    """Sweep one offset on the new classes' logits from where no image goes to them to where every image does."""
    best_seen, best_new = logits[:, :num_seen].amax(1), logits[:, num_seen:].amax(1)
    # An offset above the image's own hands it to the new classes; an equal one leaves it with the seen ones.
    needed = (best_seen - best_new).double()
    is_new = target >= num_seen
    among_own = torch.where(is_new, _first_argmax(logits[:, num_seen:]) + num_seen, _first_argmax(logits[:, :num_seen]))
    _, position, counts = target.unique(return_inverse=True, return_counts=True)
    # What an image adds, when it is right, to the mean over the classes of its group.
    group_size = torch.where(is_new, len(target[is_new].unique()), len(target[~is_new].unique()))
    weight = (among_own == target) / (counts[position] * group_size).double()
    offsets, position = needed.unique(return_inverse=True)
    gained, lost = torch.zeros(2, len(offsets), dtype=torch.float64)
    gained.index_add_(0, position[is_new], weight[is_new])
    lost.index_add_(0, position[~is_new], weight[~is_new])
    start = torch.zeros(1, dtype=torch.float64)
    # Summed from the far end, so that the curve ends at 0 exactly.
    return SeenUnseenCurve(torch.cat([start, gained.cumsum(0)]), torch.cat([lost.flip(0).cumsum(0).flip(0), start]))


def _first_argmax(logits: Tensor) -> Tensor:
    """Argmax with ties to the lowest index; torch's own does not promise which one it takes."""
    last = logits.shape[1] - 1
    # Nothing equals NaN, so an image whose logits are NaN gets the last index.
    return torch.where(logits == logits.amax(1, keepdim=True), torch.arange(last + 1), last).amin(1)
