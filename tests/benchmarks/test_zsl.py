"""The paper's benchmark end to end on a small made-up dataset, and what its training may look at."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.ablation import ABLATION_STEPS, PARTS_STEPS, AblationMapper
from benchmarks.base_classifier import train_base_classifier
from benchmarks.descriptors import dataset_descriptors
from benchmarks.report import speed_note
from benchmarks.results import ResultStore
from benchmarks.synthetic import DatasetSize, write_synthetic
from benchmarks.units import run_units
from benchmarks.xlsa17 import load_xlsa17
from benchmarks.zsl import ZslBenchmark, curve_sizes
from tests.helpers import related_classes, run_benchmark
from timm_inject.mappers import IcisNetworks, create_mapper, icis_paper, mapper_names
from timm_inject.mappers.networks import icis_loss

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

SIZE = DatasetSize(12, 4, 10, train_seen=120, test_seen=36, test_unseen=24, feature_dim=16)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_synthetic(folder, "cub", SIZE)
    return folder


@pytest.fixture
def dataset(data_root):
    return load_xlsa17(data_root, "cub")


def benchmark_of(dataset, data_root):
    return ZslBenchmark(dataset, {"att": dataset_descriptors(dataset, "att", data_root)})


# ---- leakage ----------------------------------------------------------------------------------------------------------


def without_test_features(dataset):
    features = dataset.features.clone()
    features[torch.cat([dataset.test_seen, dataset.test_unseen])] = torch.nan
    return replace(dataset, features=features)


def test_test_features_change_no_training_and_no_selection(dataset, data_root):
    blind = without_test_features(dataset)
    for seed in (0, 1):
        with_tests = benchmark_of(dataset, data_root).base_classifier("held-out", seed)
        without = benchmark_of(blind, data_root).base_classifier("held-out", seed)
        assert torch.equal(with_tests.rows, without.rows)
        assert (with_tests.epochs, with_tests.weight_decay) == (without.epochs, without.weight_decay)
        assert with_tests.selection_accuracy == without.selection_accuracy


def test_the_papers_protocol_does_look_at_the_seen_test_images(dataset, data_root):
    # So the test above can fail.
    sighted = benchmark_of(dataset, data_root).base_classifier("paper", 0)
    blind = benchmark_of(without_test_features(dataset), data_root).base_classifier("paper", 0)
    assert not torch.equal(sighted.rows, blind.rows)


def test_labels_of_test_images_change_no_rows_for_new_classes(dataset, data_root):
    generator = torch.Generator().manual_seed(0)
    shuffled = dataset.labels.clone()
    for part in (dataset.test_seen, dataset.test_unseen):
        shuffled[part] = shuffled[part][torch.randperm(len(part), generator=generator)]
    problem = benchmark_of(dataset, data_root).problem("held-out", 0, "att")
    other = benchmark_of(replace(dataset, labels=shuffled), data_root).problem("held-out", 0, "att")
    assert torch.equal(problem.rows, other.rows)
    assert torch.equal(problem.unseen_descriptors, other.unseen_descriptors)
    assert not torch.equal(problem.target, other.target)


# ---- base classifier --------------------------------------------------------------------------------------------------


def test_base_classifier_learns_repeats_and_leaves_the_global_generator_alone(dataset):
    features, labels = dataset.features[dataset.train_seen], dataset.targets(dataset.train_seen)
    state = torch.get_rng_state()
    one = train_base_classifier(features, labels, seed=0, epochs=30)
    two = train_base_classifier(features, labels, seed=0, epochs=30)
    other = train_base_classifier(features, labels, seed=1, epochs=30)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.rows, two.rows)
    assert not torch.equal(one.rows, other.rows)
    assert one.rows.shape == (12, 17)
    assert 1 <= one.epochs <= 30
    more = train_base_classifier(features, labels, seed=0, epochs=60, selection=(features, labels))
    assert more.selection_accuracy > 1 / 12


# ---- the default's parts ----------------------------------------------------------------------------------------------


def test_the_last_step_of_the_parts_is_the_default_and_the_first_is_kernel_ridge():
    descriptors, rows = related_classes()
    steps = [step().fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:]) for step in PARTS_STEPS.values()]
    for step, name in ((0, "kernel-ridge"), (-1, "icis")):
        own = create_mapper(name).fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
        assert torch.equal(steps[step], own)
    assert not torch.allclose(steps[-1], steps[-2], atol=1e-2)
    # Roots help where descriptors are counts.
    squares = torch.nn.functional.normalize(descriptors.sign() * descriptors**2, dim=1)
    with_roots, without = (list(PARTS_STEPS.values())[step]().fit(squares[:50], rows[:50]) for step in (1, 0))
    assert (with_roots.tensors["power"], without.tensors["power"]) == (0.5, 1.0)


# ---- the ablation -----------------------------------------------------------------------------------------------------


def test_the_last_step_of_the_ablation_is_the_papers_objective():
    generator = torch.Generator().manual_seed(0)
    networks = IcisNetworks(5, 7, latent_dim=11, generator=generator)
    descriptors, rows = torch.rand(6, 5, generator=generator), torch.rand(4, 7, generator=generator)
    is_seen = torch.tensor([True, True, False, True, True, False])
    losses = [AblationMapper(step)._loss(networks, descriptors, rows, is_seen) for step in ABLATION_STEPS]
    assert torch.allclose(losses[-1], icis_loss(networks, descriptors, rows, is_seen))
    # Every step is another objective; the last two differ in who takes part alone.
    assert len({round(loss.item(), 6) for loss in losses[:4]}) == 4
    assert torch.allclose(losses[3], losses[4])
    predicted = networks.row_from_descriptor(descriptors[is_seen])
    assert torch.allclose(losses[0], (predicted - rows).square().mean())


def test_a_step_of_the_ablation_fits_and_predicts(monkeypatch):
    monkeypatch.setattr(AblationMapper, "max_epochs", 3)
    generator = torch.Generator().manual_seed(0)
    descriptors, rows = torch.rand(6, 5, generator=generator), torch.rand(6, 7, generator=generator)
    unseen = torch.rand(2, 5, generator=generator)
    for step in ABLATION_STEPS:
        mapper = AblationMapper(step).fit(descriptors, rows, seed=0, unseen_descriptors=unseen)
        assert mapper.tensors["num_epochs"] == 3
        assert mapper.predict_rows(unseen).shape == (2, 7)


def test_every_step_of_the_ablation_gives_other_rows_in_a_run(dataset, data_root, monkeypatch):
    monkeypatch.setattr(AblationMapper, "max_epochs", 2)
    monkeypatch.setattr(icis_paper, "_LEARNING_RATE", 1e-2)
    store = ResultStore(None)
    run_units(benchmark_of(dataset, data_root).units([], parts=("ablation",)), store)
    curves = [result.curve for result in store]
    assert [result.error for result in store] == [""] * 5
    assert len(set(curves)) == 5  # the last step does get the descriptors of the new classes


def test_sizes_of_the_seen_class_curve():
    assert curve_sizes(150) == [150, 125, 100, 75, 50, 37, 25, 12]
    assert curve_sizes(73) == [73, 61, 49, 36, 24, 18, 12, 6]
    assert curve_sizes(6) == [6, 5, 4, 3]


# ---- end to end -------------------------------------------------------------------------------------------------------


def write_vectors(folder, dataset):
    (folder / "wiki2vec").mkdir(parents=True, exist_ok=True)
    np.save(folder / "wiki2vec" / "CUB_wiki_sum_list.npy", np.random.default_rng(0).random((16, 6)))
    wrapped = np.empty((16, 1), dtype=object)
    for index, name in enumerate(dataset.class_names):
        wrapped[index, 0] = np.array([name])
    np.save(folder / "CUB_classnames.npy", wrapped, allow_pickle=True)


def test_several_kinds_of_descriptors_are_compared(capsys, dataset, tmp_path):
    write_synthetic(tmp_path, "cub", SIZE)
    write_vectors(tmp_path / "embeddings", dataset)
    arguments = ("--methods", "kernel-ridge", "--seeds", 0, "--parts", "table", "--descriptors", "att", "wiki2vec")
    code, out, err = run_benchmark(capsys, "cub", "--data-root", tmp_path, *arguments, "--output", tmp_path / "out")
    assert code == 0, err
    table = out.split("#### By descriptors, held-out protocol")[1]
    assert "| att | kernel-ridge | " in table
    assert "| wiki2vec | kernel-ridge | " in table


def test_ctrl_c_keeps_what_is_done(capsys, data_root, tmp_path, monkeypatch):
    def stop(*args, seed, **kwargs):
        if seed == 1:
            raise KeyboardInterrupt
        return train_base_classifier(*args, seed=seed, **kwargs)

    monkeypatch.setattr("benchmarks.zsl.train_base_classifier", stop)
    arguments = ("cub", "--data-root", data_root, "--methods", "ridge", "--parts", "table", "--output", tmp_path)
    code, _, err = run_benchmark(capsys, *arguments)
    assert code == 130
    assert err.splitlines()[-1] == f"benchmarks: stopped. What is done is in '{tmp_path}'; the same command goes on."
    monkeypatch.undo()
    code, _, err = run_benchmark(capsys, *arguments)
    assert code == 0
    assert err.count("as stored") == 1


QUICK = ("--methods", "ridge", "kernel-ridge", "--parts", "table", "curve", "--seeds", 0, 1)


def test_benchmark_measures_resumes_and_writes_its_files(capsys, data_root, tmp_path):
    output, page, readme = tmp_path / "out", tmp_path / "docs" / "benchmarks.md", tmp_path / "README.md"
    page.parent.mkdir()
    page.write_text("<!-- benchmark:cub -->\n<!-- /benchmark:cub -->\n")
    readme.write_text("<!-- benchmark:cub-summary -->\n<!-- /benchmark:cub-summary -->\n")
    pages = ("--update-readme", page, readme, "--plots", page.parent / "plots")
    arguments = ("cub", "--data-root", data_root, *QUICK, "--protocol", "both", "--output", output, *pages)
    code, out, err = run_benchmark(capsys, *arguments)
    assert code == 0, err
    assert "[1/20] ridge, held-out, seed 0: T1 " in err
    assert "#### Held-out protocol" in out
    assert "#### The paper's protocol" in out
    assert "| kernel-ridge | " in out
    assert "60.6 / 45.8 / 73.7 / 56.5" in out  # published beside measured
    assert "mean ± standard deviation over seeds 0, 1" in out
    assert str(data_root) not in out
    made_by = (
        "Made by `python -m benchmarks cub --methods ridge kernel-ridge --seeds 0 1 --data-root DIR --protocol both --parts table "
        "curve`."
    )
    assert made_by in out
    assert out.strip() in page.read_text()
    pictures = ["bars-held-out.png", "seen-unseen-held-out.png", "seen-classes.png"]
    assert re.findall(r"!\[.+\]\(plots/cub/(.+)\)", page.read_text()) == pictures
    assert all((page.parent / "plots" / "cub" / picture).is_file() for picture in pictures)
    assert out.split("#### At a glance\n\n")[1].split("\n\nCUB, descriptors")[0] in readme.read_text()
    assert made_by in readme.read_text()
    assert "| `kernel-ridge` | " in readme.read_text()
    assert "| T1 raw |" not in readme.read_text()
    summary = json.loads((output / "summary.json").read_text())
    ours = [r for r in summary["results"] if (r["method"], r["calibration"], r["part"]) == ("ridge", "harmonic", "table")]
    assert len(ours) == 1
    assert ours[0]["scores"]["zsl_accuracy"]["count"] == 2
    assert 0 < ours[0]["self_score"]["harmonic_mean"]["mean"] <= 1
    for picture in ("bars-held-out", "seen-unseen-held-out", "bars-paper", "seen-classes"):
        assert (output / f"{picture}.png").read_bytes().startswith(b"\x89PNG")

    before = (output / "results.jsonl").read_text()
    code, again, err = run_benchmark(capsys, *arguments)
    assert (code, again) == (0, out)
    assert err.count("as stored") == 20
    assert (output / "results.jsonl").read_text() == before


def test_json_is_one_document_and_quiet_is_quiet(capsys, data_root, tmp_path):
    arguments = ("--methods", "ridge", "--seeds", 0, "--parts", "table", "--json", "--quiet", "--output", tmp_path)
    code, out, err = run_benchmark(capsys, "cub", "--data-root", data_root, *arguments)
    assert (code, err) == (0, "")
    assert {record["calibration"] for record in json.loads(out)["results"]} == {"none", "harmonic", "keep-seen"}


def test_a_failure_ends_with_2_and_keeps_the_rest(capsys, data_root, tmp_path, monkeypatch):
    real = train_base_classifier

    def breaks_on_seed_1(*args, seed, **kwargs):
        if seed == 1:
            raise RuntimeError("out of luck")
        return real(*args, seed=seed, **kwargs)

    monkeypatch.setattr("benchmarks.zsl.train_base_classifier", breaks_on_seed_1)
    arguments = (
        "cub",
        "--data-root",
        data_root,
        "--methods",
        "ridge",
        "--seeds",
        0,
        1,
        2,
        "--parts",
        "table",
        "--output",
        tmp_path,
    )
    code, out, err = run_benchmark(capsys, *arguments)
    assert code == 2
    assert "Failed: ridge, seed 1: RuntimeError: out of luck." in out
    assert "over seeds 0, 2" in out
    assert err.strip().splitlines()[-1].startswith("benchmarks: 3 runs failed, the first with: RuntimeError: out of luck.")
    monkeypatch.undo()
    code, out, _ = run_benchmark(capsys, *arguments)
    assert code == 0
    assert "over seeds 0, 1, 2" in out


def test_where_everything_fails_that_is_told(capsys, data_root, tmp_path, monkeypatch):
    def break_down(*args, **kwargs):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("benchmarks.zsl.train_base_classifier", break_down)
    arguments = ("--methods", "ridge", "kernel-ridge", "--seeds", 0, "--output", tmp_path, "--parts", "table", "curve")
    code, out, err = run_benchmark(capsys, "cub", "--data-root", data_root, *arguments)
    assert code == 2
    assert out.startswith("CUB, descriptors: att. 180 images")
    assert "|" not in out
    assert "runs failed, the first with: RuntimeError: out of luck." in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cub"], "benchmarks: Pass `--data-root`, the folder that holds res101.mat and att_splits.mat."),
        (["cub", "--data-root", "nowhere"], "benchmarks: The file 'res101.mat' is not in 'nowhere/CUB'."),
        (["cub", "--data-root", "{}", "--methods", "ridgy"], "benchmarks: There is no mapper 'ridgy'. Did you mean 'ridge'?"),
        (["cub", "--data-root", "{}", "--descriptors", "wiki2vec"], "benchmarks: The file 'wiki2vec/CUB_wiki_sum_list.npy' is in"),
        (["imagenet"], "benchmarks: Pass `--images`, a folder with one sub-folder a class."),
    ],
)
def test_mistakes_end_with_2_and_one_paragraph(capsys, data_root, tmp_path, arguments, message):
    filled = [argument.format(data_root) for argument in arguments]
    code, out, err = run_benchmark(capsys, *filled, "--output", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_every_benchmark_describes_itself(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    names = re.findall(r"^ {4}([\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert {"cub", "sun", "awa2", "imagenet", "words", "estimates", "self-score", "transfer", "synthetic", "speed"} <= set(names)
    for name in names:
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        assert f"out/benchmark/{name}" not in capsys.readouterr().err


def test_missing_packages_are_named(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("scipy", "psutil") else name)
    code, _, err = run_benchmark(capsys, "cub")
    assert (code, err) == (2, 'benchmarks: Benchmarks need scipy, psutil: pip install "timm_inject[benchmark]".\n')


def test_the_command_starts_without_its_packages():
    script = """
