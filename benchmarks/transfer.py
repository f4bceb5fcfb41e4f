"""From an ImageNet head to another dataset's classes, by their names: nothing is trained on that dataset's images.

Source: Christensen et al., ICCV 2023, table 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.descriptors import imagenet_vectors
from benchmarks.errors import BenchmarkDataError
from benchmarks.heldout import HeldOutHead
from benchmarks.results import Result, Setting, data_fingerprint
from benchmarks.units import CALIBRATION_NAMES, Problem, Unit, measure_calibrations
from benchmarks.xlsa17 import ZslDataset
from timm_inject.text import ClassName
from timm_inject.text import resolve_class_texts
from timm_inject.text import encode_descriptors
from timm_inject.text import EncoderHandle

__all__ = ["TransferBenchmark", "imagenet_descriptors"]


def imagenet_descriptors(names: Sequence[ClassName], kind: str, data_root: Path, encoder: EncoderHandle | None) -> Tensor:
    """Descriptors of the head's own classes, in logit order, of the same kind as the dataset's.

    Args:
        names: The head's classes.
        kind: "wiki2vec", "conceptnet" or "names".
        data_root: Where published vectors are looked for.
        encoder: For "names".

    Raises:
        BenchmarkFileError: The vectors are missing.
        BenchmarkDataError: There are not as many vectors as classes.
    """
    if kind == "names" and encoder is not None:
        texts, _ = resolve_class_texts(list(names), [])
        return encode_descriptors(texts, encoder)
    vectors = imagenet_vectors(kind, data_root)
    if len(vectors) != len(names):
        raise BenchmarkDataError(f"There are {len(vectors)} published {kind} vectors, and the head has {len(names)} classes.")
    return vectors


class TransferBenchmark:
    """Units of work on one head and one dataset.

    T1 and u are measured on the dataset's images of unseen classes, s on the head's own images, where there are any.

    Args:
        dataset: Its features must be what the head takes.
        head: An ImageNet head; its images may be none.
        seen_descriptors: (num_classes of the head, descriptor_dim).
        descriptors: (num_classes of the dataset, descriptor_dim).
        kind: What the descriptors are, for the records.

    Attributes:
        data: Fingerprint of all of it.

    Raises:
        BenchmarkDataError: Features and head are of different widths.
    """

    def __init__(self, dataset: ZslDataset, head: HeldOutHead, seen_descriptors: Tensor, descriptors: Tensor, kind: str) -> None:
        if head.features.shape[1] != dataset.features.shape[1]:
            raise BenchmarkDataError(
                f"The features in res101.mat have width {dataset.features.shape[1]}, and the head of {head.name!r} takes "
                f"{head.features.shape[1]}. Pass as `--head` the timm model that made the features."
            )
        num_seen = len(head.rows)
        images = dataset.test_unseen
        self._problem = Problem(
            rows=head.rows,
            seen_descriptors=seen_descriptors,
            unseen_descriptors=descriptors[dataset.unseen_classes],
            features=torch.cat([head.features, dataset.features[images]]),
            target=torch.cat([head.labels, dataset.targets(images) - len(dataset.seen_classes) + num_seen]),
        )
        self._benchmark, self._head, self._kind = dataset.name, head.name, kind
        self.data = data_fingerprint(head.rows, head.labels, dataset.labels, seen_descriptors, descriptors)

    def units(self, methods: Sequence[str], seeds: Sequence[int]) -> Iterator[Unit]:
        """Every method with every seed, under all calibrations."""
        for method in methods:
            for seed in seeds:
                yield self._unit(method, seed)

    def _unit(self, method: str, seed: int) -> Unit:
        settings = tuple(
            Setting(self._benchmark, "transfer", "", self._kind, method, calibration, seed, head=self._head, data=self.data)
            for calibration in CALIBRATION_NAMES
        )

        def measure() -> Iterator[Result]:
            return measure_calibrations(self._problem, settings)

        return Unit(f"{self._head} to {self._benchmark}, {method}, seed {seed}", settings, measure)
