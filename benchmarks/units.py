"""The unit of work: one mapper on one problem, scored raw or under every calibration."""

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.results import SLOW_MAPPERS, Result, ResultStore, Setting, code_fingerprint
from benchmarks.scores import linear_logits, zero_shot_scores
from timm_inject.cache import CACHE_VARIABLE
from timm_inject.calibration import calibrate_rows
from timm_inject.mappers import FittedMapper, Mapper, create_mapper, fit_and_crossfit
from timm_inject.text import ProgressCallback

CALIBRATION_NAMES = ("harmonic", "keep-seen", "none")
_CURVE_POINTS = 101

# Computes again whatever the disk cache holds: its key is the package's version, and a benchmark also runs between releases.
without_cache = functools.partial(patch.dict, os.environ, {CACHE_VARIABLE: "off"})


class Unit(NamedTuple):
    """Settings that one computation measures, and what people read of it."""

    label: str
    settings: tuple[Setting, ...]
    measure: Callable[[], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A head, its classes and the new ones: what mappers see, and the images that they are scored on.

    Attributes:
        rows: (num_seen, feature_dim + 1), or without the bias.
        seen_descriptors: (num_seen, descriptor_dim).
        unseen_descriptors: (num_unseen, descriptor_dim).
        features: (num_images, feature_dim), of test images; nothing before the scoring looks at them.
        target: (num_images,) logit index, seen classes first.
        learn_from: Positions of the seen classes that mappers learn from; None for all. New rows compete with all.
        notes: Kept with each result.
    """

    rows: Tensor
    seen_descriptors: Tensor
    unseen_descriptors: Tensor
    features: Tensor
    target: Tensor
    learn_from: Tensor | None = None
    notes: dict[str, float] = field(default_factory=dict)

    def fit_and_crossfit(self, setting: Setting, progress: ProgressCallback | None = None) -> FittedMapper:
        """Fit as `inject` does, but without the cache."""
        with without_cache():
            return fit_and_crossfit(
                setting.method,
                self.seen_descriptors,
                self.rows,
                feature_dim=self.features.shape[1],
                seed=setting.seed,
                unseen_descriptors=self.unseen_descriptors,
                progress=progress,
            )

    def logits(self, new_rows: Tensor) -> Tensor:
        """(num_images, num_seen + num_unseen)."""
        return linear_logits(self.features, torch.cat([self.rows, new_rows]))


def run_units(
    units: Iterable[Unit], store: ResultStore, report: Callable[[Unit, list[Result], int, int], None] | None = None
) -> None:
    """Run what the store lacks, and report each unit with its place among all and what was measured now.

    Whatever fails is kept as a result with its error, so that it loses nothing else and is tried again the next time;
    Ctrl-C is not kept.
    """
    units = list(units)
    for position, unit in enumerate(units, start=1):
        results: list[Result] = []
        if not all(store.has(setting) for setting in unit.settings):
            try:
                results = [replace(result, code=code_fingerprint(result.setting)) for result in unit.measure()]
            except Exception as error:  # noqa: BLE001 - one bad run must not lose the others, whatever it dies of
                results = [Result(setting, error=f"{type(error).__name__}: {error}") for setting in unit.settings]
            store.add(results)
        if report is not None:
            report(unit, results, position, len(units))


def raw_unit(label: str, setting: Setting, problem: Callable[[], Problem], mapper: Callable[[], Mapper]) -> Unit:
    """Fit a mapper and score its rows as it predicts them."""
    return Unit(label, (setting,), lambda: [_measure_raw(problem(), mapper(), setting)])


def calibrated_unit(
    label: str,
    setting: Setting,
    problem: Callable[[], Problem],
    calibrations: Sequence[str] = CALIBRATION_NAMES,
    progress: ProgressCallback | None = None,
) -> Unit:
    """Fit and cross-fit the setting's mapper as `inject` does, and score its rows under each calibration."""
    settings = tuple(replace(setting, calibration=calibration) for calibration in calibrations)
    return Unit(label, settings, lambda: _measure_calibrations(problem(), settings, progress))


def _measure_raw(problem: Problem, mapper: Mapper, setting: Setting) -> Result:
    unseen = problem.unseen_descriptors if mapper.uses_unseen_descriptors else None
    kept = slice(None) if problem.learn_from is None else problem.learn_from
    start = time.perf_counter()
    mapper.fit(problem.seen_descriptors[kept], problem.rows[kept], seed=setting.seed, unseen_descriptors=unseen)
    seconds = time.perf_counter() - start
    return replace(score(problem, mapper.predict_rows(problem.unseen_descriptors), setting), seconds={"fit": seconds})


def _measure_calibrations(problem: Problem, settings: Sequence[Setting], progress: ProgressCallback | None) -> Iterator[Result]:
    first = settings[0]
    # Once by itself, as the time of a fit is a result, but for mappers that take minutes.
    fit_seconds = {} if first.method in SLOW_MAPPERS else _measure_raw(problem, create_mapper(first.method), first).seconds
    start = time.perf_counter()
    fitted = problem.fit_and_crossfit(first, progress)
    new_rows = fitted.mapper.predict_rows(problem.unseen_descriptors)
    shared = time.perf_counter() - start
    for setting in settings:
        start = time.perf_counter()
        with without_cache():
            calibrated = calibrate_rows(fitted, new_rows, None if setting.calibration == "none" else setting.calibration)
        seconds = fit_seconds | {"predict": shared + time.perf_counter() - start}
        yield replace(score(problem, calibrated.rows, setting), self_score=calibrated.self_score, seconds=seconds)


def score(problem: Problem, new_rows: Tensor, setting: Setting) -> Result:
    """What the rows do on the images."""
    scores, curve = zero_shot_scores(problem.logits(new_rows), problem.target, len(problem.rows))
    points = () if curve is None else curve.points(_CURVE_POINTS)
    return Result(setting, scores=asdict(scores), curve=points, notes=problem.notes)
