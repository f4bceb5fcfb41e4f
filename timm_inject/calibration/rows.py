"""How new rows compete with the seen ones: their length and one offset on their bias, chosen without images.

How many contests with trained rows a predicted one wins depends on the head and on the mapper: nearly none, or too many. So the
contest is rehearsed: seen classes, each with the row that a mapper predicted without it, play new ones, a few at a time, on
pseudo-features of the head.

Where the largest logit decides, new classes contend with the best seen one. In a sigmoid head each class passes a probability of
one half by itself, and new classes contend with that: they must pass on images of their own and not on those of seen classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.calibration.pseudo_features import PseudoFeatures, draw_pseudo_features
from timm_inject.errors import ArgumentValueError, MapperError
from timm_inject.images import harmonic_mean, harmonic_means
from timm_inject.mappers import MIN_CLASSES, FittedMapper, isolated_float32, normalize

__all__ = [
    "CALIBRATIONS",
    "CalibratedRows",
    "Rehearsed",
    "calibrate_rows",
    "check_calibration",
    "check_rehearsable",
    "largest_moved_share",
    "rehearse",
    "usual_num_new",
]

CALIBRATIONS = ("balanced", "harmonic", "keep-seen", None)
# The least share of the seen classes' images that "balanced" may move, and the one that "keep-seen" aims at.
MOVED_SHARE = 0.01
# "balanced" may move so many times the share that the new classes have among all.
_FAIR_SHARES = 2.0
# Length of a new row's weights about the mean row, beside the mean of the seen ones; see `calibrate_rows`.
_LENGTH = 0.75
_MAX_REHEARSALS = 40
_MAX_NEW = 200
_GRID_STEPS = 1201
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class CalibratedRows:
    """What is written into the head, and what to expect of it.

    Attributes:
        rows: (num_unseen, row_dim).
        self_score: Image-free estimates, fractions in [0, 1], for as many new classes as these: `zsl_accuracy` among the
            new classes, `seen_accuracy`, `unseen_accuracy` and `harmonic_mean` over all.
    """

    rows: Tensor
    self_score: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """One set of seen classes playing new, on every pseudo-feature.

    Attributes:
        margins: Best seen logit minus best new one, or in a sigmoid head that of one half minus best new one; an offset above it
            gives the feature to the new class.
        seen_hits: Whether the best seen class is the right one, or in a sigmoid head, whether the right one passes.
        new_hits: Whether the best new class is the right one.
        is_new: Whether the feature is of a class that plays new.
    """

    margins: Tensor
    seen_hits: Tensor
    new_hits: Tensor
    is_new: Tensor


@dataclass(frozen=True, slots=True)
class _Stage:
    """What all rehearsals share; weights are centred on the mean of the seen ones.

    Attributes:
        pseudo: Features of every seen class.
        weights: (num_seen, feature_dim), the true ones.
        held_out_weights: (num_seen, feature_dim), as predicted by a mapper that was fitted without the class.
        mean_weight: (feature_dim,), what was taken off.
        fold: (num_seen,) in which the class was hidden.
        generator: Draws who plays new.
    """

    pseudo: PseudoFeatures
    weights: Tensor
    held_out_weights: Tensor
    mean_weight: Tensor
    fold: Tensor
    generator: torch.Generator


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """How hidden seen classes did in the part of new ones, fractions in [0, 1].

    Attributes:
        scores: `zsl_accuracy`, `seen_accuracy`, `unseen_accuracy` and `harmonic_mean`. In a sigmoid head an image of a seen class
            counts as right where its class passes one half and no new one does; of a new class, where it passes and leads the
            new ones.
        accuracy_of_class: (num_seen,) share of a class's pseudo-features that it won over all classes while it played new; NaN
            where it never did.
    """

    scores: dict[str, float]
    accuracy_of_class: Tensor


def calibrate_rows(
    fitted: FittedMapper,
    new_rows: Tensor,
    calibration: str | float | None,
) -> CalibratedRows:
    """Make predicted rows fit for the head.

    With a calibration, each row's weights get one length about the mean seen row, as the length of a prediction says how sure the
    mapper is and nothing about the class, and all rows get one bias: the mean of the seen ones and an offset. The mean seen row
    holds what the logits of an image have in common, so new logits share it. Biases as they are predicted cost 0.4 +- 0.3 points
    of the accuracy among new classes on photos of the validation classes of three ImageNet heads (see `benchmark.heldout`) and
    change nothing on CUB-100's seen classes.

    The length is three quarters of the seen ones' mean. A predicted row points only roughly where a trained one would, so more of
    its logit is chance; the offset makes up for what a shorter row lacks, and wins images on which no seen class is sure. Harmonic
    means with lengths of 1, 0.75 and 0.6: on photos of the validation classes 45.9, 47.6 and 47.9, with the offset that is best
    there 47.7, 49.0 and 49.6; with heads for 55 of CUB-100's seen classes and the other 18 in the part of new ones, on training
    images kept from them (20 draws), 72.0, 74.1 and 71.7, with the best offset 73.6, 75.3 and 75.2. A head without bias has no
    place for the offset; its new rows get the whole length.

    Args:
        fitted: The mapper, with the rows that it predicts for seen classes without them.
        new_rows: (num_unseen, row_dim), as the mapper predicts them.
        calibration: "harmonic": the offset with the best harmonic mean in rehearsal. "keep-seen", or a share: the largest offset
            that moves at most 1%, or that share, of the pseudo-features of seen classes. "balanced": that of "harmonic", but not
            above the one that moves `largest_moved_share`. None: the raw prediction.

    Raises:
        MapperError: A calibration is asked for and the head has fewer than 3 seen classes.
    """
    fold = fitted.crossfit.fold
    if calibration is None and int(fold.max()) < 0:
        return CalibratedRows(new_rows, {})
    check_rehearsable(fitted)
    with isolated_float32(), torch.no_grad():
        stage = _set_stage(fitted, calibration)
        rehearsals = list(_rehearse(stage, len(new_rows)))
        if calibration is not None:
            new_rows = _rescale(new_rows, fitted)
        margins = _margins(stage, new_rows[:, : fitted.feature_dim])
        offset, rehearsed = 0.0, 0.0
        bound = largest_moved_share(calibration, num_seen=len(fitted.rows), num_new=len(new_rows))
        if calibration in ("balanced", "harmonic"):
            rehearsed = _best_offset(rehearsals)
            # The real new classes lie elsewhere than the rehearsed ones: keep the place among the margins, not the number.
            usual = torch.stack([rehearsal.margins[~rehearsal.is_new].median() for rehearsal in rehearsals]).mean()
            offset = rehearsed + (margins.median() - usual).item()
        if bound is not None:
            largest = margins.quantile(bound).item()
            offset = min(offset, largest) if calibration == "balanced" else largest
            rehearsed = min(rehearsed, _largest_offset(rehearsals, bound)) if calibration == "balanced" else largest
        new_rows = new_rows.clone()
        if fitted.has_bias:
            new_rows[:, fitted.feature_dim] += offset
        else:
            rehearsed = 0.0
        return CalibratedRows(new_rows, _scores(rehearsals, rehearsed))


def rehearse(
    fitted: FittedMapper,
    calibration: str | float | None,
    *,
    num_new: int,
) -> Rehearsed:
    """Play the contest of seen and new classes with hidden seen classes alone; there are no real new ones.

    Args:
        fitted: As in `calibrate_rows`.
        calibration: As in `calibrate_rows`; a head without bias gets no offset.
        num_new: How many classes play new at a time, at most one fold of them.

    Raises:
        MapperError: The head has fewer than 3 seen classes.
    """
    check_rehearsable(fitted)
    with isolated_float32(), torch.no_grad():
        stage = _set_stage(fitted, calibration)
        rehearsals = list(_rehearse(stage, num_new))
        offset = _rehearsed_offset(rehearsals, calibration, num_seen=len(fitted.rows), num_new=num_new) if fitted.has_bias else 0.0
        return Rehearsed(_scores(rehearsals, offset), _accuracy_of_class(rehearsals, stage, offset))


def usual_num_new(num_seen: int) -> int:
    """How many classes play new where nobody says: one fold of five, at most 200."""
    return max(1, min(num_seen // 5, _MAX_NEW))


def check_calibration(calibration: object) -> None:
    """Refuse what is no calibration.

    Raises:
        ArgumentValueError: It is none of `CALIBRATIONS` and no share between 0 and 1.
    """
    if calibration is None or (isinstance(calibration, str) and calibration in CALIBRATIONS):
        return
    if isinstance(calibration, int | float) and not isinstance(calibration, bool) and 0 < calibration < 1:
        return
    known = ", ".join(repr(name) for name in CALIBRATIONS)
    raise ArgumentValueError(
        f"`calibration` must be one of {known}, or the largest share of the seen classes' images that may move to new classes, "
        f"a number between 0 and 1, got {calibration!r}."
    )


def largest_moved_share(calibration: str | float | None, *, num_seen: int, num_new: int) -> float | None:
    """The share of the seen classes' images that the new classes may take; None where there is no such bound."""
    if calibration == "balanced":
        return min(1.0, max(MOVED_SHARE, _FAIR_SHARES * num_new / (num_seen + num_new)))
    if calibration == "keep-seen":
        return MOVED_SHARE
    return float(calibration) if isinstance(calibration, int | float) else None


