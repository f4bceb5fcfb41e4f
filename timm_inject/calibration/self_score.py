"""How good rows for new names will be on this head, tried on its own classes without an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from timm_inject.calibration.rows import check_rehearsable, rehearse, usual_num_new
from timm_inject.errors import ArgumentTypeError, ArgumentValueError
from timm_inject.mappers import FittedMapper, isolated_float32, normalize

__all__ = ["ClassSelfScore", "SelfScore", "score_hidden_classes"]


@dataclass(frozen=True, slots=True)
class ClassSelfScore:
    """How one seen class did while it was hidden.

    Attributes:
        name: Of the class.
        cosine: Between its predicted row and its true one, both about the mean of the seen rows.
        rank: Place of its true row among all seen rows, by their cosine to the predicted one; 1 is first.
        accuracy: Share of its pseudo-features that the predicted row wins over all classes, a fraction in [0, 1]; None where it
            was not among the classes tried.
    """

    name: str
    cosine: float
    rank: int
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class SelfScore:
    """Image-free estimates for new classes as varied as the seen ones; fractions in [0, 1].

    Attributes:
        zsl_accuracy: Among the new classes.
        seen_accuracy: Of seen classes, over all.
        unseen_accuracy: Of new classes, over all.
        harmonic_mean: Of these two.
        row_cosine: Mean over classes of `ClassSelfScore.cosine`.
        median_rank: Median over classes of `ClassSelfScore.rank`.
        num_seen: Classes of the head.
        num_new: How many of them played new at a time.
        mapper: Registry name.
        calibration: "balanced", "harmonic", "keep-seen", a share or None.
        activation: "softmax", "sigmoid" or "sigmoid-top1".
        encoder: Id of the text encoder.
        classes: One entry a seen class that was hidden, in logit order.
    """

    zsl_accuracy: float
    seen_accuracy: float
    unseen_accuracy: float
    harmonic_mean: float
    row_cosine: float
    median_rank: float
    num_seen: int
    num_new: int
    mapper: str
    calibration: str | float | None
    activation: str
    encoder: str
    classes: tuple[ClassSelfScore, ...] = field(repr=False)  # a thousand of them would fill the screen

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return asdict(self)


def score_hidden_classes(
    fitted: FittedMapper, names: Sequence[str], calibration: str | float | None, *, num_new: int | None, mapper: str, encoder: str
) -> SelfScore:
    """Score rows that were predicted for seen classes while these were hidden.

    Args:
        fitted: Of the head's first layer.
        names: Of the seen classes.
        calibration: As in `inject`.
        num_new: How many classes play new at a time; None takes a fifth of the seen ones, at most 200.
        mapper: Registry name, for the report.
        encoder: Id of the text encoder, for the report.

    Raises:
        ArgumentTypeError, ArgumentValueError: `num_new` is no int, or out of range.
        MapperError: The head has fewer than 3 seen classes.
    """
    num_seen = len(names)
    if num_new is not None and (isinstance(num_new, bool) or not isinstance(num_new, int)):
        raise ArgumentTypeError(f"`num_new` must be an int or None, got {type(num_new).__name__}.")
    if num_new is not None and not 1 <= num_new <= num_seen // 2:
        raise ArgumentValueError(f"`num_new` must be between 1 and half of the {num_seen} seen classes, got {num_new}.")
    check_rehearsable(fitted)
    num_new = num_new or usual_num_new(num_seen)
    rehearsed = rehearse(fitted, calibration, num_new=num_new)
    cosine, rank = _compare_rows(fitted)
    hidden = (fitted.crossfit.fold >= 0).nonzero()[:, 0].tolist()
    classes = tuple(
        ClassSelfScore(names[i], cosine[i].item(), int(rank[i]), _or_none(rehearsed.accuracy_of_class[i])) for i in hidden
    )
    return SelfScore(
        **rehearsed.scores,
        row_cosine=cosine[hidden].mean().item(),
        median_rank=rank[hidden].double().quantile(0.5).item(),
        num_seen=num_seen,
        num_new=num_new,
        mapper=mapper,
        calibration=calibration,
        activation=fitted.activation,
        encoder=encoder,
        classes=classes,
    )


def _compare_rows(fitted: FittedMapper) -> tuple[Tensor, Tensor]:
    """(num_seen,) cosine of each predicted row to the true one, and the true one's place among all."""
    with isolated_float32(), torch.no_grad():
        mean = fitted.weights.mean(0)
        true, predicted = fitted.weights - mean, fitted.crossfit.rows[:, : fitted.feature_dim] - mean
        cosine = cosine_similarity(predicted, true, dim=1)
        similarity = normalize(predicted) @ normalize(true).T
        return cosine, 1 + (similarity > similarity.diagonal()[:, None]).sum(1)


def _or_none(value: Tensor) -> float | None:
    return None if value.isnan() else value.item()