import sys
import benchmarks.__main__
print([name for name in ("scipy.io", "matplotlib", "psutil", "sentence_transformers") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_plan_runs_the_slow_mapper_last(dataset, data_root):
    units = benchmark_of(dataset, data_root).units(["icis-paper", "ridge"], seeds=[0, 1], slow_seeds=[0], protocols=("paper",))
    labels = [unit.label for unit in units]
    assert labels == ["ridge, paper, seed 0", "ridge, paper, seed 1", "icis-paper, paper, seed 0"]


def test_the_recipe_is_cut_short_where_only_its_time_counts(dataset, data_root, monkeypatch):
    epochs = []
    monkeypatch.setattr(icis_paper, "has_converged", lambda losses, _: epochs.append(len(losses)) or False)
    attributes = dataset_descriptors(dataset, "att", data_root)
    benchmark = ZslBenchmark(dataset, {"att": attributes}, cut_recipe=True)
    store = ResultStore(None)
    run_units(benchmark.units(["icis-paper", "ridge"]), store)
    assert max(epochs) == 24  # asked before each of 25 epochs
    by_method = {result.setting.method: result for result in store}
    assert {r.setting.calibration for r in store if r.setting.method == "icis-paper"} == {"none"}
    quick = by_method["ridge"]
    quick = replace(quick, setting=replace(quick.setting, method="icis"))
    note = speed_note([quick, by_method["icis-paper"]], at_least=True)
    assert re.fullmatch(r"`icis` fits at least \d+ times as fast .* stopped after 25 epochs, the fewest that its rule .*", note)


# ---- real data --------------------------------------------------------------------------------------------------------

DATA = Path(os.environ.get("TIMM_INJECT_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_cub100 = pytest.mark.skipif(not (DATA / "cub100").is_dir(), reason="cub100 is not in TIMM_INJECT_DATA or ../shared/data")

# The ICIS authors' own code on the same files, seed 0, in percent.
AUTHORS = {"zsl_accuracy": 49.5, "unseen_accuracy": 36.6, "seen_accuracy": 75.9, "harmonic_mean": 49.4}


@pytest.mark.slow
@needs_cub100
def test_the_published_recipe_lands_where_the_authors_code_does(tmp_path):
    dataset = load_xlsa17(DATA / "cub100", "cub")
    store = ResultStore(tmp_path / "results.jsonl")
    run_units(benchmark_of(dataset, DATA / "cub100").units(["icis-paper"], protocols=("paper",)), store)
    (result,) = store
    for name, expected in AUTHORS.items():
        assert 100 * result.scores[name] == pytest.approx(expected, abs=3.0), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sun", "awa2"])
def test_full_size_fits_a_laptop(tmp_path, name):
    """Every method in 10 minutes and 4 GB, in a process of its own so that its memory is its own."""
    arguments = ["--seeds", "0", "--parts", "table", "--json", "--quiet"]
    command = [sys.executable, "-m", "benchmarks", "synthetic", name, *arguments, "--output", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    summary = json.loads(result.stdout)
    assert summary["peak_memory_gb"] < 4
    assert summary["seconds"] < 600
    assert {record["method"] for record in summary["results"]} == set(mapper_names())