def check_rehearsable(fitted: FittedMapper) -> None:
    """Refuse a head with too few classes to hide some.

    Raises:
        MapperError: The head has fewer than 3 seen classes.
    """
    fold = fitted.crossfit.fold
    if int(fold.max()) < 0:
        raise MapperError(
            f"Calibration and the self-score rehearse with hidden seen classes and need at least {MIN_CLASSES} of them, the head "
            f"has {len(fold)}. Take a model with more classes, or pass `calibration=None` to `inject`."
        )


def _set_stage(fitted: FittedMapper, calibration: str | float | None) -> _Stage:
    held_out = fitted.crossfit.rows if calibration is None else _rescale(fitted.crossfit.rows, fitted)
    mean_weight = fitted.weights.mean(0)
    weights = fitted.weights - mean_weight
    generator = torch.Generator().manual_seed(fitted.seed)
    pseudo = draw_pseudo_features(weights, generator, fitted.activation)
    return _Stage(pseudo, weights, held_out[:, : fitted.feature_dim] - mean_weight, mean_weight, fitted.crossfit.fold, generator)


def _margins(stage: _Stage, new_weights: Tensor) -> Tensor:
    """The margins of `_Rehearsal` with the real new classes, on every pseudo-feature, before any offset."""
    features, level = stage.pseudo.features, stage.pseudo.level
    # In parts: with 100,000 new classes all logits at once would be a gigabyte.
    parts = (features @ (part - stage.mean_weight).T for part in new_weights.split(_CHUNK))
    best_new = torch.stack([logits.amax(1) for logits in parts]).amax(0)
    return (features @ stage.weights.T).amax(1) - best_new if level is None else -level - best_new


