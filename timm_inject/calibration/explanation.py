"""What a new row is made of, and whose images it may take, told by the head's weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_inject.calibration.pseudo_features import fit_feature_model, relative_biases
from timm_inject.injected import InjectedClass
from timm_inject.mappers import isolated_float32

__all__ = ["Explanation", "explain_row", "leans_on", "rows_at_once"]

# Beside the mean squared length of a seen row: enough to spread the weight over rows that resemble each other.
_RIDGE = 0.1
_MAX_SHOWN = 10
_TABLE_SIZE = 2**24
_CANDIDATES = 64  # seen classes whose images the new row is tried on
_FEATURES_PER_CLASS = 32

Shares = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where one injected row comes from and what it competes with; at most ten classes each, strongest first.

    Attributes:
        name: Of the injected class.
        index: Its logit.
        leans_on: (seen class, share): the seen rows whose weighted sum comes near the row, by how much each adds. The shares
            of all seen classes that add something sum to 1.
        takes_from: (seen class, share): whose images the row takes, by each class's share of all that it takes, tried on
            pseudo-features. It says which classes to look at first, and nothing of how many images they lose.
    """

    name: str
    index: int
    leans_on: Shares
    takes_from: Shares


def explain_row(rows: Tensor, entry: InjectedClass, names: Sequence[str], *, feature_dim: int, seed: int) -> Explanation:
    """Say what one injected row is made of and what it competes with.

    Args:
        rows: (num_classes, row_dim), of the head's first layer, injected rows included.
        entry: The injected class.
        names: Of the seen classes.
        feature_dim: How many of a row's columns are weights.
        seed: Seeds the pseudo-features.
    """
    num_seen = len(names)
    shares = leans_on(rows[:num_seen], rows[entry.index][None], names, feature_dim=feature_dim)[0]
    taken = _takes_from(rows, entry.index, num_seen, feature_dim, entry.activation, seed)
    return Explanation(entry.name, entry.index, shares, tuple((names[position], share) for position, share in taken))


def leans_on(
    rows: Tensor, new_rows: Tensor, names: Sequence[str], *, feature_dim: int, max_shown: int = _MAX_SHOWN
) -> list[Shares]:
    """Write each new row as a weighted sum of seen rows: ridge regression of the centred row on the centred seen ones.

    A seen row's share is what it adds in the direction of the new row (its weight times the inner product of the two), among
    those that add something.

    Args:
        rows: (num_seen, row_dim).
        new_rows: (num_unseen, row_dim).
        names: Of the seen classes.
        feature_dim: How many of a row's columns are weights; the bias has no part in it.
        max_shown: How many classes are named.

    Returns:
        For each new row, (name, share) of the seen classes that add most, strongest first.
    """
    with isolated_float32(), torch.no_grad():
        mean = rows[:, :feature_dim].mean(0)
        seen = rows[:, :feature_dim] - mean
        ridge = _RIDGE * seen.square().sum(1).mean().clamp_min(1e-12)
        # S^T (S S^T + r I)^-1 = (S^T S + r I)^-1 S^T: the smaller of the two systems is solved.
        is_wide = len(seen) <= feature_dim
        gram = seen @ seen.T if is_wide else seen.T @ seen
        factors = torch.linalg.lu_factor(gram + ridge * torch.eye(len(gram), dtype=torch.float32))
        result: list[Shares] = []
        for part in new_rows[:, :feature_dim].split(rows_at_once(len(seen))):
            new = part - mean
            products = new @ seen.T
            solved = torch.linalg.lu_solve(*factors, products.T if is_wide else new.T).T
            added = ((solved if is_wide else solved @ seen.T) * products).clamp_min(0)
            shares = added / added.sum(1, keepdim=True).clamp_min(1e-12)
            top = shares.topk(min(max_shown, len(seen)), dim=1)
            result += [
                tuple((names[index], round(share, 4)) for index, share in zip(indices, values, strict=True) if share > 0)
                for indices, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            ]
        return result


def rows_at_once(num_seen: int) -> int:
    """How many new rows to compare with all seen ones at a time: tables of 64 MB, however many new classes there are."""
    return max(1, _TABLE_SIZE // num_seen)


def _takes_from(rows: Tensor, index: int, num_seen: int, feature_dim: int, activation: str, seed: int) -> list[tuple[int, float]]:
    """(seen class, its share of the pseudo-features that the row `index` wins against all others), largest first."""
    with isolated_float32(), torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        weights = rows[:, :feature_dim] - rows[:num_seen, :feature_dim].mean(0)
        biases = relative_biases(rows[:num_seen], rows[num_seen:], feature_dim)
        model, _ = fit_feature_model(weights[:num_seen], None, generator, activation)
        places = model.places(weights[:num_seen])
        candidates = _most_endangered(places, weights[:num_seen], weights[index])
        labels = candidates.repeat_interleave(_FEATURES_PER_CLASS)
        features = model.draw(weights[:num_seen], labels, generator, places=places).features
        logits = features @ weights.T + biases
        wins = logits.argmax(1) == index if model.level is None else logits[:, index] >= -model.level
        won = wins.float().reshape(-1, _FEATURES_PER_CLASS).mean(1)
        won = won / won.sum().clamp_min(1e-12)
        order = won.argsort(descending=True, stable=True)[:_MAX_SHOWN]
        return [(int(candidates[i]), round(float(won[i]), 4)) for i in order if won[i] > 0]


def _most_endangered(places: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """Seen classes on whose place the new row comes nearest to the logit of the class itself."""
    lead = (places * seen).sum(1) - places @ weight
    return lead.topk(min(_CANDIDATES, len(seen)), largest=False).indices
