"""What new classes win and what old ones pay, on photos of classes that no setting was chosen on: the table of the first page."""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

import torch

from benchmarks.heldout import HeldOutBenchmark, validation_classes
from benchmarks.images import add_head_options, load_heads
from benchmarks.results import Setting
from benchmarks.session import Session, command_line, publish
from benchmarks.units import Problem, without_cache
from timm_inject.calibration import calibrate_rows
from timm_inject.images.evaluation import gzsl_scores
from timm_inject.text import resolve_encoder

# How many names are added at once, and how many draws of names are averaged: few names have few photos.
_DRAWS = {1: 20, 3: 10, 10: 6, 50: 3, 200: 2}


@dataclass(frozen=True, slots=True)
class Price:
    """What one draw of new names did; fractions in [0, 1], means over classes.

    Attributes:
        num_new: How many classes were added.
        before: Accuracy on old classes before.
        after: The same after.
        new: Accuracy on new classes, among all.
        among_new: Accuracy on new classes, among the new ones.
        moved: Share of the old classes' images that went to a new class.
        told: What the record says of `moved`.
    """

    num_new: int
    before: float
    after: float
    new: float
    among_new: float
    moved: float
    told: float


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `price`."""
    add_head_options(command)
    command.add_argument("--encoder", metavar="ID|FOLDER", help="a sentence-transformers model")
    command.add_argument("--calibration", default="balanced", help="as in `inject`")
    command.add_argument("--seed", type=int, default=0, help="draws the names")


def run(options: argparse.Namespace) -> None:
    """Add 1, 3, 10, 50 and 200 names to a head that lacks them."""
    session = Session(options)
    sections, record = [], {}
    for head in load_heads(options, session.progress):
        benchmark = HeldOutBenchmark(head, resolve_encoder(options.encoder), progress=session.progress)
        prices = list(_measure(benchmark, options.calibration, options.seed))
        sections.append(_table(head.name, prices))
        record[head.name] = [asdict(price) for price in prices]
    note = f"Photos of the classes that chose no setting. Made by `{command_line(options)}`."
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    publish(options, "\n\n".join([*sections, note]), f"{sections[0]}\n\n{note}", record)


def _measure(benchmark: HeldOutBenchmark, calibration: str, seed: int) -> Iterator[Price]:
    labels = benchmark.head.labels
    is_test = ~validation_classes(benchmark.head.rows.shape[0])
    with_photos = labels[is_test[labels]].unique()
    generator = torch.Generator().manual_seed(seed)
    for num_new, draws in _DRAWS.items():
        for _ in range(draws if num_new < len(with_photos) else 0):
            chosen = with_photos[torch.randperm(len(with_photos), generator=generator)[:num_new]].sort().values
            yield _price(benchmark.hide("lemma", chosen.tolist(), test_classes_only=True), calibration)


def _price(problem: Problem, calibration: str) -> Price:
    num_seen, num_new = len(problem.rows), len(problem.unseen_descriptors)
    setting = Setting("price", "table", "", "lemma", "icis", calibration, 0, "", 0, num_seen, "")
    fitted = problem.fit_and_crossfit(setting)
    with without_cache():
        calibrated = calibrate_rows(fitted, fitted.mapper.predict_rows(problem.unseen_descriptors), calibration)
    logits = problem.logits(calibrated.rows)
    names = [str(index) for index in range(num_seen + num_new)]
    predicted, among_new = logits.argmax(1), logits[:, num_seen:].argmax(1) + num_seen
    after = gzsl_scores(predicted, among_new, problem.target, names=names, num_seen=num_seen)
    before = gzsl_scores(logits[:, :num_seen].argmax(1), among_new, problem.target, names=names, num_seen=num_seen)
    return Price(
        num_new=num_new,
        before=before.seen_accuracy or 0.0,
        after=after.seen_accuracy or 0.0,
        new=after.unseen_accuracy or 0.0,
        among_new=after.zsl_accuracy or 0.0,
        moved=after.moved_share or 0.0,
        told=calibrated.self_score.get("moved_share", math.nan),
    )


def _table(head: str, prices: Sequence[Price]) -> str:
    rows = [
        f"| {head}: names added at once | old classes before | after | images that moved, told beforehand | new classes | chance |",
        "|---|---|---|---|---|---|",
    ]
    for num_new in dict.fromkeys(price.num_new for price in prices):
        group = [price for price in prices if price.num_new == num_new]
        new = [100 * price.new for price in group]
        told = fmean(price.told for price in group)
        before, after, moved = (100 * fmean(getattr(price, name) for price in group) for name in ("before", "after", "moved"))
        rows.append(
            f"| {num_new} | {before:.1f} | {after:.1f} | {moved:.1f}, {100 * told:.1f} | {fmean(new):.0f} ± "
            f"{stdev(new) / len(new) ** 0.5:.0f} | {100 / (1000 if num_new < 1000 else num_new):.1f} |"
        )
    return "\n".join(rows)
