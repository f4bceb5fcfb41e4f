"""Class descriptors of the benchmarks: attributes, published word vectors, or our own encoding of the names."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmarks import BenchmarkDataError, BenchmarkFileError
from benchmarks.xlsa17 import DATASETS, ZslDataset
from timm_inject.mappers import normalize
from timm_inject.text import (
    ClassName,
    EncoderSource,
    encode_descriptors,
    resolve_class_texts,
    resolve_encoder,
    resolve_seen_class_names,
)

_VECTOR_FILES = {"wiki2vec": "wiki2vec/{}_wiki_sum_list.npy", "conceptnet": "conceptnet/{}_cn_sum_list.npy"}
_IMAGENET_FILES = {"wiki2vec": "wiki2vec/imgnet_wiki_list.npy", "conceptnet": "conceptnet/imgnet_cn_list.npy"}
DESCRIPTORS = ("att", *_VECTOR_FILES, "names")
_PUBLISHED_AT = "the folder `embeddings` of https://github.com/ExplainableML/ImageFreeZSL"


def dataset_descriptors(
    dataset: ZslDataset, kind: str, data_root: Path, encoder: EncoderSource | None = None, seen_descriptors: Tensor | None = None
) -> Tensor:
    """One descriptor a class of the dataset, of length 1: (num_classes, descriptor_dim).

    Args:
        dataset: Names the classes and holds the attributes.
        kind: "att", "wiki2vec", "conceptnet" (published vectors, looked for near `data_root`), or "names" for texts looked up and
            encoded as `inject` does.
        data_root: The folder of the benchmark's files.
        encoder: For "names".
        seen_descriptors: For "names", where the classes are new to a head of others.

    Raises:
        BenchmarkFileError: A file is missing.
        BenchmarkDataError: A file has no vector for a class.
    """
    if kind == "att":
        return normalize(dataset.attributes)
    if kind == "names":
        labels = [label.replace("+", " ") for label in dataset.class_names]
        return encode_names(resolve_seen_class_names(None, len(labels), labels), encoder, seen_descriptors)
    folder = DATASETS[dataset.name]
    vectors = _load(data_root, _VECTOR_FILES[kind].format(folder))
    names = _load_names(data_root, f"{folder}_classnames.npy")
    if len(names) != len(vectors):
        raise BenchmarkDataError(f"{len(names)} class names of {folder} stand beside {len(vectors)} {kind} vectors.")
    position = {name: index for index, name in enumerate(names)}
    unknown = [name for name in dataset.class_names if name not in position]
    if unknown:
        raise BenchmarkDataError(f"The {kind} vectors of {folder} lack {len(unknown)} classes, such as {unknown[0]!r}.")
    return normalize(vectors[[position[name] for name in dataset.class_names]])


def imagenet_descriptors(names: Sequence[ClassName], kind: str, data_root: Path, encoder: EncoderSource | None = None) -> Tensor:
    """The same for an ImageNet head's own classes, in logit order, which have no attributes."""
    if kind == "names":
        return encode_names(names, encoder)
    vectors = _load(data_root, _IMAGENET_FILES[kind])
    if len(vectors) != len(names):
        raise BenchmarkDataError(f"There are {len(vectors)} published {kind} vectors, and the head has {len(names)} classes.")
    return normalize(vectors)


def encode_names(names: Sequence[ClassName], encoder: EncoderSource | None, seen_descriptors: Tensor | None = None) -> Tensor:
    """Descriptors of classes by what is looked up: (num_classes, descriptor_dim); `seen_descriptors` where they are new ones."""
    texts, _ = resolve_class_texts(names, [])
    return encode_descriptors(texts, resolve_encoder(encoder), seen_descriptors=seen_descriptors)


def _load(data_root: Path, file: str) -> Tensor:
    path = _find(data_root, file)
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError) as error:
        raise BenchmarkDataError(f"'{path}' could not be read as an array: {error}") from error


def _find(data_root: Path, file: str) -> Path:
    places = [folder / name for folder in (data_root, data_root.parent) for name in ("class_embeddings", "embeddings", ".")]
    path = next((place / file for place in places if (place / file).is_file()), None)
    if path is None:
        shown = ", ".join(f"'{place}'" for place in places[:2])
        raise BenchmarkFileError(
            f"The file '{file}' is in none of {shown} and their neighbours. It is published in {_PUBLISHED_AT}; put that "
            f"folder into the one that you pass as `--data-root`."
        )
    return path


class _ArraysOnly(pickle.Unpickler):
    """The authors' name lists are pickled arrays of arrays; a pickle may run any code, so nothing else is let in."""

    _ALLOWED: ClassVar[dict[str, Any]] = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] != "numpy" or name not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are let in")
        return self._ALLOWED[name]


def _load_names(data_root: Path, file: str) -> list[str]:
    path = _find(data_root, file)
    try:
        with path.open("rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("another version of numpy's file format than 1.0")
            np.lib.format.read_array_header_1_0(stream)
            names = _ArraysOnly(stream).load()
    except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise BenchmarkDataError(f"'{path}' could not be read as a list of class names: {error}.") from error
    return [str(np.asarray(name).reshape(-1)[0]) for name in names.reshape(-1)]