def _rescale(predicted: Tensor, fitted: FittedMapper) -> Tensor:
    """Predicted rows with weights of one length about the mean seen row, and the mean seen bias."""
    rows = fitted.rows
    mean_row = rows.mean(0)
    if not fitted.mapper.knows_length:  # else most of what is left without the mean row would be a part of the mean row
        predicted = normalize(predicted) * rows.norm(dim=1).mean()
    rescaled = mean_row.repeat(len(predicted), 1)
    own, seen = ((part - mean_row)[:, : fitted.feature_dim] for part in (predicted, rows))
    # Without a bias nothing makes up for a shorter row.
    length = seen.norm(dim=1).mean() * (_LENGTH if fitted.has_bias else 1.0)
    rescaled[:, : fitted.feature_dim] += normalize(own) * length
    return rescaled


def _rehearse(stage: _Stage, num_new: int) -> Iterator[_Rehearsal]:
    pseudo = stage.pseudo
    seen_logits = pseudo.features @ stage.weights.T
    casts = _casts(pseudo.labels.unique(), stage.fold, num_new, stage.generator)
    new_logits = pseudo.features @ stage.held_out_weights.T
    # Of so many best classes at least one is not hidden.
    best = seen_logits.topk(min(max(map(len, casts)) + 1, seen_logits.shape[1]), dim=1)
    for chosen in casts:
        hidden = torch.zeros(len(stage.weights), dtype=torch.bool)
        hidden[chosen] = True
        first = hidden[best.indices].logical_not().int().argmax(1, keepdim=True)
        best_seen, seen_index = (part.gather(1, first)[:, 0] for part in best)
        best_new, new_position = new_logits[:, chosen].max(1)
        seen_hits = seen_index == pseudo.labels
        if pseudo.level is not None:
            best_seen = torch.full_like(best_seen, -pseudo.level)
            seen_hits = seen_logits.gather(1, pseudo.labels[:, None])[:, 0] >= -pseudo.level
        yield _Rehearsal(best_seen - best_new, seen_hits, chosen[new_position] == pseudo.labels, hidden[pseudo.labels])


