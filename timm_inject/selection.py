"""`mapper="auto"`: the mapper that does best on hidden seen classes of this very head, with these very descriptors."""

from __future__ import annotations

from torch import Tensor

from timm_inject.calibration import rehearse
from timm_inject.fitting import fit_and_crossfit
from timm_inject.mappers import ProgressCallback
from timm_inject.mappers.crossfit import MIN_CLASSES

__all__ = ["AUTO", "CANDIDATES", "choose_mapper", "usual_num_new"]

AUTO = "auto"
# Those that are quick to fit and that each do best somewhere; the default comes first and wins ties.
CANDIDATES = ("icis", "kernel-ridge", "ridge", "wavg")
_MAX_NEW = 200


def choose_mapper(
    descriptors: Tensor,
    rows: Tensor,
    *,
    feature_dim: int,
    calibration: str | None,
    seed: int,
    activation: str = "softmax",
    progress: ProgressCallback | None = None,
) -> str:
    """The candidate with the best image-free harmonic mean, or without a calibration the best accuracy among hidden classes.

    Args:
        descriptors: (num_seen, descriptor_dim).
        rows: (num_seen, row_dim), of the head's first layer.
        feature_dim: How many of a row's columns are weights.
        calibration: As in `inject`.
        seed: As in `inject`.
        activation: As `resolve_activation` gives it.
        progress: As in `Mapper.fit`.

    Returns:
        A name from the registry; the default where there are too few classes to hide any.
    """
    if len(rows) < MIN_CLASSES:
        return CANDIDATES[0]
    figure = "zsl_accuracy" if calibration is None else "harmonic_mean"

    def score(name: str) -> float:
        fitted = fit_and_crossfit(name, descriptors, rows, seed=seed, progress=progress)
        num_new = usual_num_new(len(rows))
        rehearsed = rehearse(fitted, calibration, feature_dim=feature_dim, num_new=num_new, seed=seed, activation=activation)
        return rehearsed.scores[figure]

    return max(CANDIDATES, key=score)


def usual_num_new(num_seen: int) -> int:
    """How many classes play new where nobody says: one fold of five, at most 200."""
    return max(1, min(num_seen // 5, _MAX_NEW))
