"""ImageNet heads with hidden classes, images of a folder, and the transfer to another dataset."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.errors import BenchmarkDataError, BenchmarkFileError
from PIL import Image
from timm_inject.text.taxonomy import TAXONOMY_DIM

from benchmarks.heldout import HeldOutBenchmark, HeldOutHead, HeldOutPlan, count_senses, validation_classes
from benchmarks.images import image_features, read_labelled_images
from benchmarks.report import heldout_tables, self_score_points
from benchmarks.results import ResultStore
from benchmarks.synthetic import DatasetSize, write_synthetic
from benchmarks.transfer import TransferBenchmark
from benchmarks.units import CALIBRATION_NAMES, run_units, without_cache
from benchmarks.xlsa17 import load_xlsa17
from tests.helpers import NAMES, WordEncoder, needs_offline
from timm_inject import cli, save_for_hf
from timm_inject.cache import cache_directory
from timm_inject.head import find_head, read_rows
from timm_inject.images.classification import image_transform, load_image
from timm_inject.mappers.registry import create_mapper
from timm_inject.text.encoder import EncoderHandle
from timm_inject.text.names import resolve_seen_class_names

pytest.importorskip("scipy")


@pytest.fixture
def encoder():
    return EncoderHandle("words", None, WordEncoder)


@pytest.fixture
def head():
    """Rows of 20 ImageNet classes and images that they classify right."""
    generator = torch.Generator().manual_seed(0)
    names = resolve_seen_class_names(None, 1000, "imagenet-1k")[100:120]
    rows = torch.randn(20, 9, generator=generator)
    labels = torch.arange(60) % 20
    return HeldOutHead("toy", rows, names, 3 * rows[labels, :8], labels)


def test_a_hidden_class_has_no_row_and_its_images_are_new(head, encoder):
    benchmark = HeldOutBenchmark(head, encoder)
    hidden_once = []
    for fold in range(4):
        problem = benchmark.problem("lemma", 0, fold, 4)
        assert problem.rows.shape == (15, 9)
        assert problem.unseen_descriptors.shape == (5, 32 + TAXONOMY_DIM)
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
    plan = HeldOutPlan(["kernel-ridge", "mean-row"], ("lemma", "name"), num_folds=4)
    store = ResultStore(tmp_path / "results.jsonl")
    run_units(benchmark.units(plan), store)
    results = list(store)
    assert len(results) == 2 * 2 * 4 * len(CALIBRATION_NAMES)
    assert not [result.error for result in results if result.error]
    assert all(0 <= result.scores["zsl_accuracy"] <= 1 and result.self_score for result in results)
    assert all(result.seconds["predict"] > 0 for result in results)
    sections = heldout_tables(results)
    assert sections[0] == "#### Every method, hidden classes told by: lemma"
    assert "| kernel-ridge | " in sections[1]
    assert "Of 5 hidden names a fold, " in sections[2]
    assert len(sections) == 3  # no table by head and text without the default mapper
    points = self_score_points(results, "harmonic_mean")
    assert [point[0] for point in points] == ["toy, lemma", "toy, lemma", "toy, name", "toy, name"]


def test_half_of_the_classes_are_for_choosing_and_the_others_for_figures(head, encoder, tmp_path):
    is_validation = validation_classes(1000)
    assert is_validation.sum() == 500
    assert torch.equal(is_validation, validation_classes(1000))
    benchmark = HeldOutBenchmark(head, encoder)
    is_test = ~validation_classes(len(head.rows))[head.labels]
    assert 0 < is_test.sum() < len(is_test)
    plan = HeldOutPlan(["kernel-ridge", "ridge"], num_folds=2, further_methods=["kernel-ridge"], parts=["test"])
    units = list(benchmark.units(plan))
    assert [unit.settings[0].method for unit in units] == ["kernel-ridge"] * 2
    only_test = HeldOutBenchmark(replace(head, features=head.features[is_test], labels=head.labels[is_test]), encoder)
    expected = list(only_test.units(replace(plan, methods=["kernel-ridge"], parts=["table"])))
    for unit, other in zip(units, expected, strict=True):
        scores = {result.setting.calibration: result.scores for result in other.measure()}
        assert next(iter(unit.measure())).scores == scores["harmonic"]


def test_names_taken_in_another_sense_are_counted():
    names = resolve_seen_class_names(None, 1000, "imagenet-1k")
    cranes = [name for name in names if name.synset.lemmas[0] == "crane"]
    assert len(cranes) == 2
    # Typed alike, they get one sense, which is wrong for one of them.
    both = [0, 1]
    assert count_senses(cranes, "lemma", both) == {"new_names": 2.0, "other_sense": 1.0, "no_definition": 0.0}
    assert count_senses(cranes, "synset", both)["other_sense"] == 0.0
    assert count_senses(cranes, "name", both)["no_definition"] == 2.0
    assert {count_senses(cranes, "lemma", [index])["other_sense"] for index in both} == {0.0, 1.0}


def test_described_classes_take_the_users_text(head):
    class Recorder(WordEncoder):
        texts: list[str] = []  # noqa: RUF012

        def encode(self, sentences):
            Recorder.texts += sentences
            return super().encode(sentences)

    benchmark = HeldOutBenchmark(head, EncoderHandle("words", None, Recorder), {head.names[3].name: "a very odd thing"})
    benchmark.problem("described", 0, 0, 4)
    assert any("a very odd thing" in text for text in Recorder.texts)


def test_vectors_stand_in_for_texts(head, encoder):
    vectors = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    problem = HeldOutBenchmark(head, encoder, vectors={"wiki2vec": vectors}).problem("wiki2vec", 0, 1, 4)
    assert torch.equal(torch.cat([problem.seen_descriptors, problem.unseen_descriptors]).sort(0).values, vectors.sort(0).values)
    assert count_senses(head.names, "wiki2vec", [0, 1])["other_sense"] == 0
    with pytest.raises(BenchmarkDataError, match="There are 19 wiki2vec vectors, and the head 'toy' has 20 classes."):
        HeldOutBenchmark(head, encoder, vectors={"wiki2vec": vectors[1:]})


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


@pytest.fixture
def names(small_model):
    return resolve_seen_class_names(small_model, 10)


def test_folders_are_named_by_index_or_name(photos, names):
    files, labels = read_labelled_images(photos, names)
    assert labels.tolist() == [3, NAMES.index("tiger cat"), NAMES.index("fire truck")]
    assert [file.parent.name for file in files] == ["3", "Tiger_Cat", "fire truck"]
    (photos / "okapi").mkdir()
    with pytest.raises(BenchmarkDataError, match=r"1 sub-folders of '.*' are named like no class of the model: 'okapi'."):
        read_labelled_images(photos, names)
    with pytest.raises(BenchmarkFileError, match="does not exist"):
        read_labelled_images(photos / "none", names)


def test_labels_csv_names_files_in_images(tmp_path, names):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,7\n")
    files, labels = read_labelled_images(tmp_path, names)
    assert (files, labels.tolist()) == ([tmp_path / "images" / "a.png"], [7])
    (tmp_path / "labels.csv").write_text("file,label\na.png,10\na.png,x\n")
    with pytest.raises(BenchmarkDataError, match="2 lines of '.*' are not a file and a label from 0 to 9: 2, 3."):
        read_labelled_images(tmp_path, names)
    (tmp_path / "labels.csv").write_text("file,label\nb.png,1\n")
    with pytest.raises(BenchmarkFileError, match="1 images of '.*' are not in '.*': 'b.png'."):
        read_labelled_images(tmp_path, names)


def test_features_give_the_models_own_logits_and_are_kept(small_model, photos, names, tmp_path):
    files, _ = read_labelled_images(photos, names)
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
    arguments = ["imagenet-heldout", "--images", photos, "--heads", f"local-dir:{tmp_path / 'model'}", "--folds", 2]
    page = tmp_path / "README.md"
    names = ("imagenet-heldout-summary", "self-score-summary")
    page.write_text("".join(f"<!-- benchmark:{name} -->\n<!-- /benchmark:{name} -->\n" for name in names))
    pages = ["--update-readme", str(page)]
    code = cli.main(["benchmark", *map(str, arguments), "--methods", "kernel-ridge", "--output", str(output), *pages])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert page.read_text().count("| `kernel-ridge` | ") == captured.out.count("| `kernel-ridge` | ") == 1
    assert "| kernel-ridge | " in captured.out
    assert "[16/16] " in captured.err  # two folds, each with six steps of the default's parts and the one method, twice
    assert "#### What each part of the default adds" in captured.out
    assert "#### On photos of the test classes alone" in captured.out
    assert len(json.loads((output / "summary.json").read_text())["results"]) == 3 + 1 + 6
    assert (output / "bars-lemma.png").is_file()
    code = cli.main(["benchmark", "self-score", str(output), "--output", str(tmp_path / "plots"), *pages])
    out = capsys.readouterr().out
    assert out.splitlines()[0] in page.read_text()
    assert code == 0
    assert "over 1 points (head or dataset, text, mapper; calibrated rows): too few points for T1, too few points for H." in out
    assert cli.main(["benchmark", "self-score", str(tmp_path)]) == 2
    assert "There is no results.jsonl in" in capsys.readouterr().err
    for wrong, message in (
        (["--texts", "wiki2vec"], "`--texts wiki2vec` needs `--vectors`"),
        (["--folds", "1"], "`--folds` must be at least 2, got 1."),
        (["--texts", "described"], "`--texts described` and `--descriptions FILE` go together."),
    ):
        assert cli.main(["benchmark", *map(str, arguments), *wrong, "--output", str(output)]) == 2
        assert message in capsys.readouterr().err


# ---- transfer ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path):
    pytest.importorskip("h5py")
    write_synthetic(tmp_path, "awa2", DatasetSize(4, 3, 5, train_seen=8, test_seen=4, test_unseen=9, feature_dim=8))
    return load_xlsa17(tmp_path, "awa2")


def test_transfer_scores_new_classes_over_all_and_among_themselves(head, target):
    generator = torch.Generator().manual_seed(0)
    seen, new = torch.randn(20, 6, generator=generator), torch.randn(7, 6, generator=generator)
    benchmark = TransferBenchmark(target, head, seen, new, "names")
    store = ResultStore(None)
    run_units(benchmark.units(["ridge"], [0]), store)
    raw = next(result for result in store if result.setting.calibration == "none")
    assert not raw.error
    rows = create_mapper("ridge").fit(seen, head.rows).predict_rows(new[target.unseen_classes])
    images = target.test_unseen
    logits = target.features[images] @ rows[:, :8].T + (rows[:, 8] if rows.shape[1] > 8 else 0)
    is_right = logits.argmax(1) == target.targets(images) - len(target.seen_classes)
    by_hand = is_right.reshape(3, 3).double().mean(1).mean()
    assert raw.scores["zsl_accuracy"] == pytest.approx(by_hand.item())
    assert raw.scores["seen_accuracy"] is not None
    own_images = HeldOutHead(head.name, head.rows, head.names, torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64))
    store = ResultStore(None)
    run_units(TransferBenchmark(target, own_images, seen, new, "names").units(["ridge"], [0]), store)
    without = next(result for result in store if result.setting.calibration == "none")
    assert without.scores["seen_accuracy"] is without.scores["harmonic_mean"] is None
    assert without.scores["unseen_accuracy"] is not None


def test_transfer_refuses_features_of_another_model(head, target):
    other = HeldOutHead("other", head.rows, head.names, torch.zeros(0, 7), head.labels[:0])
    with pytest.raises(BenchmarkDataError) as caught:
        TransferBenchmark(target, other, torch.zeros(20, 6), torch.zeros(7, 6), "names")
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
    arguments = [
        "awa2",
        "--data-root",
        tmp_path,
        "--transfer",
        "imagenet",
        "--methods",
        "mean-row",
        "--seeds",
        0,
        "--output",
        tmp_path / "out",
    ]
    code = cli.main(["benchmark", *map(str, arguments), "--descriptors", "wiki2vec", "--head", str(tmp_path / "head.npz")])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "From the ImageNet head head.npz by class name (wiki2vec)" in captured.out
    assert "Published T1 of ICIS with a ResNet-101 head: 65.5." in captured.out
    for extra, message in (
        ([], "needs `--head`"),
        (["--head", "x.npz"], "ImageNet's classes have no attributes"),
        (["--head", "x.npz", "--descriptors", "wiki2vec"], "The head 'x.npz' could not be read"),
    ):
        assert cli.main(["benchmark", *map(str, arguments), *extra]) == 2
        assert message in capsys.readouterr().err
