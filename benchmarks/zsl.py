"""The paper's benchmark: a classifier of the seen classes of CUB, SUN or AWA2 is given the unseen ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.ablation import ABLATION_STEPS, AblationMapper
from benchmarks.base_classifier import BaseClassifier, Protocol, train_base_classifier
from benchmarks.parts import PARTS_STEPS, PartsMapper
from benchmarks.results import Result, Setting, data_fingerprint
from benchmarks.slow import FEWEST_EPOCHS, SLOW_MAPPERS
from benchmarks.units import CALIBRATION_NAMES, Problem, Unit, measure_calibrations, measure_raw
from benchmarks.xlsa17 import ZslDataset
from timm_inject.mappers import IcisPaperMapper, ProgressCallback, create_mapper

__all__ = ["PARTS", "ZslBenchmark", "ZslPlan", "curve_sizes"]

PARTS = ("table", "parts", "ablation", "curve")
# The paper's numbers of seen classes, as shares of its 150.
_CURVE_SHARES = (1.0, 125 / 150, 100 / 150, 75 / 150, 50 / 150, 37 / 150, 25 / 150, 12 / 150)


@dataclass(frozen=True, slots=True)
class ZslPlan:
    """What to measure.

    Attributes:
        methods: Mapper -> seeds. Each seed trains a base classifier of its own.
        protocols: Of "held-out" and "paper".
        parts: Of `PARTS`; the ablation runs in the paper's protocol, the seen-class curve and the default's parts in the held-out
            one.
        seeds: Of the seen-class curve and the default's parts.
        curve_methods: Mappers of the seen-class curve.
        ablation_seeds: Of the ablation, which is slow.
    """

    methods: Mapping[str, Sequence[int]]
    protocols: Sequence[Protocol] = ("held-out",)
    parts: Sequence[str] = ("table",)
    seeds: Sequence[int] = (0,)
    curve_methods: Sequence[str] = ("icis", "kernel-ridge")
    ablation_seeds: Sequence[int] = (0,)


class ZslBenchmark:
    """Units of work on one dataset.

    Args:
        dataset: Features, labels and split.
        descriptors: (num_classes, descriptor_dim), of all classes in the dataset's order.
        kind: What the descriptors are, for the records.
        progress: Called while something slow runs.
        bases: Base classifiers by protocol and seed, to share among benchmarks of one dataset.
        cut_recipe: Whether the published recipe is stopped where its rule first could, where only its time counts.

    Attributes:
        dataset_data: Fingerprint of the dataset.
        data: Fingerprint of dataset and descriptors.
    """

    def __init__(
        self,
        dataset: ZslDataset,
        descriptors: Tensor,
        kind: str,
        progress: ProgressCallback | None = None,
        bases: dict[tuple[Protocol, int], BaseClassifier] | None = None,
        *,
        cut_recipe: bool = False,
    ) -> None:
        self._dataset = dataset
        self._descriptors = descriptors
        self._kind = kind
        self._progress = progress
        self._bases = {} if bases is None else bases
        self._cut_recipe = cut_recipe
        # A sample of the features: hashing 300 MB would take seconds at every start.
        sample = dataset.features[:: max(1, len(dataset.features) // 50)]
        self.dataset_data = data_fingerprint(dataset.features.shape, sample, dataset.labels)
        self.data = f"{self.dataset_data}-{data_fingerprint(descriptors)}"

    def units(self, plan: ZslPlan) -> Iterator[Unit]:
        """Everything that the plan asks for, quick mappers first."""
        if "table" in plan.parts:
            for protocol in plan.protocols:
                for method, seeds in sorted(plan.methods.items(), key=lambda item: item[0] == "icis-paper"):
                    for seed in seeds:
                        yield self._table_unit(protocol, method, seed)
        if "parts" in plan.parts:
            for seed in plan.seeds:
                for name in PARTS_STEPS:
                    yield self._parts_unit(name, seed)
        if "curve" in plan.parts:
            for method in plan.curve_methods:
                for seed in plan.seeds:
                    for size in curve_sizes(len(self._dataset.seen_classes)):
                        yield self._curve_unit(method, seed, size)
        if "ablation" in plan.parts:
            for seed in plan.ablation_seeds:
                for step in range(len(ABLATION_STEPS)):
                    yield self._ablation_unit(step, seed)

    def problem(self, protocol: Protocol, seed: int) -> Problem:
        """The base classifier's rows, the descriptors and the test images."""
        dataset = self._dataset
        images = torch.cat([dataset.test_seen, dataset.test_unseen])
        return Problem(
            rows=self.base_classifier(protocol, seed).rows,
            seen_descriptors=self._descriptors[dataset.seen_classes],
            unseen_descriptors=self._descriptors[dataset.unseen_classes],
            features=dataset.features[images],
            target=dataset.targets(images),
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

    def _table_unit(self, protocol: Protocol, method: str, seed: int) -> Unit:
        is_cut = self._cut_recipe and method in SLOW_MAPPERS
        calibrations = ("none",) if protocol == "paper" or is_cut else CALIBRATION_NAMES
        settings = tuple(self._setting("table", protocol, method, seed, calibration=calibration) for calibration in calibrations)

        def measure() -> Iterator[Result]:
            problem = self.problem(protocol, seed)
            if len(settings) == 1:
                mapper = _CutRecipe() if is_cut else create_mapper(method)
                yield self._with_base(measure_raw(problem, mapper, settings[0]), protocol, seed)
                return
            for result in measure_calibrations(problem, settings, self._progress):
                yield self._with_base(result, protocol, seed)

        return Unit(f"{method}, {protocol}, seed {seed}", settings, measure)

    def _curve_unit(self, method: str, seed: int, num_seen: int) -> Unit:
        setting = self._setting("curve", "held-out", method, seed, num_seen=num_seen)

        def measure() -> Iterator[Result]:
            problem = self.problem("held-out", seed)
            kept = torch.randperm(len(problem.rows), generator=torch.Generator().manual_seed(seed))[:num_seen].sort().values
            yield measure_raw(problem, create_mapper(method), setting, learn_from=kept)

        return Unit(f"{method} from {num_seen} seen classes, seed {seed}", (setting,), measure)

    def _parts_unit(self, step: str, seed: int) -> Unit:
        setting = self._setting("parts", "held-out", step, seed)

        def measure() -> Iterator[Result]:
            yield measure_raw(self.problem("held-out", seed), PartsMapper(PARTS_STEPS[step]), setting)

        return Unit(f"{step}, seed {seed}", (setting,), measure)

    def _ablation_unit(self, step: int, seed: int) -> Unit:
        setting = self._setting("ablation", "paper", ABLATION_STEPS[step].name, seed)

        def measure() -> Iterator[Result]:
            mapper = AblationMapper(ABLATION_STEPS[step])
            yield measure_raw(self.problem("paper", seed), mapper, setting)

        return Unit(f"{ABLATION_STEPS[step].name}, seed {seed}", (setting,), measure)

    def _setting(
        self, part: str, protocol: Protocol, method: str, seed: int, *, calibration: str = "none", num_seen: int = 0
    ) -> Setting:
        return Setting(
            benchmark=self._dataset.name,
            part=part,
            protocol=protocol,
            descriptors=self._kind,
            method=method,
            calibration=calibration,
            seed=seed,
            num_seen=num_seen,
            data=self.data,
        )

    def _with_base(self, result: Result, protocol: Protocol, seed: int) -> Result:
        base = self.base_classifier(protocol, seed)
        return replace(
            result, notes={"base_epochs": base.epochs, "base_weight_decay": base.weight_decay, "base_init_std": base.init_std}
        )


class _CutRecipe(IcisPaperMapper):
    """The published recipe, stopped where its rule first could: for its time alone."""

    max_epochs = FEWEST_EPOCHS


def curve_sizes(num_seen: int) -> list[int]:
    """Numbers of seen classes for the seen-class curve: the paper's shares of its 150, and at least 3."""
    return sorted({max(3, round(share * num_seen)) for share in _CURVE_SHARES}, reverse=True)
