"""How new rows compete with the seen ones: their length and one offset on their bias, chosen without images.

How many contests with trained rows a predicted one wins depends on the head and on the mapper: nearly none, or too many. So the
contest is rehearsed: seen classes, each with the row that a mapper predicted without it, play new ones, a few at a time, on
pseudo-features of the head.

Where the largest logit decides, new classes contend with the best seen one. In a sigmoid head each class passes a probability of
one half by itself, and new classes contend with that: they must pass on images of their own and not on those of seen classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.calibration.pseudo_features import FeatureModel, PseudoFeatures, fit_feature_model, relative_biases
from timm_inject.errors import ArgumentValueError, MapperError, WeakClassWarning
from timm_inject.images import harmonic_mean, harmonic_means
from timm_inject.mappers import MIN_CLASSES, FittedMapper, Mapper, isolated_float32, normalize

__all__ = [
    "CALIBRATIONS",
    "CalibratedRows",
    "Rehearsed",
    "best_logits",
    "calibrate_rows",
    "check_calibration",
    "check_rehearsable",
    "largest_moved_share",
    "rehearse",
    "settle_calibration",
    "usual_num_new",
]

CALIBRATIONS = ("balanced", "harmonic", "keep-seen", None)
# The least share of the seen classes' images that "balanced" may move, and the one that "keep-seen" aims at.
MOVED_SHARE = 0.01
# "balanced" may move so many times the share that the new classes have among all.
_FAIR_SHARES = 2.0
# Length of a new row's weights about the mean row, beside the mean of the seen ones; chosen as docs/design.md ("Calibration") says.
_LENGTH = 0.75
# So many rehearsals, or so many that this many classes play new.
_MAX_REHEARSALS, _MIN_PLAYED = 40, 200
# Seen classes whose images the new ones come nearest to, and features that are drawn of them: 1% of all images is few of them.
_ENDANGERED, _CONTEST_FEATURES, _CONTEST_CHUNK = 128, 8192, 2048
_MAX_NEW = 200
_GRID_STEPS = 1201
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class CalibratedRows:
    """What is written into the head, and what to expect of it.

    Attributes:
        rows: (num_unseen, row_dim).
        self_score: Image-free estimates, fractions in [0, 1]. What the seen classes pay to the new ones at hand: `moved_share` of
            their images, `seen_accuracy_before` and `seen_accuracy`. What as many seen classes win when they are hidden and play
            new: `unseen_accuracy` over all, and `zsl_accuracy` among themselves. `harmonic_mean` of seen and unseen accuracy.
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
        model: What features of the head look like.
        pseudo: Features of every seen class.
        places: (num_seen, feature_dim), where features of each seen class lie.
        weights: (num_seen, feature_dim), the true ones.
        held_out_weights: (num_seen, feature_dim), as predicted by a mapper that was fitted without the class.
        held_out_biases: (num_seen,), about the mean seen one.
        mean_weight: (feature_dim,), what was taken off.
        fold: (num_seen,) in which the class was hidden.
        generator: Draws who plays new.
    """

    model: FeatureModel
    pseudo: PseudoFeatures
    places: Tensor
    weights: Tensor
    held_out_weights: Tensor
    held_out_biases: Tensor
    mean_weight: Tensor
    fold: Tensor
    generator: torch.Generator


@dataclass(frozen=True, slots=True)
class _Contest:
    """The real new classes against features of the seen ones.

    Attributes:
        margins: (num_features,) as in `_Rehearsal`, rising.
        seen_hits: (num_features,) whether the head had the feature right before.
        shares: (num_features,) of all images that each stands for; they sum to 1, and every seen class counts the same.
        median: Of the margins of features that are drawn from all classes alike.
    """

    margins: Tensor
    seen_hits: Tensor
    shares: Tensor
    median: float

    def largest_offset(self, bound: float) -> float:
        """The largest offset at which at most this share moves."""
        within = int((self.shares.cumsum(0) <= bound).sum())
        return self.margins[min(within, len(self.margins) - 1)].item()

    def scores(self, offset: float) -> dict[str, float]:
        """What the seen classes pay at this offset."""
        moved = self.margins < offset
        return {
            "seen_accuracy_before": self.shares[self.seen_hits].sum().item(),
            "seen_accuracy": self.shares[self.seen_hits & ~moved].sum().item(),
            "moved_share": self.shares[moved].sum().item(),
        }


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """How hidden seen classes did in the part of new ones, fractions in [0, 1].

    Attributes:
        scores: As `CalibratedRows.self_score`, with the hidden classes for the new ones. In a sigmoid head an image of a seen class
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
    its logit is chance; the offset makes up for what a shorter row lacks, and wins images on which no seen class is sure. A head
    without bias has no place for the offset; its new rows get the whole length.

    Args:
        fitted: The mapper, with the rows that it predicts for seen classes without them.
        new_rows: (num_unseen, row_dim), as the mapper predicts them.
        calibration: "harmonic": the offset with the best harmonic mean in rehearsal. A share: the largest offset that moves at
            most so much of the features of seen classes; "keep-seen" is 1%. "balanced": the smaller of the two, with a share of
            max(1%, 2 k / (n + k)) for k new classes beside n seen ones. None: the raw prediction.

    Warns:
        WeakClassWarning: Stand-ins for images of this head could not be made as they should be.

    Raises:
        MapperError: A calibration is asked for and the head has fewer than 3 seen classes.
    """
    fold = fitted.crossfit.fold
    if calibration is None and int(fold.max()) < 0:
        return CalibratedRows(new_rows, {})
    check_rehearsable(fitted)
    with isolated_float32(), torch.no_grad():
        stage = _set_stage(fitted, calibration)
        if calibration is not None:
            _warn_of_shortfall(stage.model)
            new_rows = _rescale(new_rows, fitted)
        rehearsals = list(_rehearse(stage, len(new_rows)))
        contest = _hold_contest(stage, fitted, new_rows)
        offset = rehearsed = 0.0
        if fitted.has_bias and calibration is not None:
            rehearsed = _rehearsed_offset(rehearsals, calibration, num_seen=len(fitted.rows), num_new=len(new_rows))
            offset = _offset(rehearsals, contest, calibration, num_seen=len(fitted.rows), num_new=len(new_rows))
        new_rows = new_rows.clone()
        new_rows[:, fitted.feature_dim :] += offset
        return CalibratedRows(new_rows, _with_harmonic_mean(_scores(rehearsals, rehearsed) | contest.scores(offset)))


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
        offset = 0.0
        if fitted.has_bias and calibration is not None:
            offset = _rehearsed_offset(rehearsals, calibration, num_seen=len(fitted.rows), num_new=num_new)
        return Rehearsed(_with_harmonic_mean(_scores(rehearsals, offset)), _accuracy_of_class(rehearsals, stage, offset))


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


def settle_calibration(calibration: str | float | None, mapper: Mapper) -> str | float | None:
    """What is done where `calibration` was said: with "balanced", rows of a mapper that an offset would ruin stay raw."""
    return None if calibration == "balanced" and not mapper.is_calibrated else calibration


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
    model, pseudo = fit_feature_model(weights, fitted.descriptors, generator, fitted.activation)
    return _Stage(
        model,
        pseudo,
        model.places(weights, fitted.descriptors),
        weights,
        held_out[:, : fitted.feature_dim] - mean_weight,
        relative_biases(fitted.rows, held_out, fitted.feature_dim)[len(weights) :],
        mean_weight,
        fitted.crossfit.fold,
        generator,
    )


def _warn_of_shortfall(model: FeatureModel) -> None:
    if model.shortfall is not None:
        warnings.warn(
            f"The offset of the new classes and every estimate are less sure than usual: stand-ins for images of this head miss "
            f"their {model.shortfall}, as its rows are unlike those of a trained classifier. Test with `evaluate` on photos.",
            WeakClassWarning,
            stacklevel=4,
        )


def _hold_contest(stage: _Stage, fitted: FittedMapper, new_rows: Tensor) -> _Contest:
    """Try the rows on features of every seen class, with more of those whose images they come near to."""
    new_weights = new_rows[:, : fitted.feature_dim] - stage.mean_weight
    new_biases = relative_biases(fitted.rows, new_rows, fitted.feature_dim)[len(fitted.rows) :]
    num_seen = len(stage.weights)
    near = best_logits(stage.places * stage.model.scale, new_weights, new_biases)
    near = near - stage.model.scale * (stage.places * stage.weights).sum(1)
    endangered = near.topk(min(_ENDANGERED, num_seen)).indices
    each = -(-_CONTEST_FEATURES // len(endangered))
    labels = endangered.repeat_interleave(each)
    drawn = [stage.model.draw(stage.weights, part, stage.generator, places=stage.places) for part in labels.split(_CONTEST_CHUNK)]
    margins, seen_hits = zip(*(_margins(stage, part, new_weights, new_biases) for part in (*drawn, stage.pseudo)), strict=True)
    is_other = torch.isin(stage.pseudo.labels, endangered, invert=True)
    others = (num_seen - len(endangered)) / (num_seen * max(1, int(is_other.sum())))
    shares = torch.cat([torch.full((len(labels),), 1 / (num_seen * each)), others * is_other]).double()
    order = torch.cat(margins).argsort()
    return _Contest(
        torch.cat(margins)[order], torch.cat(seen_hits)[order], shares[order] / shares.sum(), margins[-1].median().item()
    )


def _margins(stage: _Stage, pseudo: PseudoFeatures, new_weights: Tensor, new_biases: Tensor) -> tuple[Tensor, Tensor]:
    """Margins of the real new classes before any offset, and whether the head was right: (num_features,) each."""
    best_new = best_logits(pseudo.features, new_weights, new_biases)
    logits = pseudo.features @ stage.weights.T
    if pseudo.level is not None:
        return -pseudo.level - best_new, logits.gather(1, pseudo.labels[:, None])[:, 0] >= -pseudo.level
    best, seen_index = logits.max(1)
    return best - best_new, seen_index == pseudo.labels


def best_logits(features: Tensor, new_weights: Tensor, new_biases: Tensor) -> Tensor:
    """The largest logit of a new class on each feature: (num_features,)."""
    # In parts: with 100,000 new classes all logits at once would be a gigabyte.
    parts = zip(new_weights.split(_CHUNK), new_biases.split(_CHUNK), strict=True)
    return torch.stack([(features @ weights.T + biases).amax(1) for weights, biases in parts]).amax(0)


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
    new_logits = pseudo.features @ stage.held_out_weights.T + stage.held_out_biases
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
    order = torch.randperm(len(casts), generator=generator)[: max(_MAX_REHEARSALS, _MIN_PLAYED // num_new)]
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


def _rehearsed_offset(rehearsals: list[_Rehearsal], calibration: str | float, *, num_seen: int, num_new: int) -> float:
    bound = largest_moved_share(calibration, num_seen=num_seen, num_new=num_new)
    best = _best_offset(rehearsals) if calibration in ("balanced", "harmonic") else torch.inf
    return best if bound is None else min(best, _largest_offset(rehearsals, bound))


def _offset(rehearsals: list[_Rehearsal], contest: _Contest, calibration: str | float, *, num_seen: int, num_new: int) -> float:
    """The offset of the real new classes."""
    bound = largest_moved_share(calibration, num_seen=num_seen, num_new=num_new)
    best = torch.inf
    if calibration in ("balanced", "harmonic"):
        # The real new classes lie elsewhere than the rehearsed ones: keep the place among the margins, not the number.
        usual = torch.stack([rehearsal.margins[~rehearsal.is_new].median() for rehearsal in rehearsals]).mean().item()
        best = _best_offset(rehearsals) + contest.median - usual
    return best if bound is None else min(best, contest.largest_offset(bound))


def _scores(rehearsals: list[_Rehearsal], offset: float) -> dict[str, float]:
    at = torch.tensor([offset], dtype=torch.float32)
    seen = torch.cat([_share(r, ~r.is_new, r.seen_hits, at, moved=False) for r in rehearsals]).mean().item()
    unseen = torch.cat([_share(r, r.is_new, r.new_hits, at, moved=True) for r in rehearsals]).mean().item()
    return {
        "zsl_accuracy": _mean_share(r.new_hits[r.is_new] for r in rehearsals),
        "unseen_accuracy": unseen,
        "seen_accuracy_before": _mean_share(r.seen_hits[~r.is_new] for r in rehearsals),
        "seen_accuracy": seen,
        "moved_share": _mean_share(r.margins[~r.is_new] < offset for r in rehearsals),
    }


def _mean_share(parts: Iterable[Tensor]) -> float:
    return torch.stack([part.float().mean() for part in parts]).mean().item()


def _with_harmonic_mean(scores: dict[str, float]) -> dict[str, float]:
    return scores | {"harmonic_mean": harmonic_mean(scores["seen_accuracy"], scores["unseen_accuracy"])}


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
