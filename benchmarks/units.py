"""What the benchmarks have in common: units of work, and rows for new classes under every calibration."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from benchmarks.results import Result, ResultStore, Setting, run_unit
from benchmarks.scores import linear_logits, zero_shot_scores
from benchmarks.slow import SLOW_MAPPERS
from timm_inject.cache import CACHE_VARIABLE
from timm_inject.calibration import CALIBRATIONS, calibrate_rows
from timm_inject.mappers import fit_and_crossfit
from timm_inject.mappers import Mapper, ProgressCallback, create_mapper

__all__ = ["CALIBRATION_NAMES", "Problem", "Unit", "measure_calibrations", "measure_raw", "run_units", "without_cache"]

_CURVE_POINTS = 101
CALIBRATION_NAMES = tuple(name or "none" for name in CALIBRATIONS)


@dataclass(frozen=True, slots=True)
class Unit:
    """Settings that one computation measures.

    Attributes:
        label: For people.
        settings: What it measures.
        measure: Does it.
    """

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
    """

    rows: Tensor
    seen_descriptors: Tensor
    unseen_descriptors: Tensor
    features: Tensor
    target: Tensor


def run_units(
    units: Iterable[Unit], store: ResultStore, report: Callable[[Unit, list[Result], int, int], None] | None = None
) -> None:
    """Run what the store lacks, and report each unit with its place among all."""
    units = list(units)
    for position, unit in enumerate(units, start=1):
        results = run_unit(store, unit.settings, unit.measure)
        if report is not None:
            report(unit, results, position, len(units))


def measure_raw(problem: Problem, mapper: Mapper, setting: Setting, *, learn_from: Tensor | None = None) -> Result:
    """Fit a mapper and score its rows as it predicts them.

    Args:
        problem: What to learn from and to score on.
        mapper: Not yet fitted.
        setting: What is measured.
        learn_from: Positions of the seen classes that the mapper learns from; None for all. New rows compete with all.
    """
    unseen = problem.unseen_descriptors if mapper.uses_unseen_descriptors else None
    seen, rows = problem.seen_descriptors, problem.rows
    if learn_from is not None:
        seen, rows = seen[learn_from], rows[learn_from]
    start = time.perf_counter()
    mapper.fit(seen, rows, seed=setting.seed, unseen_descriptors=unseen)
    seconds = time.perf_counter() - start
    result = _score(problem, mapper.predict_rows(problem.unseen_descriptors), setting)
    return replace(result, seconds={"fit": seconds})


def measure_calibrations(
    problem: Problem, settings: Iterable[Setting], progress: ProgressCallback | None = None
) -> Iterator[Result]:
    """Fit and cross-fit a mapper as `inject` does, and score its rows under the calibration of each setting.

    Args:
        problem: What to learn from and to score on.
        settings: They differ in their calibration alone.
        progress: As in `Mapper.fit`.
    """
    settings = list(settings)
    method, seed = settings[0].method, settings[0].seed
    # Once by itself, as the time of a fit is a result, but for mappers that take minutes.
    fit_seconds = {} if method in SLOW_MAPPERS else measure_raw(problem, create_mapper(method), settings[0]).seconds
    start = time.perf_counter()
    with without_cache():
        fitted = fit_and_crossfit(
            method,
            problem.seen_descriptors,
            problem.rows,
            seed=seed,
            unseen_descriptors=problem.unseen_descriptors,
            progress=progress,
        )
    new_rows = fitted.mapper.predict_rows(problem.unseen_descriptors)
    shared = time.perf_counter() - start
    for setting in settings:
        start = time.perf_counter()
        calibration = None if setting.calibration == "none" else setting.calibration
        with without_cache():
            calibrated = calibrate_rows(fitted, new_rows, calibration, feature_dim=problem.features.shape[1], seed=seed)
        seconds = fit_seconds | {"predict": shared + time.perf_counter() - start}
        yield replace(_score(problem, calibrated.rows, setting), self_score=calibrated.self_score, seconds=seconds)


def _score(problem: Problem, new_rows: Tensor, setting: Setting) -> Result:
    logits = linear_logits(problem.features, torch.cat([problem.rows, new_rows]))
    scores, curve = zero_shot_scores(logits, problem.target, len(problem.rows))
    points: tuple[tuple[float, float], ...] = ()
    if curve is not None:
        thin = curve.thinned(_CURVE_POINTS)
        points = tuple((round(u, 5), round(s, 5)) for u, s in zip(thin.unseen.tolist(), thin.seen.tolist(), strict=True))
    return Result(setting, scores=asdict(scores), curve=points)


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
    """Compute again whatever the disk cache holds: its key is the package's version, and a benchmark also runs between releases."""
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before
