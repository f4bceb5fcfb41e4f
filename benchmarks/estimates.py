"""Are the estimates for names true? Groups of ImageNet classes are hidden, given back by name, and what was foretold is compared.

A group is a run of neighbours in WordNet's order (forty birds, forty dogs, forty tools), where names resemble each other and
rows are hard to predict, or as many classes drawn at random, where they are easy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.heldout import HeldOutBenchmark, TextKind
from benchmarks.report import markdown_table
from benchmarks.results import Result, Setting
from benchmarks.scores import linear_logits, zero_shot_scores
from benchmarks.units import Problem, Unit, without_cache
from timm_inject.calibration import calibrate_rows
from timm_inject.calibration import estimate_names
from timm_inject.mappers import fit_and_crossfit
from timm_inject.images import accuracy_by_class

__all__ = ["NUM_BINS", "ClassGroup", "bins_table", "class_groups", "estimate_points", "estimate_units"]

NUM_BINS = 5
_BIN = 1 / NUM_BINS
_LARGE = 200


@dataclass(frozen=True, slots=True)
class ClassGroup:
    """Classes that are hidden together.

    Attributes:
        kind: "neighbours" or "random".
        classes: Logit indices.
    """

    kind: str
    classes: tuple[int, ...]


def class_groups(wnids: Sequence[str], size: int, num_random: int, seed: int) -> list[ClassGroup]:
    """Deal the classes into runs of neighbours, and draw random groups of that size and of 200.

    Args:
        wnids: WordNet id of each class, in logit order.
        size: Of a group.
        num_random: How many random groups; half as many of 200, where there are more classes than that.
        seed: Draws them.
    """
    order = sorted(range(len(wnids)), key=lambda index: wnids[index])
    groups = [ClassGroup("neighbours", tuple(order[start : start + size])) for start in range(0, len(order) - size + 1, size)]
    generator = torch.Generator().manual_seed(seed)
    sizes = [size] * num_random + ([_LARGE] * (num_random // 2) if len(order) > 2 * _LARGE else [])
    return groups + [
        ClassGroup("random", tuple(sorted(torch.randperm(len(order), generator=generator)[:count].tolist()))) for count in sizes
    ]


def estimate_units(benchmark: HeldOutBenchmark, texts: TextKind, groups: Sequence[ClassGroup], seed: int) -> Iterator[Unit]:
    """One unit a group, by the default mapper and calibration."""
    for number, group in enumerate(groups):
        setting = Setting(
            benchmark="imagenet-heldout",
            part="groups",
            protocol=group.kind,
            descriptors=texts,
            method="icis",
            calibration="harmonic",
            seed=seed,
            head=benchmark.head_name,
            fold=number,
            num_seen=benchmark.num_classes - len(group.classes),
            data=benchmark.data,
        )

        def measure(group: ClassGroup = group, setting: Setting = setting) -> Iterator[Result]:
            yield _measure(benchmark.hide(texts, group.classes), setting)

        yield Unit(f"{benchmark.head_name}, {len(group.classes)} {group.kind} classes, group {number}", (setting,), measure)


def _measure(problem: Problem, setting: Setting) -> Result:
    feature_dim = problem.features.shape[1]
    with without_cache():
        fitted = fit_and_crossfit(setting.method, problem.seen_descriptors, problem.rows, seed=setting.seed)
        new_rows = fitted.mapper.predict_rows(problem.unseen_descriptors)
        calibrated = calibrate_rows(fitted, new_rows, setting.calibration, feature_dim=feature_dim, seed=setting.seed)
        foretold = estimate_names(
            problem.seen_descriptors,
            problem.rows,
            problem.unseen_descriptors,
            calibrated.rows,
            feature_dim=feature_dim,
            seed=setting.seed,
        )
    logits = linear_logits(problem.features, torch.cat([problem.rows, calibrated.rows]))
    scores, _ = zero_shot_scores(logits, problem.target, len(problem.rows))
    real = accuracy_by_class(logits.argmax(1), problem.target)
    has_photo = [index for index in range(len(new_rows)) if len(problem.rows) + index in real]
    truth = torch.tensor([real[len(problem.rows) + index] for index in has_photo])
    own = {
        "zsl_accuracy": foretold.zsl_accuracy[has_photo].mean().item(),
        "unseen_accuracy": foretold.accuracy[has_photo].mean().item(),
    }
    return Result(setting, scores=asdict(scores), self_score=own, notes=_count_bins(foretold.accuracy[has_photo], truth))


def _count_bins(foretold: Tensor, truth: Tensor) -> dict[str, float]:
    bins = (foretold / _BIN).long().clamp_max(NUM_BINS - 1)
    notes: dict[str, float] = {}
    for number in bins.unique().tolist():
        chosen = bins == number
        notes[f"names {number}"] = float(chosen.sum())
        notes[f"foretold {number}"] = foretold[chosen].sum().item()
        notes[f"real {number}"] = truth[chosen].sum().item()
    return notes


def estimate_points(results: Sequence[Result], score: str) -> list[tuple[str, float, float]]:
    """(kind and head, mean estimate, real score) of every group."""
    return [
        (f"{result.setting.head}, {result.setting.protocol}", result.self_score[score], result.scores[score] or 0.0)
        for result in results
        if score in result.self_score and result.scores.get(score) is not None
    ]


def bins_table(results: Sequence[Result]) -> str:
    """Names by their estimate: what was foretold, and what their photos gave."""

    def total(key: str, number: int) -> float:
        return sum(result.notes.get(f"{key} {number}", 0.0) for result in results)

    lines = []
    for number in range(NUM_BINS):
        count = total("names", number)
        if count:
            shown = [f"{100 * total(key, number) / count:.1f}" for key in ("foretold", "real")]
            lines.append([f"{100 * number * _BIN:.0f} to {100 * (number + 1) * _BIN:.0f}", f"{count:.0f}", *shown])
    return markdown_table(["estimate of u, percent", "names", "mean estimate", "measured on photos"], lines)
