"""What `timm-inject benchmark DATASET` does, after its options are parsed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.base_classifier import BaseClassifier, Protocol
from benchmarks.descriptors import dataset_descriptors, imagenet_vectors
from benchmarks.errors import BenchmarkFileError
from benchmarks.estimates import bins_table, class_groups, estimate_points, estimate_units
from benchmarks.heads import load_head
from benchmarks.heldout import HeldOutBenchmark, HeldOutPlan, VECTOR_KINDS
from benchmarks.plots import plot_bars, plot_curve_by_seen_classes, plot_seen_unseen, plot_self_score
from benchmarks.report import (
    ablation_table,
    curve_table,
    descriptors_table,
    glance_table,
    heldout_tables,
    image_links,
    main_table,
    parts_table,
    replace_blocks,
    self_score_points,
    speed_note,
    table_of_test_classes,
    transfer_table,
)
from benchmarks.results import Result, ResultStore, code_fingerprint
from benchmarks.session import Session, print_answer
from benchmarks.slow import SLOW_MAPPERS
from benchmarks.synthetic import SIZES, write_synthetic
from benchmarks.transfer import TransferBenchmark, imagenet_descriptors
from benchmarks.xlsa17 import DATASETS, is_published_data, load_xlsa17
from benchmarks.zsl import ZslBenchmark, ZslPlan
from timm_inject.text import resolve_encoder
from timm_inject.errors import ArgumentValueError
from timm_inject.mappers import create_mapper, mapper_names

__all__ = ["run_estimates", "run_heldout", "run_self_score", "run_zsl"]

# Of the tables that show a few mappers only.
_MAIN_MAPPERS = ("icis", "kernel-ridge")


def run_zsl(options: argparse.Namespace) -> None:
    """CUB, SUN or AWA2."""
    if options.transfer is not None:
        _run_transfer(options)
        return
    methods = _methods(options.methods, default="all")
    data_root = _data_root(options)
    protocols: tuple[Protocol, ...] = ("held-out", "paper") if options.protocol == "both" else (options.protocol,)
    dataset = load_xlsa17(data_root, options.dataset)
    encoder = resolve_encoder(options.encoder) if "names" in options.descriptors else None
    slow_seeds = options.slow_seeds or options.seeds[:1]
    defaults = [method for method in _MAIN_MAPPERS if method in methods]
    plan = ZslPlan(
        methods={method: slow_seeds if method in SLOW_MAPPERS else options.seeds for method in methods},
        protocols=protocols,
        parts=options.parts,
        seeds=options.seeds,
        curve_methods=defaults,
        ablation_seeds=slow_seeds,
    )
    session = Session(options)
    bases: dict[tuple[Protocol, int], BaseClassifier] = {}
    benchmarks = [
        ZslBenchmark(
            dataset,
            dataset_descriptors(dataset, kind, data_root=data_root, encoder=encoder),
            kind,
            session.progress,
            bases,
            cut_recipe=options.synthetic,
        )
        for kind in options.descriptors
    ]
    further = ZslPlan(dict.fromkeys(defaults, options.seeds))
    session.run(
        unit for position, benchmark in enumerate(benchmarks) for unit in benchmark.units(plan if position == 0 else further)
    )
    by_kind = [result for result in session.store if result.setting.data.startswith(benchmarks[0].dataset_data)]
    results = [result for result in by_kind if result.setting.data == benchmarks[0].data and not result.error]
    published = is_published_data(dataset) and not options.synthetic
    kind = "Made-up features: only seconds and memory mean something. " if options.synthetic else ""
    title = (
        f"{kind}{DATASETS[options.dataset]}, descriptors: {options.descriptors[0]}. {len(dataset.labels)} images, "
        f"{len(dataset.seen_classes)} seen and {len(dataset.unseen_classes)} unseen classes, features of width "
        f"{dataset.features.shape[1]}."
    )
    tables = [main_table(results, protocol, is_published_data=published) for protocol in protocols]
    tables += [
        parts_table(results),
        ablation_table(results, is_published_data=published),
        curve_table(results),
        descriptors_table(by_kind),
        speed_note(results, at_least=True) if options.synthetic else "",
    ]
    name = f"{options.dataset.upper()}, {len(dataset.seen_classes)} + {len(dataset.unseen_classes)} classes"
    first = [result for result in results if result.setting.part == "table" and result.setting.protocol == protocols[0]]
    about = (
        f"{kind}{DATASETS[options.dataset]}: {len(dataset.seen_classes)} seen and {len(dataset.unseen_classes)} unseen classes, "
        f"descriptors `{options.descriptors[0]}`, {protocols[0]} protocol, {len(options.seeds)} seeds."
    )
    shown = [f"bars-{protocols[0]}.png", f"seen-unseen-{protocols[0]}.png", "seen-classes.png"]
    plots = _plot_zsl(results, options.output, name)
    session.finish(by_kind, [title, *tables], plots, glance=glance_table(first, about), shown=shown)


def _run_transfer(options: argparse.Namespace) -> None:
    if options.head is None:
        raise ArgumentValueError("`--transfer imagenet` needs `--head`, the timm model whose features res101.mat holds.")
    (kind,) = options.descriptors if len(options.descriptors) == 1 else ("att",)
    if kind == "att":
        raise ArgumentValueError("ImageNet's classes have no attributes: pass wiki2vec, conceptnet or names as `--descriptors`.")
    methods = _methods(options.methods, default="quick")
    data_root = _data_root(options)
    dataset = load_xlsa17(data_root, options.dataset)
    encoder = resolve_encoder(options.encoder) if kind == "names" else None
    session = Session(options)
    head = load_head(options.head, options.imagenet_images, options.output, session.progress)
    benchmark = TransferBenchmark(
        dataset,
        head,
        imagenet_descriptors(head.names, kind, data_root, encoder),
        dataset_descriptors(dataset, kind, data_root=data_root, encoder=encoder),
        kind,
    )
    session.run(benchmark.units(methods, options.seeds))
    results = [result for result in session.store if result.setting.data == benchmark.data]
    title = (
        f"{DATASETS[options.dataset]}: {len(dataset.unseen_classes)} classes given by name to the ImageNet head {options.head}. "
        f"s and H {'need --imagenet-images' if options.imagenet_images is None else 'are over the 1000 classes kept'}."
    )
    session.finish(results, [title, transfer_table([result for result in results if not result.error])], [])


def run_heldout(options: argparse.Namespace) -> None:
    """ImageNet heads with hidden classes."""
    methods = _methods(options.methods, default="quick")
    main = [method for method in _MAIN_MAPPERS if method in methods] or methods
    plan = HeldOutPlan(methods, options.texts, options.folds, options.seeds, main, options.parts)
    if options.images is None:
        raise ArgumentValueError("Pass `--images`, a folder with one sub-folder a class.")
    if options.folds < 2:
        raise ArgumentValueError(f"`--folds` must be at least 2, got {options.folds}.")
    if ("described" in options.texts) != (options.descriptions is not None):
        raise ArgumentValueError("`--texts described` and `--descriptions FILE` go together.")
    descriptions = _read_descriptions(options.descriptions)
    kinds = [kind for kind in options.texts if kind in VECTOR_KINDS]
    if kinds and options.vectors is None:
        raise ArgumentValueError(f"`--texts {' '.join(kinds)}` needs `--vectors`, the folder that holds the published vectors.")
    vectors = {kind: imagenet_vectors(kind, options.vectors) for kind in kinds}
    encoder = resolve_encoder(options.encoder)
    session = Session(options)
    heads = [load_head(name, options.images, options.output, session.progress) for name in options.heads]
    benchmarks = [HeldOutBenchmark(head, encoder, descriptions, vectors, session.progress) for head in heads]
    session.run(unit for benchmark in benchmarks for unit in benchmark.units(plan))
    data = {benchmark.data for benchmark in benchmarks}
    results = [r for r in session.store if r.setting.data in data]
    table = [result for result in results if result.setting.part == "table"]
    plots = _plot_heldout(table, options.output)
    text = options.texts[0]
    first = [result for result in table if result.setting.descriptors == text and not result.error]
    about = (
        f"ImageNet heads {', '.join(options.heads)}: the classes, hidden in {options.folds} folds, are given back by name "
        f"(`{text}`)."
    )
    shown = [f"bars-{text}.png", f"seen-unseen-{text}.png"]
    tables = [*heldout_tables(results), table_of_test_classes(results), parts_table(results)]
    session.finish(results, tables, plots, glance=glance_table(first, about), shown=shown)


def run_estimates(options: argparse.Namespace) -> None:
    """Estimates for names against what their photos give, over groups of hidden classes."""
    if options.images is None:
        raise ArgumentValueError("Pass `--images`, a folder with one sub-folder a class.")
    if options.size < 2:
        raise ArgumentValueError(f"`--size` must be at least 2, got {options.size}.")
    encoder = resolve_encoder(options.encoder)
    session = Session(options)
    heads = [load_head(name, options.images, options.output, session.progress) for name in options.heads]
    benchmarks = [HeldOutBenchmark(head, encoder, progress=session.progress) for head in heads]
    groups = [class_groups(benchmark.wnids, options.size, options.num_random, options.seed) for benchmark in benchmarks]
    pairs = zip(benchmarks, groups, strict=True)
    session.run(unit for benchmark, own in pairs for unit in estimate_units(benchmark, "lemma", own, options.seed))
    data = {benchmark.data for benchmark in benchmarks}
    results = [r for r in session.store if r.setting.data in data and r.setting.part == "groups"]
    good = [result for result in results if not result.error]
    sections, plots = [], []
    for score, name in (("zsl_accuracy", "T1"), ("unseen_accuracy", "u")):
        points = estimate_points(good, score)
        file = f"estimates-{name}.png"
        correlation = plot_self_score(points, options.output / file, title="Estimates for groups of names", name=name)
        if correlation is not None:
            error = sum(abs(own - real) for _, own, real in points) / len(points)
            plots.append(file)
            sections.append(
                f"{name} of a group of names, estimated before and measured after: rank correlation {correlation:.2f}, mean error "
                f"{100 * error:.1f} points, over {len(points)} groups."
            )
    text = " ".join(sections)
    session.finish(results, [bins_table(good)], plots, glance=text, shown=["estimates-u.png"])


def run_self_score(options: argparse.Namespace) -> None:
    """Self-score against real score, over finished benchmarks."""
    missing = [str(folder) for folder in options.folders if not (folder / "results.jsonl").is_file()]
    if missing:
        raise BenchmarkFileError(f"There is no results.jsonl in {', '.join(missing)}. Run a benchmark with that `--output` first.")
    stored = [result for folder in options.folders for result in ResultStore(folder / "results.jsonl")]
    results = [result for result in stored if result.code == code_fingerprint(result.setting)]
    summary: dict[str, Any] = {}
    plots: list[Path] = []
    for score, name in (("zsl_accuracy", "T1"), ("harmonic_mean", "H")):
        points = self_score_points(results, score)
        file = options.output / f"self-score-{name}.png"
        correlation = plot_self_score(points, file, title="Does the self-score foretell the real score?", name=name)
        summary[name] = {"points": len(points), "rank_correlation": correlation}
        plots += [file] if correlation is not None else []
    shown = [
        f"{'too few points' if entry['rank_correlation'] is None else format(entry['rank_correlation'], '.2f')} for {name}"
        for name, entry in summary.items()
    ]
    text = (
        f"Spearman's rank correlation of self-score and real score over {summary['H']['points']} points (head or dataset, text, "
        f"mapper; calibrated rows): {', '.join(shown)}. Made by `timm-inject benchmark self-score` from the results of "
        f"{', '.join(dict.fromkeys(result.setting.benchmark for result in results)) or 'nothing'}."
    )
    for page in options.update_readme or ():
        replace_blocks(page, {"self-score": f"{text}\n\n{image_links(plots, page)}", "self-score-summary": text})
    print_answer(f"{text}\nPlots in '{options.output}'.", summary, as_json=options.json)


def _data_root(options: argparse.Namespace) -> Path:
    if options.synthetic:
        data_root: Path = options.output / "synthetic"
        write_synthetic(data_root, options.dataset, SIZES[options.dataset])
        return data_root
    if options.data_root is None:
        raise ArgumentValueError("Pass `--data-root`, the folder that holds res101.mat and att_splits.mat.")
    return Path(options.data_root)


def _read_descriptions(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentValueError(f"The file '{path}' could not be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArgumentValueError(f"The file '{path}' must hold one JSON object, class name -> text or list of texts.")
    return content


def _methods(chosen: list[str] | None, *, default: str) -> list[str]:
    names: list[str] = []
    for method in chosen or [default]:
        if method in ("all", "quick"):
            names += [name for name in mapper_names() if method == "all" or name not in SLOW_MAPPERS]
        else:
            create_mapper(method)  # Raises where the registry does not know it.
            names.append(method)
    return list(dict.fromkeys(names))


def _plot_zsl(results: list[Result], folder: Path, name: str) -> list[str]:
    made = []
    for protocol in ("held-out", "paper"):
        table = [r for r in results if r.setting.part == "table" and r.setting.protocol == protocol]
        for kind, plot in (("bars", plot_bars), ("seen-unseen", plot_seen_unseen)):
            file = f"{kind}-{protocol}.png"
            if plot(table, folder / file, title=f"{name}, {protocol} protocol"):
                made.append(file)
    curve = [result for result in results if result.setting.part == "curve"]
    if plot_curve_by_seen_classes(curve, folder / "seen-classes.png", title=f"{name}: how many seen classes it takes"):
        made.append("seen-classes.png")
    return made


def _plot_heldout(results: list[Result], folder: Path) -> list[str]:
    made = []
    for texts in dict.fromkeys(result.setting.descriptors for result in results):
        table = [result for result in results if result.setting.descriptors == texts]
        if plot_bars(table, folder / f"bars-{texts}.png", title=f"ImageNet, hidden classes told by: {texts}"):
            made.append(f"bars-{texts}.png")
        for head in list(dict.fromkeys(result.setting.head for result in table))[:1]:
            own = [result for result in table if result.setting.head == head]
            if plot_seen_unseen(own, folder / f"seen-unseen-{texts}.png", title=f"{head}, hidden classes told by: {texts}"):
                made.append(f"seen-unseen-{texts}.png")
    for score, title in (("harmonic_mean", "H"), ("zsl_accuracy", "T1")):
        points = self_score_points(results, score)
        file = f"self-score-{title}.png"
        if plot_self_score(points, folder / file, title="Self-score and truth", name=title) is not None:
            made.append(file)
    return made
