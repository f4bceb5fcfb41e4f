"""The paper's benchmark: a classifier of the seen classes of CUB, SUN or AWA2 is given the unseen ones."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.ablation import ABLATION_STEPS, PARTS_STEPS, AblationMapper
from benchmarks.base_classifier import BaseClassifier, Protocol, train_base_classifier
from benchmarks.descriptors import DESCRIPTORS, dataset_descriptors
from benchmarks.plots import plot_bars, plot_curve_by_seen_classes, plot_seen_unseen
from benchmarks.published import FEWEST_EPOCHS
from benchmarks.report import ablation_table, curve_table, descriptors_table, glance_table, main_table, parts_table, speed_note
from benchmarks.results import MAIN_MAPPERS, SLOW_MAPPERS, Result, Setting, data_fingerprint, select
from benchmarks.session import Session, add_method_options, add_plots_option, chosen_methods
from benchmarks.units import Problem, Unit, calibrated_unit, raw_unit
from benchmarks.xlsa17 import DATASETS, ZslDataset, add_data_option, data_root_of, load_xlsa17
from timm_inject.mappers import IcisPaperMapper, Mapper, create_mapper
from timm_inject.text import ProgressCallback

_PARTS = ("table", "parts", "ablation", "curve")
_PROTOCOLS: dict[str, tuple[Protocol, ...]] = {"held-out": ("held-out",), "paper": ("paper",), "both": ("held-out", "paper")}
# The paper's numbers of seen classes, of its 150.
_CURVE_SIZES = (150, 125, 100, 75, 50, 37, 25, 12)


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `cub`, `sun` and `awa2`."""
    command.set_defaults(dataset=command.get_default("command"))
    add_method_options(command, seeds=[0, 1, 2])
    add_data_option(command)
    text = "the first for all tables; with more, also a table of what each is worth"
    command.add_argument("--descriptors", nargs="+", choices=DESCRIPTORS, default=["att"], help=text)
    add_plan_options(command)


def add_plan_options(command: argparse.ArgumentParser) -> None:
    """What is to be measured."""
    text = "where the base classifier's epoch is chosen: on held-out training images, or on the seen test images as published"
    command.add_argument("--protocol", choices=list(_PROTOCOLS), default="held-out", help=text)
    command.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), metavar="PART", help=f"of {', '.join(_PARTS)}")
    text = f"of {', '.join(SLOW_MAPPERS)} and the ablation (default: the first)"
    command.add_argument("--slow-seeds", nargs="+", type=int, metavar="N", help=text)
    add_plots_option(command)


def run(options: argparse.Namespace) -> None:
    """CUB, SUN or AWA2."""
    run_on(data_root_of(options), options)


def run_on(data_root: Path, options: argparse.Namespace, *, is_made_up: bool = False) -> None:
    """The same on what lies in this folder."""
    methods = chosen_methods(options.methods, default="all")
    dataset = load_xlsa17(data_root, options.dataset)
    kinds, protocols = options.descriptors, _PROTOCOLS[options.protocol]
    session = Session(options)
    descriptors = {kind: dataset_descriptors(dataset, kind, data_root, options.encoder) for kind in kinds}
    benchmark = ZslBenchmark(dataset, descriptors, session.progress, cut_recipe=is_made_up)
    session.run(benchmark.units(methods, options.seeds, options.slow_seeds or options.seeds[:1], protocols, options.parts))
    by_kind = [result for data in benchmark.data.values() for result in select(session.store, data=data)]
    results = [result for result in select(by_kind, data=benchmark.data[kinds[0]]) if not result.error]
    is_published = dataset.is_published and not is_made_up
    sizes = f"{len(dataset.seen_classes)} seen and {len(dataset.unseen_classes)} unseen classes"
    about = "Made-up features: only seconds and memory mean something. " * is_made_up + DATASETS[options.dataset]
    images = f"{len(dataset.labels)} images, {sizes}, features of width {dataset.features.shape[1]}"
    tables = [
        f"{about}, descriptors: {kinds[0]}. {images}.",
        *(main_table(results, protocol, is_published_data=is_published) for protocol in protocols),
        parts_table(results),
        ablation_table(results, is_published_data=is_published),
        curve_table(results),
        descriptors_table(by_kind),
        speed_note(results, at_least=True) if is_made_up else "",
    ]
    about = f"{about}: {sizes}, descriptors `{kinds[0]}`, {protocols[0]} protocol, {len(options.seeds)} seeds."
    glance = glance_table(select(results, part="table", protocol=protocols[0]), about)
    name = f"{options.dataset.upper()}, {len(dataset.seen_classes)} + {len(dataset.unseen_classes)} classes"
    shown = [f"bars-{protocols[0]}.png", f"seen-unseen-{protocols[0]}.png", "seen-classes.png"]
    session.finish(by_kind, tables, _plot(results, options.output, name), glance, shown)


