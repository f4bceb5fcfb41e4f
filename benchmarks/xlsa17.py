"""The zero-shot benchmarks CUB, SUN and AWA2 in the layout that papers share ("xlsa17").

Source: Xian, Lampert, Schiele, Akata, "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the Bad and the Ugly",
TPAMI 2018; "Proposed Splits v2".
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import BenchmarkDataError, BenchmarkFileError
from timm_inject.errors import ArgumentValueError

# Command-line name -> folder in the published archive.
DATASETS = {"cub": "CUB", "sun": "SUN", "awa2": "AWA2"}
FEATURES_FILE, SPLITS_FILE = "res101.mat", "att_splits.mat"
SPLITS = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
_PUBLISHED_AT = (
    "the archive xlsa17.zip of https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/"
    "zero-shot-learning/zero-shot-learning-the-good-the-bad-and-the-ugly"
)
# Images of the full datasets.
_NUM_IMAGES = {"cub": 11_788, "sun": 14_340, "awa2": 37_322}


@dataclass(frozen=True, slots=True)
class ZslDataset:
    """Image features with labels, class attributes and the split into seen and unseen classes.

    Attributes:
        name: "cub", "sun" or "awa2".
        features: (num_images, feature_dim), float32.
        labels: (num_images,) int64, position in `class_names`.
        class_names: In the file's order, as the file writes them.
        attributes: (num_classes, num_attributes), float32, as the file holds them (xlsa17: of length 1).
        train_seen, test_seen, test_unseen: Image indices from 0: of seen classes for training, others, and of unseen classes.
    """

    name: str
    features: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    attributes: Tensor
    train_seen: Tensor
    test_seen: Tensor
    test_unseen: Tensor

    @property
    def seen_classes(self) -> Tensor:
        """(num_seen,) positions in `class_names`, rising: the logit order of the base classifier."""
        return self.labels[self.train_seen].unique()

    @property
    def unseen_classes(self) -> Tensor:
        """(num_unseen,) positions in `class_names`, rising: the order in which new classes are injected."""
        return self.labels[self.test_unseen].unique()

    @property
    def is_published(self) -> bool:
        """Whether this is the whole dataset that papers report on, as far as its size tells."""
        return len(self.labels) == _NUM_IMAGES[self.name]

    def targets(self, images: Tensor) -> Tensor:
        """Logit index of each image's class, seen classes first: (len(images),) int64."""
        logit_of_class = torch.full((len(self.class_names),), -1)
        order = torch.cat([self.seen_classes, self.unseen_classes])
        logit_of_class[order] = torch.arange(len(order))
        return logit_of_class[self.labels[images]]


def add_data_option(command: argparse.ArgumentParser) -> None:
    """Where the files are."""
    text = "holds res101.mat and att_splits.mat, or CUB/, SUN/, AWA2/ with them"
    command.add_argument("--data-root", type=Path, metavar="DIR", help=text)


def data_root_of(options: argparse.Namespace) -> Path:
    """The folder that the options name, which they must."""
    if options.data_root is None:
        raise ArgumentValueError("Pass `--data-root`, the folder that holds res101.mat and att_splits.mat.")
    return Path(options.data_root)


def load_xlsa17(data_root: Path, name: str) -> ZslDataset:
    """Read `res101.mat` and `att_splits.mat`.

    Args:
        data_root: The folder that holds CUB/, SUN/ or AWA2/, or the two files themselves.
        name: "cub", "sun" or "awa2".

    Raises:
        BenchmarkFileError: A file is missing.
        BenchmarkDataError: A file does not hold what it should.
    """
    folder = data_root / DATASETS[name]
    if not folder.is_dir() and (data_root / SPLITS_FILE).is_file():
        folder = data_root
    features_path, splits_path = folder / FEATURES_FILE, folder / SPLITS_FILE
    images = _read_mat(features_path, ("features", "labels"))
    splits = _read_mat(splits_path, ("att", "allclasses_names", *SPLITS))
    features = _as_matrix(images["features"], features_path, "features")
    labels = _from_one(images["labels"], len(splits["allclasses_names"]), features_path, "labels")
    if len(labels) != len(features):
        raise BenchmarkDataError(
            f"'{features_path}' holds {len(features)} feature columns and {len(labels)} labels; expected one an image."
        )
    attributes = _as_matrix(splits["att"], splits_path, "att")
    parts = (_from_one(splits[split], len(labels), splits_path, split) for split in SPLITS)
    dataset = ZslDataset(name, features, labels, tuple(splits["allclasses_names"]), attributes, *parts)
    _check(dataset, folder)
    return dataset


def _read_mat(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read variables of a MATLAB file: arrays in MATLAB's own orientation, cell arrays of strings as lists."""
    import scipy.io

    if not path.is_file():
        raise BenchmarkFileError(
            f"The file '{path.name}' is not in '{path.parent}'. It is published in {_PUBLISHED_AT}. Unpack it and pass the "
            f"folder that holds {', '.join(f'{folder}/' for folder in DATASETS.values())} as `--data-root`."
        )
    try:
        variables: dict[str, Any] = scipy.io.loadmat(path, variable_names=list(names))
    except (OSError, ValueError, NotImplementedError) as error:
        raise BenchmarkDataError(f"'{path}' could not be read as a MATLAB file: {error}") from error
    missing = [name for name in names if name not in variables]
    if missing:
        raise BenchmarkDataError(f"'{path}' lacks the variables {', '.join(missing)}; expected {', '.join(names)}.")
    for name, values in variables.items():
        if name in names and values.dtype == object:
            variables[name] = [str(np.asarray(cell).reshape(-1)[0]) for cell in values.reshape(-1)]
    return variables


def _from_one(values: Any, count: int, path: Path, name: str) -> Tensor:
    """MATLAB's indices from 1 to indices from 0; the only place where this is done."""
    numbers = torch.from_numpy(np.asarray(values).reshape(-1).astype(np.int64))
    if len(numbers) == 0 or numbers.min() < 1 or numbers.max() > count:
        bounds = f"{int(numbers.min())} to {int(numbers.max())}" if len(numbers) else "nothing"
        raise BenchmarkDataError(f"`{name}` in '{path}' holds {bounds}; expected indices from 1 to {count}.")
    return numbers - 1


def _as_matrix(values: Any, path: Path, name: str) -> Tensor:
    """A matrix with a column an item as float32 with a row an item."""
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise BenchmarkDataError(f"`{name}` in '{path}' has shape {values.shape} of {values.dtype}; expected a matrix of numbers.")
    return torch.from_numpy(np.ascontiguousarray(values.T, dtype=np.float32))


def _check(dataset: ZslDataset, folder: Path) -> None:
    num_classes = len(dataset.class_names)
    if len(dataset.attributes) != num_classes:
        raise BenchmarkDataError(f"'{folder}' has {len(dataset.attributes)} attribute columns for {num_classes} class names.")
    seen, unseen = set(dataset.seen_classes.tolist()), set(dataset.unseen_classes.tolist())
    both = sorted(dataset.class_names[index] for index in seen & unseen)
    if both:
        raise BenchmarkDataError(f"'{folder}' has training images of {len(both)} unseen classes, such as {both[0]!r}.")
    strange = set(dataset.labels[dataset.test_seen].tolist()) - seen
    if strange:
        raise BenchmarkDataError(f"`test_seen_loc` in '{folder}' has images of {len(strange)} classes without training images.")
    if set(dataset.train_seen.tolist()) & set(dataset.test_seen.tolist()):
        raise BenchmarkDataError(f"`trainval_loc` and `test_seen_loc` in '{folder}' share images.")
