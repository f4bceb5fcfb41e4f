"""ImageNet heads with hidden classes, images of a folder, and the transfer to another dataset."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import BenchmarkDataError, BenchmarkFileError
from benchmarks.heldout import HeldOutBenchmark, class_texts, count_senses, validation_classes
from benchmarks.images import ImageHead, image_features, read_labelled_images
from benchmarks.report import heldout_tables, self_score_points
from benchmarks.results import ResultStore, Setting
from benchmarks.synthetic import DatasetSize, write_synthetic
from benchmarks.transfer import transfer_problem
from benchmarks.units import CALIBRATION_NAMES, calibrated_unit, run_units, without_cache
from benchmarks.xlsa17 import load_xlsa17
from tests.helpers import NAMES, WordEncoder, needs_offline, run_benchmark
from timm_inject import save_for_hf
from timm_inject.cache import cache_directory
from timm_inject.errors import ClassNameError, ImageError
from timm_inject.head import find_head, read_rows
from timm_inject.images import image_transform, load_image
from timm_inject.mappers import create_mapper
from timm_inject.text import resolve_encoder, resolve_seen_class_names
from timm_inject.text.kinds import KIND_DIM

pytest.importorskip("scipy")


@pytest.fixture
def encoder():
    return resolve_encoder(WordEncoder())


@pytest.fixture
def head():
    """Rows of 20 ImageNet classes and images that they classify right."""
    generator = torch.Generator().manual_seed(0)
    names = resolve_seen_class_names(None, 1000, "imagenet-1k")[100:120]
    rows = torch.randn(20, 9, generator=generator)
    labels = torch.arange(60) % 20
    return ImageHead("toy", rows, names, 3 * rows[labels, :8], labels)


def test_a_hidden_class_has_no_row_and_its_images_are_new(head, encoder):
    benchmark = HeldOutBenchmark(head, encoder)
    hidden_once = []
    for fold in range(4):
        problem = benchmark.hide("lemma", benchmark.fold(0, fold, 4))
        assert problem.rows.shape == (15, 9)
        assert problem.unseen_descriptors.shape == (5, 32 + KIND_DIM)
        is_hidden = ~(head.rows[:, None] == problem.rows[None]).all(2).any(1)
        hidden = is_hidden.nonzero()[:, 0].tolist()
        hidden_once += hidden
        # Seen classes keep their order; image 0 of each class tells where its class has gone.
        order = [index for index in range(20) if index not in hidden] + hidden
        assert [order[target] for target in problem.target[:20].tolist()] == list(range(20))
        assert torch.equal(problem.rows[problem.target[~is_hidden[head.labels]]], head.rows[head.labels[~is_hidden[head.labels]]])
    assert sorted(hidden_once) == list(range(20))


def test_every_method_and_calibration_is_measured(head, encoder, tmp_path):
    benchmark = HeldOutBenchmark(head, encoder)
    store = ResultStore(tmp_path / "results.jsonl")
    run_units(benchmark.units(["kernel-ridge", "mean-row"], ("lemma", "name"), num_folds=2), store)
    results = list(store)
    assert len(results) == (2 + 1) * 2 * len(CALIBRATION_NAMES)  # of the second text one of the main mappers
    assert not [result.error for result in results if result.error]
    assert all(0 <= result.scores["zsl_accuracy"] <= 1 and result.self_score for result in results)
    assert all(result.seconds["predict"] > 0 for result in results)
    (section,) = heldout_tables(results)  # no table by head and text without the default mapper
    assert section.startswith("#### Every method, hidden classes told by: lemma")
    assert "| kernel-ridge | " in section
    assert "Of 10 hidden names a fold, " in section
    points = self_score_points(results, "harmonic_mean")
    assert [point[0] for point in points] == ["toy, lemma", "toy, lemma", "toy, name"]


def test_half_of_the_classes_are_for_choosing_and_the_others_for_figures(head, encoder, tmp_path):
    is_validation = validation_classes(1000)
    assert is_validation.sum() == 500
    assert torch.equal(is_validation, validation_classes(1000))
    benchmark = HeldOutBenchmark(head, encoder)
    is_test = ~validation_classes(len(head.rows))[head.labels]
    assert 0 < is_test.sum() < len(is_test)
    units = list(benchmark.units(["kernel-ridge", "ridge"], num_folds=2, parts=["test"]))
    assert [unit.settings[0].method for unit in units] == ["kernel-ridge"] * 2
    only_test = HeldOutBenchmark(replace(head, features=head.features[is_test], labels=head.labels[is_test]), encoder)
    expected = list(only_test.units(["kernel-ridge"], num_folds=2))
    for unit, other in zip(units, expected, strict=True):
        scores = {result.setting.calibration: result.scores for result in other.measure()}
        assert next(iter(unit.measure())).scores == scores["harmonic"]


def test_names_taken_in_another_sense_are_counted():
    names = resolve_seen_class_names(None, 1000, "imagenet-1k")
    cranes = [name for name in names if name.name == "crane"]
    assert len(cranes) == 2
    # Typed alike, they get one sense, which is wrong for one of them.
    both = [0, 1]
    (_, typed), (_, right), (_, bare) = (class_texts(cranes, texts) for texts in ("lemma", "synset", "name"))
    assert count_senses(cranes, typed, both) == {"new_names": 2.0, "other_sense": 1.0, "no_definition": 0.0}
    assert count_senses(cranes, right, both)["other_sense"] == 0.0
    assert [text.descriptions for text in bare] == [(), ()]
    assert count_senses(cranes, [replace(text, sense=None) for text in bare], both)["no_definition"] == 2.0
    assert {count_senses(cranes, typed, [index])["other_sense"] for index in both} == {0.0, 1.0}


def test_words_are_texts_without_their_kind():
    names = resolve_seen_class_names(None, 1000, "imagenet-1k")[:3]
    (seen, new), (seen_words, new_words) = (class_texts(names, texts) for texts in ("synset", "no-kind"))
    assert all(text.kind for text in [*seen, *new])
    assert [replace(text, kind=None) for text in [*seen, *new]] == [*seen_words, *new_words]


def test_described_classes_take_the_users_text(head):
    class Recorder(WordEncoder):
        texts: list[str] = []  # noqa: RUF012

        def encode(self, sentences):
            Recorder.texts += sentences
            return super().encode(sentences)

    benchmark = HeldOutBenchmark(head, resolve_encoder(Recorder()), {head.names[3].name: "a very odd thing"})
    benchmark.hide("described", benchmark.fold(0, 0, 4))
    assert any("a very odd thing" in text for text in Recorder.texts)


def test_vectors_stand_in_for_texts(head, encoder):
    vectors = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    benchmark = HeldOutBenchmark(head, encoder, vectors={"wiki2vec": vectors})
    problem = benchmark.hide("wiki2vec", [1, 7])
    assert torch.equal(problem.unseen_descriptors, vectors[[1, 7]])
    assert torch.equal(problem.seen_descriptors, vectors[[0, *range(2, 7), *range(8, 20)]])
    assert {unit.settings[0].descriptors for unit in benchmark.units(["ridge"], ["wiki2vec"])} == {"wiki2vec"}


def test_fitting_leaves_the_users_cache_alone(head, encoder):
    before = cache_directory()
    with without_cache():
        assert cache_directory() is None
    assert cache_directory() == before


# ---- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name, color in (("3", "red"), ("Tiger_Cat", "green"), ("fire truck", "blue")):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), color).save(folder / name / "one.png")
    return folder


def test_folders_are_named_by_index_or_name(photos, small_model):
    files, labels = read_labelled_images(small_model, photos)
    assert dict(zip((file.parent.name for file in files), labels.tolist(), strict=True)) == {
        "3": 3,
        "Tiger_Cat": NAMES.index("tiger cat"),
        "fire truck": NAMES.index("fire truck"),
    }
    (photos / "okapi").mkdir()
    with pytest.raises(ClassNameError, match="sub-folders are named like no class of the model: 'okapi'"):
        read_labelled_images(small_model, photos)
    with pytest.raises(ImageError, match="does not exist"):
        read_labelled_images(small_model, photos / "none")


def test_labels_csv_names_files_in_images(tmp_path, small_model):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,7\n")
    files, labels = read_labelled_images(small_model, tmp_path)
    assert (files, labels.tolist()) == ([tmp_path / "images" / "a.png"], [7])
    (tmp_path / "labels.csv").write_text("file,label\na.png,10\na.png,x\n")
    with pytest.raises(BenchmarkDataError, match="2 lines of '.*' are not a file and a label from 0 to 9: 2, 3."):
        read_labelled_images(small_model, tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(BenchmarkDataError, match="labels.csv' names no images."):
        read_labelled_images(small_model, tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\nb.png,1\n")
    with pytest.raises(BenchmarkFileError, match="1 images of '.*' are not in '.*': 'b.png'."):
        read_labelled_images(small_model, tmp_path)


def test_features_give_the_models_own_logits_and_are_kept(small_model, photos, tmp_path):
    files, _ = read_labelled_images(small_model, photos)
    leaf = find_head(small_model).leaves[0]
    features = image_features(small_model, leaf, files, tmp_path / "kept")
    rows = read_rows(leaf)
    transform = image_transform(small_model)
    with torch.no_grad():
        logits = small_model(torch.stack([transform(load_image(file)) for file in files]))
    assert torch.allclose(features @ rows[:, :-1].T + rows[:, -1], logits, atol=1e-4)
    kept = list((tmp_path / "kept").iterdir())
    assert len(kept) == 1
    # A second call reads no image, and a file cut off by a kill is made again.
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(b"x" * len(content))
    assert torch.equal(image_features(small_model, leaf, files, tmp_path / "kept"), features)
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    assert torch.equal(image_features(small_model, leaf, files, tmp_path / "kept"), features)


@needs_offline
def test_command(capsys, small_model, photos, tmp_path):
    save_for_hf(small_model, tmp_path / "model")
    output = tmp_path / "out"
    arguments = ["imagenet", "--images", photos, "--heads", f"local-dir:{tmp_path / 'model'}", "--folds", 2]
    page = tmp_path / "README.md"
    names = ("imagenet-summary", "self-score-summary")
    page.write_text("".join(f"<!-- benchmark:{name} -->\n<!-- /benchmark:{name} -->\n" for name in names))
    pages = ["--update-readme", page]
    code, out, err = run_benchmark(capsys, *arguments, "--methods", "kernel-ridge", "--output", output, *pages)
    assert code == 0, err
    assert page.read_text().count("| `kernel-ridge` | ") == out.count("| `kernel-ridge` | ") == 1
    assert "| kernel-ridge | " in out
    assert "[10/10] " in err  # two folds, each with three steps of the default's parts and the one method, twice
    assert "#### What each part of the default adds" in out
    assert "#### On photos of the test classes alone" in out
    assert len(json.loads((output / "summary.json").read_text())["results"]) == 3 + 1 + 3
    assert (output / "bars-lemma.png").is_file()
    code, out, err = run_benchmark(capsys, "self-score", output, "--output", tmp_path / "plots", *pages)
    assert code == 0, err
    assert out.strip() in page.read_text()
    assert "over 1 points (head or dataset, text, mapper; calibrated rows): too few points for T1, too few points for H." in out
    code, _, err = run_benchmark(capsys, "self-score", tmp_path)
    assert code == 2
    assert "There is no results.jsonl in" in err
    for wrong, message in (
        (["--texts", "wiki2vec"], "`--texts wiki2vec` needs `--vectors`"),
        (["--folds", "1"], "`--folds` must be at least 2, got 1."),
        (["--texts", "described"], "`--texts described` and `--descriptions FILE` go together."),
    ):
        code, _, err = run_benchmark(capsys, *arguments, *wrong, "--output", output)
        assert code == 2
        assert message in err


# ---- transfer ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path):
    write_synthetic(tmp_path, "awa2", DatasetSize(4, 3, 5, train_seen=8, test_seen=4, test_unseen=9, feature_dim=8))
    return load_xlsa17(tmp_path, "awa2")


def test_transfer_scores_new_classes_over_all_and_among_themselves(head, target):
    generator = torch.Generator().manual_seed(0)
    seen, new = torch.randn(20, 6, generator=generator), torch.randn(7, 6, generator=generator)
    raw = raw_transfer(transfer_problem(target, head, seen, new))
    rows = create_mapper("ridge").fit(seen, head.rows).predict_rows(new[target.unseen_classes])
    images = target.test_unseen
    logits = target.features[images] @ rows[:, :8].T + (rows[:, 8] if rows.shape[1] > 8 else 0)
    is_right = logits.argmax(1) == target.targets(images) - len(target.seen_classes)
    by_hand = is_right.reshape(3, 3).double().mean(1).mean()
    assert raw.scores["zsl_accuracy"] == pytest.approx(by_hand.item())
    assert raw.scores["seen_accuracy"] is not None
    own_images = ImageHead(head.name, head.rows, head.names, torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64))
    without = raw_transfer(transfer_problem(target, own_images, seen, new))
    assert without.scores["seen_accuracy"] is without.scores["harmonic_mean"] is None
    assert without.scores["unseen_accuracy"] is not None


def raw_transfer(problem):
    unit = calibrated_unit("", Setting("awa2", "transfer", "", "names", "ridge", "none", 0), lambda: problem)
    return next(result for result in unit.measure() if result.setting.calibration == "none")


def test_transfer_refuses_features_of_another_model(head, target):
    other = ImageHead("other", head.rows, head.names, torch.zeros(0, 7), head.labels[:0])
    with pytest.raises(BenchmarkDataError) as caught:
        transfer_problem(target, other, torch.zeros(20, 6), torch.zeros(7, 6))
    assert str(caught.value) == (
        "The features in res101.mat have width 8, and the head of 'other' takes 7. Pass as `--head` the timm model that made "
        "the features."
    )


def test_transfer_command(capsys, target, tmp_path):
    (tmp_path / "embeddings" / "wiki2vec").mkdir(parents=True)
    generator = np.random.default_rng(0)
    np.save(tmp_path / "embeddings" / "wiki2vec" / "imgnet_wiki_list.npy", generator.random((1000, 6)))
    np.save(tmp_path / "embeddings" / "wiki2vec" / "AWA2_wiki_sum_list.npy", generator.random((7, 6)))
    wrapped = np.empty((7, 1), dtype=object)
    for index, name in enumerate(target.class_names):
        wrapped[index, 0] = np.array([name])
    np.save(tmp_path / "embeddings" / "AWA2_classnames.npy", wrapped, allow_pickle=True)
    np.savez(tmp_path / "head.npz", weight=generator.standard_normal((1000, 8)), bias=generator.standard_normal(1000))
    arguments = ("transfer", "awa2", "--data-root", tmp_path, "--methods", "mean-row", "--seeds", 0, "--output", tmp_path / "out")
    head = ("--head", tmp_path / "head.npz")
    code, out, err = run_benchmark(capsys, *arguments, "--descriptors", "wiki2vec", *head)
    assert code == 0, err
    assert "From the ImageNet head head.npz by class name (wiki2vec)" in out
    assert "Published T1 of ICIS with a ResNet-101 head: 65.5." in out
    made_by = (
        "Made by `python -m benchmarks transfer awa2 --methods mean-row --seeds 0 --data-root DIR --descriptors wiki2vec --head "
    )
    assert made_by in out
    for extra, message in (([], "Pass `--head`"), (["--head", "x.npz"], "The head 'x.npz' could not be read")):
        code, _, err = run_benchmark(capsys, *arguments, "--descriptors", "wiki2vec", *extra)
        assert code == 2
        assert message in err
