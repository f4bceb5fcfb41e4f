"""Reading the benchmarks' files: MATLAB's, indices, word vectors, and what is said when something is wrong."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import BenchmarkDataError, BenchmarkFileError
from benchmarks.descriptors import dataset_descriptors, imagenet_descriptors
from benchmarks.synthetic import DatasetSize, write_synthetic
from benchmarks.xlsa17 import load_xlsa17
from tests.helpers import WordEncoder
from timm_inject.text import ClassName

scipy_io = pytest.importorskip("scipy.io")

# Six images of three classes; MATLAB counts from 1 and keeps an image in a column.
FEATURES = np.arange(12, dtype=np.float64).reshape(2, 6)
ATT = np.array([[1.0, 0.0, 0.6], [0.0, 1.0, 0.8]])
NAMES = ["001.Black_footed_Albatross", "grizzly+bear", "abbey"]


def content(**changes):
    return {
        "features": FEATURES,
        "labels": np.array([[1], [1], [3], [3], [2], [2]]),
        "att": ATT,
        "allclasses_names": np.array([[name] for name in NAMES], dtype=object),
        "trainval_loc": np.array([[1], [3]]),
        "test_seen_loc": np.array([[2], [4]]),
        "test_unseen_loc": np.array([[5], [6]]),
    } | changes


def write_files(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    values = content(**changes)
    scipy_io.savemat(folder / "res101.mat", {name: values.pop(name) for name in ("features", "labels")})
    scipy_io.savemat(folder / "att_splits.mat", values)


@pytest.mark.parametrize("inner", ["", "CUB"])
def test_files_are_read_from_both_places(tmp_path, inner):
    write_files(tmp_path / inner)
    dataset = load_xlsa17(tmp_path, "cub")
    assert dataset.features.tolist() == FEATURES.T.tolist()
    assert dataset.features.dtype == torch.float32
    assert dataset.labels.tolist() == [0, 0, 2, 2, 1, 1]
    assert dataset.class_names == tuple(NAMES)
    assert torch.allclose(dataset.attributes, torch.tensor(ATT.T, dtype=torch.float32))
    assert [part.tolist() for part in (dataset.train_seen, dataset.test_seen, dataset.test_unseen)] == [[0, 2], [1, 3], [4, 5]]
    assert dataset.seen_classes.tolist() == [0, 2]
    assert dataset.unseen_classes.tolist() == [1]
    # Logit order: seen classes first, so class 2 is logit 1 and the unseen class 1 is logit 2.
    assert dataset.targets(torch.arange(6)).tolist() == [0, 0, 1, 1, 2, 2]
    assert not dataset.is_published


def test_a_missing_file_is_named_with_where_it_is_published_and_where_we_looked(tmp_path):
    with pytest.raises(BenchmarkFileError) as caught:
        load_xlsa17(tmp_path, "sun")
    assert isinstance(caught.value, FileNotFoundError)
    assert str(caught.value) == (
        f"The file 'res101.mat' is not in '{tmp_path / 'SUN'}'. It is published in the archive xlsa17.zip of "
        "https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/zero-shot-learning/"
        "zero-shot-learning-the-good-the-bad-and-the-ugly. Unpack it and pass the folder that holds CUB/, SUN/, AWA2/ as "
        "`--data-root`."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": np.array([[0], [1], [3], [3], [2], [2]])},
            "`labels` in '{}/res101.mat' holds 0 to 3; expected indices from 1 to 3.",
        ),
        (
            {"labels": np.array([[1], [1], [3], [3], [2], [4]])},
            "`labels` in '{}/res101.mat' holds 1 to 4; expected indices from 1 to 3.",
        ),
        ({"labels": np.array([[1], [2]])}, "'{}/res101.mat' holds 6 feature columns and 2 labels; expected one an image."),
        (
            {"test_seen_loc": np.array([[2], [7]])},
            "`test_seen_loc` in '{}/att_splits.mat' holds 2 to 7; expected indices from 1 to 6.",
        ),
        ({"trainval_loc": np.array([[1], [3], [5]])}, "'{}' has training images of 1 unseen classes, such as 'grizzly+bear'."),
        ({"test_seen_loc": np.array([[1], [4]])}, "`trainval_loc` and `test_seen_loc` in '{}' share images."),
        ({"att": ATT[:, :2]}, "'{}' has 2 attribute columns for 3 class names."),
        ({"trainval_loc": np.array([[1]])}, "`test_seen_loc` in '{}' has images of 1 classes without training images."),
    ],
)
def test_a_wrong_file_is_told(tmp_path, changes, message):
    write_files(tmp_path, **changes)
    with pytest.raises(BenchmarkDataError) as caught:
        load_xlsa17(tmp_path, "cub")
    assert str(caught.value) == message.format(tmp_path)


def test_a_file_without_the_variable_and_one_that_is_no_matlab_file(tmp_path):
    write_files(tmp_path)
    scipy_io.savemat(tmp_path / "att_splits.mat", {"att": ATT})
    with pytest.raises(BenchmarkDataError, match="lacks the variables allclasses_names, trainval_loc"):
        load_xlsa17(tmp_path, "cub")
    (tmp_path / "att_splits.mat").write_bytes(b"no matlab file at all" * 30)
    with pytest.raises(BenchmarkDataError, match="could not be read as a MATLAB file"):
        load_xlsa17(tmp_path, "cub")


@pytest.fixture
def dataset(tmp_path):
    write_files(tmp_path / "CUB")
    return load_xlsa17(tmp_path, "cub")


def write_vectors(folder, names=NAMES[::-1]):
    """Published vectors, in another order than the dataset's classes."""
    (folder / "wiki2vec").mkdir(parents=True)
    np.save(folder / "wiki2vec" / "CUB_wiki_sum_list.npy", np.eye(4)[: len(names)] * 3)
    np.save(folder / "wiki2vec" / "imgnet_wiki_list.npy", np.eye(5) * 2)
    wrapped = np.empty((len(names), 1), dtype=object)
    for index, name in enumerate(names):
        wrapped[index, 0] = np.array([name])
    np.save(folder / "CUB_classnames.npy", wrapped, allow_pickle=True)


