"""ImageNet heads with classes hidden: their rows are deleted, and the classes are given back by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from benchmarks.errors import BenchmarkDataError
from benchmarks.parts import PARTS_STEPS, PartsMapper
from benchmarks.results import Result, Setting, data_fingerprint
from benchmarks.units import CALIBRATION_NAMES, Problem, Unit, measure_calibrations, measure_raw
from timm_inject.text import ClassName
from timm_inject.text import ClassText, resolve_class_texts
from timm_inject.text import encode_descriptors
from timm_inject.text import EncoderHandle
from timm_inject.mappers import ProgressCallback
from timm_inject.mappers import assign_folds

__all__ = [
    "TEXT_KINDS",
    "VECTOR_KINDS",
    "HeldOutBenchmark",
    "HeldOutHead",
    "HeldOutPlan",
    "TextKind",
    "count_senses",
    "validation_classes",
]

# How a hidden class is told. "lemma": its first lemma, as a user would type it; the package looks the definition up, and may
# take another sense. "synset": with the definition of the right sense. "words": as "lemma", without the place in WordNet.
# "name": the lemma without any definition, and the seen classes likewise. "described": by a description that the user wrote.
# "wiki2vec", "conceptnet": by the vectors that the ICIS authors published for the 1000 classes, without an encoder.
TextKind = Literal["lemma", "synset", "words", "name", "described", "wiki2vec", "conceptnet"]
VECTOR_KINDS: tuple[TextKind, ...] = ("wiki2vec", "conceptnet")
TEXT_KINDS: tuple[TextKind, ...] = ("lemma", "synset", "words", "name", "described", *VECTOR_KINDS)
_VALIDATION_SEED = 2026


@dataclass(frozen=True, slots=True)
class HeldOutHead:
    """A trained head and images that it classifies.

    Attributes:
        name: Of the timm model.
        rows: (num_classes, row_dim).
        names: In logit order.
        features: (num_images, feature_dim), the head's input.
        labels: (num_images,) logit index.
    """

    name: str
    rows: Tensor
    names: Sequence[ClassName]
    features: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class HeldOutPlan:
    """What to measure.

    Attributes:
        methods: Names of mappers.
        texts: How hidden classes are told.
        further_methods: Of the texts after the first; None for all methods.
        parts: Of "table"; "test", the further methods on photos of the test classes alone, with the first text; and "parts", what
            each part of the default adds, likewise.
        num_folds: Into how many folds the classes are dealt; each is hidden once.
        seeds: Each deals the classes anew.
    """

    methods: Sequence[str]
    texts: Sequence[TextKind] = ("lemma",)
    num_folds: int = 5
    seeds: Sequence[int] = (0,)
    further_methods: Sequence[str] | None = None
    parts: Sequence[str] = ("table",)


def validation_classes(num_classes: int) -> Tensor:
    """Which classes are for choosing settings of the package, on photos of them: half, drawn once and for all.

    Photos of the others, the test classes, are for figures alone. Rows and texts of all classes take part on both sides.

    Returns:
        (num_classes,) bool, in logit order.
    """
    is_validation = torch.zeros(num_classes, dtype=torch.bool)
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(_VALIDATION_SEED))
    is_validation[order[: num_classes // 2]] = True
    return is_validation


class HeldOutBenchmark:
    """Units of work on one head.

    Args:
        head: The head, its classes and its images.
        encoder: Of the texts.
        descriptions: For "described": class name or label -> text or texts.
        vectors: For the kinds that are vectors: (num_classes, dim) each, in logit order.
        progress: Called while something slow runs.

    Attributes:
        data: Fingerprint of head, images and encoder.

    Raises:
        BenchmarkDataError: There are not as many vectors as classes.
    """

    def __init__(
        self,
        head: HeldOutHead,
        encoder: EncoderHandle,
        descriptions: Mapping[str, str | Sequence[str]] | None = None,
        vectors: Mapping[str, Tensor] | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        for kind, part in (vectors or {}).items():
            if len(part) != len(head.rows):
                raise BenchmarkDataError(
                    f"There are {len(part)} {kind} vectors, and the head {head.name!r} has {len(head.rows)} classes."
                )
        self._head = head
        self._encoder = encoder
        self._descriptions = descriptions
        self._progress = progress
        self._descriptors: dict[str, tuple[Tensor, Tensor]] = {kind: (part, part) for kind, part in (vectors or {}).items()}
        self.data = data_fingerprint(
            head.rows, head.features, head.labels, encoder.encoder_id, sorted((descriptions or {}).items())
        )

    def units(self, plan: HeldOutPlan) -> Iterator[Unit]:
        """Everything that the plan asks for."""
        folds = [(seed, fold, plan.num_folds) for seed in plan.seeds for fold in range(plan.num_folds)]
        further_methods = plan.methods if plan.further_methods is None else plan.further_methods
        for fold in folds if "parts" in plan.parts else ():
            for step in PARTS_STEPS:
                yield self._parts_unit(plan.texts[0], step, *fold)
        for method in further_methods if "test" in plan.parts else ():
            for fold in folds:
                yield self._test_unit(plan.texts[0], method, *fold)
        for texts in plan.texts if "table" in plan.parts else ():
            for method in plan.methods if texts == plan.texts[0] else further_methods:
                for fold in folds:
                    yield self._unit(texts, method, *fold)

    def problem(self, texts: TextKind, seed: int, fold: int, num_folds: int) -> Problem:
        """Hide a fold: its rows are gone, and its images are those of new classes."""
        return self._hide(texts, assign_folds(len(self._head.rows), num_folds, torch.Generator().manual_seed(seed)) == fold)

    def hide(self, texts: TextKind, classes: Sequence[int]) -> Problem:
        """Hide these classes, given as logit indices."""
        hidden = torch.zeros(len(self._head.rows), dtype=torch.bool)
        hidden[list(classes)] = True
        return self._hide(texts, hidden)

    @property
    def head_name(self) -> str:
        """The timm model."""
        return self._head.name

    @property
    def num_classes(self) -> int:
        """Of the whole head."""
        return len(self._head.rows)

    @property
    def wnids(self) -> list[str]:
        """WordNet id of each class, or its name where it has none, in logit order."""
        return [name.synset.wnid if name.synset else name.name for name in self._head.names]

    def _hide(self, texts: TextKind, hidden: Tensor) -> Problem:
        head = self._head
        order = torch.cat([(~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]])
        logit_of_class = torch.empty_like(order)
        logit_of_class[order] = torch.arange(len(order))
        seen, new = self._encode(texts)
        return Problem(head.rows[~hidden], seen[~hidden], new[hidden], head.features, logit_of_class[head.labels])

    def _unit(self, texts: TextKind, method: str, seed: int, fold: int, num_folds: int) -> Unit:
        settings = tuple(
            self._setting("table", texts, method, calibration, seed, fold, num_folds) for calibration in CALIBRATION_NAMES
        )

        def measure() -> Iterator[Result]:
            notes = count_senses(self._head.names, texts, self._hidden(seed, fold, num_folds))
            for result in measure_calibrations(self.problem(texts, seed, fold, num_folds), settings, self._progress):
                yield replace(result, notes=notes)

        return Unit(f"{self._head.name}, {texts}, {method}, seed {seed}, fold {fold}", settings, measure)

    def _test_unit(self, texts: TextKind, method: str, seed: int, fold: int, num_folds: int) -> Unit:
        setting = self._setting("test", texts, method, "harmonic", seed, fold, num_folds)

        def measure() -> Iterator[Result]:
            problem, is_test = self.problem(texts, seed, fold, num_folds), ~validation_classes(self.num_classes)[self._head.labels]
            tested = replace(problem, features=problem.features[is_test], target=problem.target[is_test])
            return measure_calibrations(tested, (setting,), self._progress)

        return Unit(f"{self._head.name}, test classes, {method}, seed {seed}, fold {fold}", (setting,), measure)

    def _parts_unit(self, texts: TextKind, step: str, seed: int, fold: int, num_folds: int) -> Unit:
        setting = self._setting("parts", texts, step, "none", seed, fold, num_folds)

        def measure() -> Iterator[Result]:
            yield measure_raw(self.problem(texts, seed, fold, num_folds), PartsMapper(PARTS_STEPS[step]), setting)

        return Unit(f"{self._head.name}, {step}, seed {seed}, fold {fold}", (setting,), measure)

    def _setting(self, part: str, texts: TextKind, method: str, calibration: str, seed: int, fold: int, num_folds: int) -> Setting:
        return Setting(
            benchmark="imagenet-heldout",
            part=part,
            protocol="",
            descriptors=texts,
            method=method,
            calibration=calibration,
            seed=seed,
            head=self._head.name,
            fold=fold,
            num_seen=len(self._head.rows) - len(self._hidden(seed, fold, num_folds)),
            data=self.data,
        )

    def _hidden(self, seed: int, fold: int, num_folds: int) -> list[int]:
        folds = assign_folds(len(self._head.rows), num_folds, torch.Generator().manual_seed(seed))
        return (folds == fold).nonzero()[:, 0].tolist()

    def _encode(self, texts: TextKind) -> tuple[Tensor, Tensor]:
        """Descriptors of every class as a seen one and as a new one."""
        if texts not in self._descriptors:
            seen, new = _class_texts(self._head.names, texts, self._descriptions)
            self._descriptors[texts] = (
                encode_descriptors(seen, self._encoder, self._progress),
                encode_descriptors(new, self._encoder, self._progress),
            )
        return self._descriptors[texts]


def count_senses(names: Sequence[ClassName], texts: TextKind, hidden: Sequence[int]) -> dict[str, float]:
    """How many of the hidden names were taken in another sense than the class has, or found no definition."""
    _, new = _class_texts(names, texts, {}) if texts in ("lemma", "synset", "words", "name") else ([], [])
    pairs = [(names[i].synset, new[i].synset) for i in hidden] if new else []
    other = sum(true is not None and taken is not None and true != taken for true, taken in pairs)
    lost = sum(taken is None for _, taken in pairs)
    return {"new_names": float(len(hidden)), "other_sense": float(other), "no_definition": float(lost)}


def _class_texts(
    names: Sequence[ClassName], texts: TextKind, descriptions: Mapping[str, str | Sequence[str]] | None
) -> tuple[list[ClassText], list[ClassText]]:
    """Every class's text where it is seen, and where it is new."""
    if texts == "described":
        described, _ = resolve_class_texts(list(names), [], descriptions or {})
        return described, described
    look_up: Literal["auto"] | None = None if texts == "name" else "auto"
    # The name alone, as a user types it: which of its meanings it has is for the package to find out.
    typed = [ClassName(name.synset.lemmas[0] if name.synset else name.name) for name in names]
    seen, new = resolve_class_texts(list(names), typed, look_up)
    if texts == "synset":
        return seen, seen
    if texts == "words":
        return [replace(text, synset=None) for text in seen], [replace(text, synset=None) for text in new]
    return seen, new
