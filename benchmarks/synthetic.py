"""Made-up datasets of the real ones' size, to see time and memory without the files. Their accuracies mean nothing."""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import zsl
from benchmarks.session import add_method_options
from benchmarks.xlsa17 import DATASETS, FEATURES_FILE, SPLITS, SPLITS_FILE


class DatasetSize(NamedTuple):
    """Counts of a dataset under Proposed Splits v2: of classes, attributes and images, and the width of a feature."""

    num_seen: int
    num_unseen: int
    num_attributes: int
    train_seen: int
    test_seen: int
    test_unseen: int
    feature_dim: int = 2048


_SIZES = {
    "cub": DatasetSize(150, 50, 312, 7_057, 1_764, 2_967),
    "sun": DatasetSize(645, 72, 102, 10_320, 2_580, 1_440),
    "awa2": DatasetSize(40, 10, 85, 23_527, 5_882, 7_913),
}


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `synthetic`."""
    command.add_argument("dataset", choices=list(DATASETS), metavar="DATASET", help=f"of {', '.join(DATASETS)}")
    command.set_defaults(descriptors=["att"])
    add_method_options(command, seeds=[0, 1, 2])
    zsl.add_plan_options(command)


def run(options: argparse.Namespace) -> None:
    """Every part of the benchmark on features of the dataset's real size; icis-paper is stopped after 25 epochs."""
    data_root = options.output / "data"
    write_synthetic(data_root, options.dataset, _SIZES[options.dataset])
    zsl.run_on(data_root, options, is_made_up=True)


def write_synthetic(data_root: Path, name: str, size: DatasetSize, *, seed: int = 0) -> None:
    """Write `res101.mat` and `att_splits.mat` of a made-up dataset into the dataset's folder: CUB/, SUN/ or AWA2/.

    Features are a random function of the attributes and noise, cut off at 0 like a ResNet's.
    """
    import scipy.io

    folder = data_root / DATASETS[name]
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    num_classes = size.num_seen + size.num_unseen
    attributes = generator.random((num_classes, size.num_attributes))
    attributes /= np.linalg.norm(attributes, axis=1, keepdims=True)
    order = generator.permutation(num_classes)
    seen, unseen = order[: size.num_seen], order[size.num_seen :]
    counts = [size.train_seen, size.test_seen, size.test_unseen]
    # `resize` repeats: each class has as many images as any other, give or take one.
    labels = np.concatenate([np.resize(classes, count) for classes, count in zip([seen, seen, unseen], counts, strict=True)])
    centred = attributes - attributes.mean(0)
    directions = generator.standard_normal((size.num_attributes, size.feature_dim))
    places = ((centred / centred.std() / size.num_attributes**0.5) @ directions).astype(np.float32)
    features = generator.standard_normal((size.feature_dim, len(labels)), dtype=np.float32)
    features += places[labels].T
    scipy.io.savemat(folder / FEATURES_FILE, {"features": features.clip(0), "labels": labels[:, None] + 1})
    names = np.array([[f"class_{index}"] for index in range(num_classes)], dtype=object)
    ends = zip(SPLITS, np.cumsum(counts), counts, strict=True)
    splits = {split: np.arange(end - count, end)[:, None] + 1 for split, end, count in ends}
    scipy.io.savemat(folder / SPLITS_FILE, {"att": attributes.T, "allclasses_names": names, **splits})