@pytest.mark.parametrize("place", ["class_embeddings", "embeddings", "../class_embeddings"])
def test_vectors_are_matched_by_class_name(tmp_path, dataset, place):
    write_vectors(tmp_path / "root" / place)
    vectors = dataset_descriptors(dataset, "wiki2vec", tmp_path / "root")
    assert torch.equal(vectors, torch.eye(4)[[2, 1, 0]])
    classes = [ClassName(f"class {index}") for index in range(5)]
    assert torch.equal(imagenet_descriptors(classes, "wiki2vec", tmp_path / "root"), torch.eye(5))
    with pytest.raises(BenchmarkDataError, match="There are 5 published wiki2vec vectors, and the head has 4 classes."):
        imagenet_descriptors(classes[1:], "wiki2vec", tmp_path / "root")


def test_attributes_have_length_1(dataset, tmp_path):
    lengths = dataset_descriptors(dataset, "att", tmp_path).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(3))


def test_missing_and_wrong_vectors_are_told(tmp_path, dataset):
    with pytest.raises(BenchmarkFileError, match=r"'conceptnet/CUB_cn_sum_list.npy' is in none of .*ImageFreeZSL"):
        dataset_descriptors(dataset, "conceptnet", tmp_path)
    write_vectors(tmp_path / "embeddings", NAMES[:2])
    with pytest.raises(BenchmarkDataError, match="The wiki2vec vectors of CUB lack 1 classes, such as 'abbey'."):
        dataset_descriptors(dataset, "wiki2vec", tmp_path)


def test_a_name_list_cannot_run_code(tmp_path, dataset):
    write_vectors(tmp_path / "embeddings")

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "embeddings" / "CUB_classnames.npy"
    header = path.read_bytes()[:128]
    path.write_bytes(header + pickle.dumps(Evil()))
    with pytest.raises(BenchmarkDataError, match="only numpy arrays are let in"):
        dataset_descriptors(dataset, "wiki2vec", tmp_path)
    assert not (tmp_path / "ran").exists()
    np.load(path, allow_pickle=True)  # proves that the file would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"), ("Black footed Albatross",)),
        (("grizzly+bear", "killer+whale", "antelope"), ("grizzly bear", "antelope")),
    ],
)
def test_names_are_encoded_as_a_person_writes_them(dataset, tmp_path, labels, names):
    class Recorder(WordEncoder):
        def encode(self, sentences):
            texts.extend(sentences)
            return super().encode(sentences)

    texts: list[str] = []
    assert len(dataset_descriptors(replace(dataset, class_names=labels), "names", tmp_path, Recorder())) == 3
    assert all(any(name in text for text in texts) for name in names)
    assert not any("+" in text or "00" in text for text in texts)


def test_synthetic_files_are_a_dataset(tmp_path):
    size = DatasetSize(6, 3, 5, train_seen=30, test_seen=12, test_unseen=9, feature_dim=4)
    write_synthetic(tmp_path, "awa2", size)
    dataset = load_xlsa17(tmp_path, "awa2")
    assert dataset.features.shape == (51, 4)
    assert (len(dataset.seen_classes), len(dataset.unseen_classes)) == (6, 3)
    assert [len(part) for part in (dataset.train_seen, dataset.test_seen, dataset.test_unseen)] == [30, 12, 9]
    assert dataset.attributes.shape == (9, 5)
    assert (dataset.features >= 0).all()


DATA = Path(os.environ.get("TIMM_INJECT_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.mark.skipif(not (DATA / "cub100").is_dir(), reason="cub100 is not in TIMM_INJECT_DATA or ../shared/data")
def test_real_files():
    dataset = load_xlsa17(DATA / "cub100", "cub")
    assert dataset.features.shape == (5902, 2048)
    assert (len(dataset.seen_classes), len(dataset.unseen_classes)) == (73, 27)
    assert [len(part) for part in (dataset.train_seen, dataset.test_seen, dataset.test_unseen)] == [3432, 860, 1610]
    # wiki2vec has all 200 classes in an order of its own; names decide.
    assert dataset_descriptors(dataset, "wiki2vec", DATA / "cub100").shape == (100, 300)