def _casts(classes: Tensor, fold: Tensor, num_new: int, generator: torch.Generator) -> list[Tensor]:
    """Sets of classes to play new; each within one fold, as the mapper that predicted one of them was fitted without the others."""
    casts: list[Tensor] = []
    for index in range(int(fold.max()) + 1):
        members = classes[fold[classes] == index]
        members = members[torch.randperm(len(members), generator=generator)]
        size = min(num_new, len(members))
        casts += [members[start : start + size] for start in range(0, len(members) - size + 1, max(size, 1)) if size]
    order = torch.randperm(len(casts), generator=generator)[:_MAX_REHEARSALS]
    return [casts[position] for position in order.tolist()]


def _best_offset(rehearsals: list[_Rehearsal]) -> float:
    """The offset with the best harmonic mean of seen and new accuracy, the smallest of several; 0 where none does any good."""
    end = max(rehearsal.margins.abs().max().item() for rehearsal in rehearsals)
    grid = torch.linspace(-end, end, _GRID_STEPS, dtype=torch.float32)
    seen = torch.stack([_share(r, ~r.is_new, r.seen_hits, grid, moved=False) for r in rehearsals]).mean(0)
    unseen = torch.stack([_share(r, r.is_new, r.new_hits, grid, moved=True) for r in rehearsals]).mean(0)
    harmonic = harmonic_means(seen, unseen)
    return grid[int(harmonic.argmax())].item() if harmonic.max() > 0 else 0.0


def _largest_offset(rehearsals: list[_Rehearsal], bound: float) -> float:
    """The largest offset at which at most this share of the seen classes' features moves."""
    return torch.cat([rehearsal.margins[~rehearsal.is_new] for rehearsal in rehearsals]).quantile(bound).item()


def _rehearsed_offset(rehearsals: list[_Rehearsal], calibration: str | float | None, *, num_seen: int, num_new: int) -> float:
    bound = largest_moved_share(calibration, num_seen=num_seen, num_new=num_new)
    best = _best_offset(rehearsals) if calibration in ("balanced", "harmonic") else 0.0
    if bound is None:
        return best
    largest = _largest_offset(rehearsals, bound)
    return min(best, largest) if calibration == "balanced" else largest


def _scores(rehearsals: list[_Rehearsal], offset: float) -> dict[str, float]:
    at = torch.tensor([offset], dtype=torch.float32)
    seen = torch.cat([_share(r, ~r.is_new, r.seen_hits, at, moved=False) for r in rehearsals]).mean().item()
    unseen = torch.cat([_share(r, r.is_new, r.new_hits, at, moved=True) for r in rehearsals]).mean().item()
    among_new = torch.stack([r.new_hits[r.is_new].float().mean() for r in rehearsals]).mean().item()
    return {
        "zsl_accuracy": among_new,
        "seen_accuracy": seen,
        "unseen_accuracy": unseen,
        "harmonic_mean": harmonic_mean(seen, unseen),
    }


def _accuracy_of_class(rehearsals: list[_Rehearsal], stage: _Stage, offset: float) -> Tensor:
    hits, tries = torch.zeros(2, len(stage.weights), dtype=torch.float32)
    for rehearsal in rehearsals:
        labels = stage.pseudo.labels[rehearsal.is_new]
        won = rehearsal.new_hits & (rehearsal.margins < offset)
        hits.index_add_(0, labels, won[rehearsal.is_new].float())
        tries.index_add_(0, labels, torch.ones(len(labels), dtype=torch.float32))
    return hits / tries  # 0 / 0 is NaN


def _share(rehearsal: _Rehearsal, chosen: Tensor, hits: Tensor, offsets: Tensor, *, moved: bool) -> Tensor:
    """The share of the chosen features that are classified right at each offset, as a new class or as a seen one."""
    margins = rehearsal.margins[chosen & hits].sort().values
    below = torch.searchsorted(margins, offsets).float()
    return (below if moved else len(margins) - below) / max(1, int(chosen.sum()))
