"""What a new row is made of, and whose images it may take, told by the head's weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from timm_inject.class_names import resolve_seen_class_names
from timm_inject.errors import ArgumentTypeError, ArgumentValueError, list_some
from timm_inject.head import find_head, read_rows, unwrap_model
from timm_inject.lexicon import match_key
from timm_inject.mappers.base import isolated_float32
from timm_inject.pseudo_features import FeatureModel, fit_feature_model, relative_biases
from timm_inject.record import injection_record

__all__ = ["Explanation", "explain", "leans_on", "rows_at_once"]

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
        takes_from: (seen class, share): which seen classes' images the row is likeliest to take, by the share of the class's
            pseudo-features that it wins, or in a sigmoid head, on which it passes one half. Classes that lose none are left out.
    """

    name: str
    index: int
    leans_on: Shares
    takes_from: Shares


def explain(model: nn.Module, name: str, *, seen_class_names: Sequence[str] | str | None = None, seed: int = 0) -> Explanation:
    """Say which seen classes an injected row leans on, and which ones it may take images from. No image is read.

    In a head of several layers it is the first that is explained.

    Args:
        model: A model with injected classes, also a reloaded one.
        name: One of them.
        seen_class_names: As in `inject`; None takes them from the model.
        seed: Seeds the pseudo-features.

    Raises:
        ArgumentTypeError: `name` is no string.
        ArgumentValueError: The model has no injected class of that name, or none at all.
        UnknownSeenClassesError: The model's config does not name its classes, and `seen_class_names` does not either.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"`name` must be the name of one injected class, got {type(name).__name__}.")
    record = injection_record(model)
    entry = next((entry for entry in record.classes if match_key(entry.name) == match_key(name)), None)
    if entry is None:
        known = list_some(repr(entry.name) for entry in record.classes)
        raise ArgumentValueError(f"No class {name!r} was injected into this model. Injected: {known}.")
    head = find_head(model)
    leaf = head.leaves[0]
    rows = read_rows(leaf)
    plain = unwrap_model(model)
    if seen_class_names is None:
        names = resolve_seen_class_names(plain, head.num_classes)[: record.num_seen]
    else:
        names = resolve_seen_class_names(plain, record.num_seen, seen_class_names)
    labels = [seen.name for seen in names]
    seen_rows, new_row = rows[: record.num_seen], rows[entry.index][None]
    shares = leans_on(seen_rows, new_row, labels, feature_dim=leaf.feature_dim)[0]
    rivals = torch.cat([seen_rows, rows[record.num_seen :]])
    taken = _takes_from(rivals, entry.index, record.num_seen, leaf.feature_dim, entry.activation, seed)
    return Explanation(entry.name, entry.index, shares, tuple((labels[position], share) for position, share in taken))


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
    """(seen class, share of its pseudo-features that the row `index` wins against all others), largest first."""
    with isolated_float32(), torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        weights = rows[:, :feature_dim] - rows[:num_seen, :feature_dim].mean(0)
        biases = relative_biases(rows[:num_seen], rows[num_seen:], feature_dim)
        model, _ = fit_feature_model(weights[:num_seen], generator, activation)
        candidates = _most_endangered(model, weights[:num_seen], weights[index])
        labels = candidates.repeat_interleave(_FEATURES_PER_CLASS)
        features = model.draw(weights[:num_seen], labels, generator).features
        logits = features @ weights.T + biases
        wins = logits.argmax(1) == index if model.level is None else logits[:, index] >= -model.level
        won = wins.float().reshape(-1, _FEATURES_PER_CLASS).mean(1)
        order = won.argsort(descending=True, stable=True)[:_MAX_SHOWN]
        return [(int(candidates[i]), float(won[i])) for i in order if won[i] > 0]


def _most_endangered(model: FeatureModel, seen: Tensor, weight: Tensor) -> Tensor:
    """Seen classes on whose place the new row comes nearest to the logit of the class itself."""
    places = model.places(seen)
    lead = (places * seen).sum(1) - places @ weight
    return lead.topk(min(_CANDIDATES, len(seen)), largest=False).indices