class ZslBenchmark:
    """Units of work on one dataset.

    Args:
        dataset: Features, labels and split.
        descriptors: Kind -> (num_classes, descriptor_dim), of all classes in the dataset's order. The first is for everything.
        progress: Called while something slow runs.
        cut_recipe: Whether the published recipe is stopped where its rule first could, where only its time counts.

    Attributes:
        data: Kind -> fingerprint of dataset and descriptors.
    """

    def __init__(
        self,
        dataset: ZslDataset,
        descriptors: Mapping[str, Tensor],
        progress: ProgressCallback | None = None,
        *,
        cut_recipe: bool = False,
    ) -> None:
        self._dataset = dataset
        self._descriptors = descriptors
        self._progress = progress
        self._cut_recipe = cut_recipe
        self._bases: dict[tuple[Protocol, int], BaseClassifier] = {}
        # A sample of the features: hashing 300 MB would take seconds at every start.
        sample = dataset.features[:: max(1, len(dataset.features) // 50)]
        own = data_fingerprint(dataset.features.shape, sample, dataset.labels)
        self.data = {kind: f"{own}-{data_fingerprint(part)}" for kind, part in descriptors.items()}

    def units(
        self,
        methods: Sequence[str],
        seeds: Sequence[int] = (0,),
        slow_seeds: Sequence[int] = (0,),
        protocols: Sequence[Protocol] = ("held-out",),
        parts: Sequence[str] = ("table",),
    ) -> Iterator[Unit]:
        """All that is asked for, quick mappers first. Each seed trains a base classifier of its own.

        Slow mappers and the ablation have seeds of their own. The protocols are those of the "table"; the "ablation" runs in the
        paper's protocol, the seen-class "curve", the default's "parts" and all further kinds of descriptors in the held-out one.
        """
        first, *further = self._descriptors
        main = [method for method in MAIN_MAPPERS if method in methods]
        for protocol in protocols if "table" in parts else ():
            for method in sorted(methods, key=lambda method: method in SLOW_MAPPERS):
                for seed in slow_seeds if method in SLOW_MAPPERS else seeds:
                    yield self._table_unit(first, protocol, method, seed)
        for seed in seeds if "parts" in parts else ():
            for name, mapper in PARTS_STEPS.items():
                yield self._raw_unit(first, "parts", "held-out", name, seed, mapper)
        for method, seed in product(main, seeds) if "curve" in parts else ():
            for size in curve_sizes(len(self._dataset.seen_classes)):
                yield self._raw_unit(first, "curve", "held-out", method, seed, partial(create_mapper, method), num_seen=size)
        for seed in slow_seeds if "ablation" in parts else ():
            for step in ABLATION_STEPS:
                yield self._raw_unit(first, "ablation", "paper", step.name, seed, partial(AblationMapper, step))
        for kind, method, seed in product(further, main, seeds):
            yield self._table_unit(kind, "held-out", method, seed)

    def _table_unit(self, kind: str, protocol: Protocol, method: str, seed: int) -> Unit:
        if self._cut_recipe and method in SLOW_MAPPERS:
            return self._raw_unit(kind, "table", protocol, method, seed, _CutRecipe)
        if protocol == "paper":
            return self._raw_unit(kind, "table", protocol, method, seed, partial(create_mapper, method))
        setting = Setting(self._dataset.name, "table", protocol, kind, method, "", seed, data=self.data[kind])
        problem = partial(self.problem, protocol, seed, kind)
        return calibrated_unit(f"{method}, {protocol}, seed {seed}", setting, problem, progress=self._progress)

    def _raw_unit(
        self, kind: str, part: str, protocol: Protocol, method: str, seed: int, mapper: Callable[[], Mapper], num_seen: int = 0
    ) -> Unit:
        setting = Setting(self._dataset.name, part, protocol, kind, method, "none", seed, num_seen=num_seen, data=self.data[kind])
        label = f"{method}{f' from {num_seen} seen classes' if num_seen else ''}, {protocol}, seed {seed}"
        return raw_unit(label, setting, partial(self.problem, protocol, seed, kind, num_seen), mapper)

    def problem(self, protocol: Protocol, seed: int, kind: str, num_seen: int = 0) -> Problem:
        """The base classifier's rows, the descriptors and the test images; mappers learn from so many seen classes, 0 for all."""
        dataset, base, descriptors = self._dataset, self.base_classifier(protocol, seed), self._descriptors[kind]
        images = torch.cat([dataset.test_seen, dataset.test_unseen])
        order = torch.randperm(len(base.rows), generator=torch.Generator().manual_seed(seed))
        return Problem(
            rows=base.rows,
            seen_descriptors=descriptors[dataset.seen_classes],
            unseen_descriptors=descriptors[dataset.unseen_classes],
            features=dataset.features[images],
            target=dataset.targets(images),
            learn_from=order[:num_seen].sort().values if num_seen else None,
            notes={"base_epochs": base.epochs, "base_weight_decay": base.weight_decay, "base_init_std": base.init_std},
        )

    def base_classifier(self, protocol: Protocol, seed: int) -> BaseClassifier:
        """Trained once a protocol and seed. Only the paper's protocol looks at test images."""
        key = (protocol, seed)
        if key not in self._bases:
            dataset = self._dataset
            selection = (dataset.features[dataset.test_seen], dataset.targets(dataset.test_seen)) if protocol == "paper" else None
            self._bases[key] = train_base_classifier(
                dataset.features[dataset.train_seen],
                dataset.targets(dataset.train_seen),
                seed=seed,
                selection=selection,
                progress=self._progress,
            )
        return self._bases[key]


class _CutRecipe(IcisPaperMapper):
    """The published recipe, stopped where its rule first could: for its time alone."""

    max_epochs = FEWEST_EPOCHS


def curve_sizes(num_seen: int) -> list[int]:
    """Numbers of seen classes for the seen-class curve: the paper's shares of its 150, and at least 3."""
    return sorted({max(3, round(size / _CURVE_SIZES[0] * num_seen)) for size in _CURVE_SIZES}, reverse=True)


def _plot(results: Sequence[Result], folder: Path, name: str) -> list[str]:
    made = {}
    for protocol in _PROTOCOLS["both"]:
        table = select(results, part="table", protocol=protocol)
        for kind, plot in (("bars", plot_bars), ("seen-unseen", plot_seen_unseen)):
            file = f"{kind}-{protocol}.png"
            made[file] = plot(table, folder / file, title=f"{name}, {protocol} protocol")
    file, title = "seen-classes.png", f"{name}: how many seen classes it takes"
    made[file] = plot_curve_by_seen_classes(select(results, part="curve"), folder / file, title=title)
    return [file for file, is_there in made.items() if is_there]
