"""How good rows for new names will be on this head, tried on its own classes without an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from timm_inject.activation import Activation, resolve_activation
from timm_inject.calibration import CALIBRATIONS, check_rehearsable, rehearse
from timm_inject.class_names import resolve_seen_class_names
from timm_inject.class_texts import resolve_class_texts
from timm_inject.encoder import EncoderSource, resolve_encoder
from timm_inject.errors import ArgumentTypeError, ArgumentValueError
from timm_inject.fitting import FittedMapper
from timm_inject.head import find_head, read_rows, unwrap_model
from timm_inject.mappers import ProgressCallback
from timm_inject.mappers.base import isolated_float32, normalize
from timm_inject.record import find_record
from timm_inject.selection import usual_num_new
from timm_inject.trained_mapper import TrainedMapper, find_trained_mapper, fit_mapper

__all__ = ["ClassSelfScore", "SelfScore", "self_score"]


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
        calibration: "harmonic", "keep-seen" or None.
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
    calibration: str | None
    activation: str
    encoder: str
    classes: tuple[ClassSelfScore, ...] = field(repr=False)  # a thousand of them would fill the screen

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return asdict(self)


def self_score(
    model: nn.Module,
    *,
    num_new: int | None = None,
    seen_class_names: Sequence[str] | str | None = None,
    descriptions: Mapping[str, str | Sequence[str]] | Literal["auto"] | None = "auto",
    encoder: EncoderSource | None = None,
    mapper: str | Path | TrainedMapper = "icis",
    calibration: Literal["harmonic", "keep-seen"] | None = "harmonic",
    activation: Activation | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> SelfScore:
    """Hide seen classes in folds, predict their rows from their names and compare with the truth. No image is read.

    It speaks for names as varied as the seen ones. Names that resemble each other (thirty birds) do worse; what `inject` writes
    into the record as `confidence` is made for the names at hand. In a head of several layers it is the first that is scored.

    Args:
        model: A timm classifier; it is not changed, and injected classes are left out of account.
        num_new: How many classes play new at a time; None takes a fifth of the seen ones, at most 200.
        seen_class_names: As in `inject`.
        descriptions: As in `inject`, for the seen classes.
        encoder: As in `inject`.
        mapper: As in `inject`.
        calibration: As in `inject`.
        activation: As in `inject`.
        seed: Seeds the folds, the mapper and the pseudo-features.
        progress: As in `inject`.

    Raises:
        TimmInjectError: One of its subclasses, as in `inject`; `MapperError` where the head has fewer than 3 seen classes.
    """
    if calibration not in CALIBRATIONS:
        known = ", ".join(repr(name) for name in CALIBRATIONS)
        raise ArgumentValueError(f"`calibration` must be one of {known}, got {calibration!r}.")
    if num_new is not None and (isinstance(num_new, bool) or not isinstance(num_new, int)):
        raise ArgumentTypeError(f"`num_new` must be an int or None, got {type(num_new).__name__}.")
    loaded = resolve_encoder(encoder)
    trained = find_trained_mapper(mapper)
    head = find_head(model)
    plain = unwrap_model(model)
    record = find_record(plain)
    activation = resolve_activation(plain, activation, record, record.num_seen if record else head.num_classes)
    if trained is None:
        trained = fit_mapper(
            model,
            seen_class_names=seen_class_names,
            descriptions=descriptions,
            encoder=encoder,
            mapper=mapper,  # type: ignore[arg-type]  # what is no trained mapper is a name, which fit_mapper checks
            calibration=calibration,
            activation=activation,
            seed=seed,
            progress=progress,
        )
    num_seen = trained.facts.num_seen
    if num_new is not None and not 1 <= num_new <= num_seen // 2:
        raise ArgumentValueError(f"`num_new` must be between 1 and half of the {num_seen} seen classes, got {num_new}.")
    count = head.num_classes if seen_class_names is None else num_seen
    names = resolve_seen_class_names(plain, count, seen_class_names)[:num_seen]
    rows = [read_rows(leaf)[:num_seen] for leaf in head.leaves]
    trained.check_fits(head, rows, resolve_class_texts(names, [], descriptions)[0], loaded, seed)
    fitted = trained.fitted(0, rows[0])
    check_rehearsable(fitted)
    num_new = num_new or usual_num_new(num_seen)
    feature_dim = head.leaves[0].feature_dim
    rehearsed = rehearse(fitted, calibration, feature_dim=feature_dim, num_new=num_new, seed=seed, activation=activation)
    cosine, rank = _compare_rows(fitted, feature_dim)
    hidden = (fitted.crossfit.fold >= 0).nonzero()[:, 0].tolist()
    classes = tuple(
        ClassSelfScore(names[i].name, cosine[i].item(), int(rank[i]), _or_none(rehearsed.accuracy_of_class[i])) for i in hidden
    )
    return SelfScore(
        **rehearsed.scores,
        row_cosine=cosine[hidden].mean().item(),
        median_rank=rank[hidden].double().quantile(0.5).item(),
        num_seen=num_seen,
        num_new=num_new,
        mapper=trained.facts.mapper,
        calibration=calibration,
        activation=activation,
        encoder=loaded.encoder_id,
        classes=classes,
    )


def _compare_rows(fitted: FittedMapper, feature_dim: int) -> tuple[Tensor, Tensor]:
    """(num_seen,) cosine of each predicted row to the true one, and the true one's place among all."""
    with isolated_float32(), torch.no_grad():
        mean = fitted.rows[:, :feature_dim].mean(0)
        true, predicted = fitted.rows[:, :feature_dim] - mean, fitted.crossfit.rows[:, :feature_dim] - mean
        cosine = cosine_similarity(predicted, true, dim=1)
        similarity = normalize(predicted) @ normalize(true).T
        return cosine, 1 + (similarity > similarity.diagonal()[:, None]).sum(1)


def _or_none(value: Tensor) -> float | None:
    return None if value.isnan() else value.item()
