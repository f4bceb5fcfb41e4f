"""Are the estimates for names true? Groups of ImageNet classes are hidden, given back by name, and what was foretold is compared.

A group is a run of neighbours in WordNet's order (forty birds, forty dogs, forty tools), where names resemble each other and
rows are hard to predict, or as many classes drawn at random, where they are easy.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.heldout import HeldOutBenchmark
from benchmarks.images import add_head_options, load_heads
from benchmarks.plots import plot_self_score
from benchmarks.report import markdown_table
from benchmarks.results import Result, Setting, select
from benchmarks.session import Session, add_plots_option
from benchmarks.units import Problem, Unit, score, without_cache
from timm_inject.calibration import calibrate_rows, estimate_names
from timm_inject.errors import ArgumentValueError
from timm_inject.images import accuracy_by_class
from timm_inject.text import ClassName, resolve_encoder

_NUM_BINS = 5
_LARGE = 200


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `estimates`."""
    add_head_options(command)
    command.add_argument("--size", type=int, default=40, metavar="N", help="classes in a group")
    command.add_argument("--num-random", type=int, default=8, metavar="N", help="random groups; half as many of 200 classes")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--encoder", metavar="ID|FOLDER", help="a sentence-transformers model")
    add_plots_option(command)


def run(options: argparse.Namespace) -> None:
    """Estimates for names against what their photos give, over groups of hidden classes."""
    if options.size < 2:
        raise ArgumentValueError(f"`--size` must be at least 2, got {options.size}.")
    encoder = resolve_encoder(options.encoder)
    session = Session(options)
    benchmarks = [HeldOutBenchmark(head, encoder, progress=session.progress) for head in load_heads(options, session.progress)]
    units: list[Unit] = []
    for benchmark in benchmarks:
        groups = class_groups(benchmark.head.names, options.size, options.num_random, options.seed)
        units += estimate_units(benchmark, groups, options.seed)
    session.run(units)
    results = [r for benchmark in benchmarks for r in select(session.store, data=benchmark.data, part="groups")]
    good = [result for result in results if not result.error]
    told, plots = [], []
    for kind, name in (("zsl_accuracy", "T1"), ("unseen_accuracy", "u")):
        points = estimate_points(good, kind)
        file = f"estimates-{name}.png"
        correlation = plot_self_score(points, options.output / file, title="Estimates for groups of names")
        if correlation is not None:
            error = sum(abs(own - real) for _, own, real in points) / len(points)
            plots.append(file)
            told.append(
                f"{name} of a group of names, estimated before and measured after: rank correlation {correlation:.2f}, mean error "
                f"{100 * error:.1f} points, over {len(points)} groups."
            )
    session.finish(results, [bins_table(good)], plots, glance=" ".join(told), shown=["estimates-u.png"])


class ClassGroup(NamedTuple):
    """Classes that are hidden together, as logit indices; the kind is "neighbours" or "random"."""

    kind: str
    classes: tuple[int, ...]


def class_groups(names: Sequence[ClassName], size: int, num_random: int, seed: int) -> list[ClassGroup]:
    """Deal the classes into runs of neighbours in WordNet's order, and draw random groups of that size.

    Where there are classes enough, half as many random groups have 200. A class without WordNet id goes by its name.
    """
    wnids = [(name.sense and name.sense.wnid) or name.name for name in names]
    order = sorted(range(len(wnids)), key=lambda index: wnids[index])
    groups = [ClassGroup("neighbours", tuple(order[start : start + size])) for start in range(0, len(order) - size + 1, size)]
    generator = torch.Generator().manual_seed(seed)
    for count in [size] * num_random + ([_LARGE] * (num_random // 2) if len(order) > 2 * _LARGE else []):
        groups.append(ClassGroup("random", tuple(sorted(torch.randperm(len(order), generator=generator)[:count].tolist()))))
    return groups


def estimate_units(benchmark: HeldOutBenchmark, groups: Sequence[ClassGroup], seed: int) -> Iterator[Unit]:
    """One unit a group, by the default mapper, calibrated for the best harmonic mean."""
    name, data = benchmark.head.name, benchmark.data
    for number, (kind, classes) in enumerate(groups):
        num_seen = len(benchmark.head.rows) - len(classes)
        setting = Setting("imagenet", "groups", kind, "lemma", "icis", "harmonic", seed, name, number, num_seen, data)
        problem = partial(benchmark.hide, "lemma", classes)
        yield Unit(f"{name}, {len(classes)} {kind} classes, group {number}", (setting,), partial(_measure, problem, setting))


def _measure(problem: Callable[[], Problem], setting: Setting) -> list[Result]:
    posed = problem()
    fitted = posed.fit_and_crossfit(setting)
    with without_cache():
        calibrated = calibrate_rows(fitted, fitted.mapper.predict_rows(posed.unseen_descriptors), setting.calibration)
        foretold = estimate_names(fitted, posed.unseen_descriptors, calibrated.rows)
    result, num_seen = score(posed, calibrated.rows, setting), len(posed.rows)
    real = accuracy_by_class(posed.logits(calibrated.rows).argmax(1), posed.target)
    has_photo = [index for index in range(len(calibrated.rows)) if num_seen + index in real]
    truth = torch.tensor([real[num_seen + index] for index in has_photo])
    accuracy, zsl_accuracy = foretold.accuracy[has_photo], foretold.zsl_accuracy[has_photo]
    own = {"zsl_accuracy": zsl_accuracy.mean().item(), "unseen_accuracy": accuracy.mean().item()}
    return [replace(result, curve=(), self_score=own, notes=_count_bins(accuracy, truth))]


def _count_bins(foretold: Tensor, truth: Tensor) -> dict[str, float]:
    bins = (foretold * _NUM_BINS).long().clamp_max(_NUM_BINS - 1)
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

    def mean(key: str) -> Callable[[int], str]:
        return lambda number: f"{100 * total(key, number) / total('names', number):.1f}"

    columns = {
        "estimate of u, percent": lambda number: f"{100 * number / _NUM_BINS:.0f} to {100 * (number + 1) / _NUM_BINS:.0f}",
        "names": lambda number: f"{total('names', number):.0f}",
        "mean estimate": mean("foretold"),
        "measured on photos": mean("real"),
    }
    return markdown_table(columns, [number for number in range(_NUM_BINS) if total("names", number)])
