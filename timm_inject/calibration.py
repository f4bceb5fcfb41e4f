"""How new rows compete with the seen ones: their length and one offset on their bias, chosen without images.

A predicted row loses nearly every contest with trained ones, and by how much depends on the head and on the mapper. So the
contest is rehearsed: seen classes, each with the row that a mapper predicted without it, play new ones, a few at a time, on
pseudo-features of the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.errors import MapperError
from timm_inject.fitting import FittedMapper
from timm_inject.mappers.base import isolated_float32, normalize
from timm_inject.mappers.crossfit import MIN_CLASSES
from timm_inject.metrics import harmonic_mean
from timm_inject.pseudo_features import PseudoFeatures, draw_pseudo_features

__all__ = ["CALIBRATIONS", "CalibratedRows", "calibrate_rows"]

CALIBRATIONS = ("harmonic", "keep-seen", None)
# "keep-seen" aims at this share of the seen predictions. On photos the share that really moved was up to twice as large.
MOVED_SHARE = 0.01
_MAX_REHEARSALS = 40
_GRID_STEPS = 1201


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
        margins: Best seen logit minus best new one; an offset above it gives the feature to the new class.
        seen_hits: Whether the best seen class is the right one.
        new_hits: Whether the best new class is the right one.
        is_new: Whether the feature is of a class that plays new.
    """

    margins: Tensor
    seen_hits: Tensor
    new_hits: Tensor
    is_new: Tensor


def calibrate_rows(
    fitted: FittedMapper, new_rows: Tensor, calibration: str | None, *, feature_dim: int, seed: int
) -> CalibratedRows:
    """Make predicted rows fit for the head.

    With a calibration, each row gets the mean length of the seen rows about their mean, as the length of a prediction says
    how sure the mapper is and nothing about the class, and all get one offset on their bias. A head without bias has no
    place for the offset; its rows get the length only.

    Args:
        fitted: The mapper, with the rows that it predicts for seen classes without them.
        new_rows: (num_unseen, row_dim), as the mapper predicts them.
        calibration: "harmonic": the offset with the best harmonic mean in rehearsal. "keep-seen": the largest offset that
            moves at most 1% of the pseudo-features of seen classes. None: the raw prediction.
        feature_dim: How many of a row's columns are weights; the rest, if any, is the bias.
        seed: Seeds the pseudo-features and who plays new.

    Raises:
        MapperError: A calibration is asked for and the head has fewer than 3 seen classes.
    """
    fold = fitted.crossfit.fold
    if calibration is None and int(fold.max()) < 0:
        return CalibratedRows(new_rows, {})
    if int(fold.max()) < 0:
        raise MapperError(
            f"Calibration rehearses with hidden seen classes and needs at least {MIN_CLASSES} of them, the head has {len(fold)}. "
            f"Pass `calibration=None`."
        )
    with isolated_float32(), torch.no_grad():
        rows = fitted.rows
        held_out = fitted.crossfit.rows
        if calibration is not None:
            new_rows, held_out = _rescale(new_rows, rows), _rescale(held_out, rows)
        mean_weight = rows[:, :feature_dim].mean(0)
        weights, new_weights, held_out_weights = (part[:, :feature_dim] - mean_weight for part in (rows, new_rows, held_out))
        generator = torch.Generator().manual_seed(seed)
        pseudo = draw_pseudo_features(weights, generator)
        rehearsals = list(_rehearse(pseudo, weights, held_out_weights, fold, len(new_rows), generator))
        margins = (pseudo.features @ weights.T).amax(1) - (pseudo.features @ new_weights.T).amax(1)
        offset, rehearsed = 0.0, 0.0
        if calibration == "harmonic":
            rehearsed = _best_offset(rehearsals)
            # The real new classes lie elsewhere than the rehearsed ones: keep the place among the margins, not the number.
            usual = torch.stack([rehearsal.margins[~rehearsal.is_new].median() for rehearsal in rehearsals]).mean()
            offset = rehearsed + (margins.median() - usual).item()
        elif calibration == "keep-seen":
            offset = rehearsed = margins.quantile(MOVED_SHARE).item()
        new_rows = new_rows.clone()
        if new_rows.shape[1] > feature_dim:
            new_rows[:, feature_dim] += offset
        else:
            rehearsed = 0.0
        return CalibratedRows(new_rows, _scores(rehearsals, rehearsed))


def _rescale(predicted: Tensor, rows: Tensor) -> Tensor:
    mean_row = rows.mean(0)
    return normalize(predicted - mean_row) * (rows - mean_row).norm(dim=1).mean() + mean_row


def _rehearse(
    pseudo: PseudoFeatures,
    weights: Tensor,
    held_out_weights: Tensor,
    fold: Tensor,
    num_new: int,
    generator: torch.Generator,
) -> Iterator[_Rehearsal]:
    seen_logits = pseudo.features @ weights.T
    new_logits = pseudo.features @ held_out_weights.T
    for chosen in _casts(pseudo.labels.unique(), fold, num_new, generator):
        hidden = torch.zeros(len(weights), dtype=torch.bool)
        hidden[chosen] = True
        best_seen, seen_index = seen_logits.masked_fill(hidden, -torch.inf).max(1)
        best_new, new_position = new_logits[:, chosen].max(1)
        yield _Rehearsal(
            best_seen - best_new,
            seen_index == pseudo.labels,
            chosen[new_position] == pseudo.labels,
            hidden[pseudo.labels],
        )


def _casts(classes: Tensor, fold: Tensor, num_new: int, generator: torch.Generator) -> list[Tensor]:
    """Sets of classes to play new; each within one fold, as a mapper that predicted one of them saw none of the others."""
    casts: list[Tensor] = []
    for index in range(int(fold.max()) + 1):
        members = classes[fold[classes] == index]
        members = members[torch.randperm(len(members), generator=generator)]
        size = min(num_new, len(members))
        casts += [members[start : start + size] for start in range(0, len(members) - size + 1, max(size, 1)) if size]
    order = torch.randperm(len(casts), generator=generator)[:_MAX_REHEARSALS]
    return [casts[position] for position in order.tolist()]


def _best_offset(rehearsals: list[_Rehearsal]) -> float:
    """The middle of the offsets whose harmonic mean is within 0.1% of the best."""
    end = max(rehearsal.margins.abs().max().item() for rehearsal in rehearsals)
    grid = torch.linspace(-end, end, _GRID_STEPS, dtype=torch.float32)
    seen = torch.stack([_share(r, ~r.is_new, r.seen_hits, grid, moved=False) for r in rehearsals]).mean(0)
    unseen = torch.stack([_share(r, r.is_new, r.new_hits, grid, moved=True) for r in rehearsals]).mean(0)
    harmonic = 2 * seen * unseen / (seen + unseen).clamp_min(1e-9)
    return grid[harmonic >= 0.999 * harmonic.max()].mean().item()


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


def _share(rehearsal: _Rehearsal, chosen: Tensor, hits: Tensor, offsets: Tensor, *, moved: bool) -> Tensor:
    """The share of the chosen features that are classified right at each offset, as a new class or as a seen one."""
    margins = rehearsal.margins[chosen & hits].sort().values
    below = torch.searchsorted(margins, offsets).float()
    return (below if moved else len(margins) - below) / max(1, int(chosen.sum()))
