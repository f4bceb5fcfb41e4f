import json
import sys

import pytest
import timm
import torch
from torch import nn

from benchmarks import BenchmarkDataError
from benchmarks.speed import tables
from benchmarks.speed.problems import class_names, make_problem, score_rows
from benchmarks.speed.run import operations, read_results, write_results
from benchmarks.speed.tables import Measurement, speed_tables
from benchmarks.speed.worker import STAGES, TASKS, find_function, measure_apart
from tests.helpers import needs_offline, run_benchmark
from timm_inject.mappers import create_mapper

pytestmark = needs_offline
FACTS = {
    "processor": "abacus", "cores": 2, "threads": 2, "memory_bytes": 8e9, "gpu": None, "gemm_gflops": 100.0,
    "cpu_capability": "AVX2", "system": "Linux", "python": "3.11", "versions": {"torch": "2"}, "time": "now",
}  # fmt: skip


def _line(section, case, variant, **figures):
    return Measurement(section, case, variant, figures)


FIT = [
    _line("fit", "73 x 2049", "icis", fit_seconds=0.5, fit_bytes=1e8, is_real=0.0, cosine=0.5, found=0.25),
    _line("fit", "73 x 2049", "icis-paper", fit_seconds=100.0, fit_bytes=2e8, is_real=0.0, cosine=0.4, found=0.2, epochs=90.0),
    _line("fit", "73 x 2049", "bounds", gram_seconds=0.01, solve_seconds=0.1),
    _line("fit", "1000 x 1281", "icis", fit_seconds=2.0, fit_bytes=1e8, is_real=1.0, cosine=0.5, found=0.25),
    _line("fit", "1000 x 1281", "icis-paper", fit_seconds=200.0, batch_seconds=0.1, is_real=1.0),
    _line("fit", "1000 x 1281", "bounds", gram_seconds=0.1, solve_seconds=0.1),
]


def test_fit_table_says_what_was_run_and_what_computed():
    (table,) = speed_tables(FIT)
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| 73") or line.startswith("| 1000")]
    assert lines[0][:4] == ["73 x 2049 (made up)", "500 ms", "100.0 s", "200"]
    assert lines[0][6:8] == ["0.500 / 25.0", "0.400 / 20.0"]
    assert lines[1][:4] == ["1000 x 1281", "2.0 s", "at least 3 min", "at least 100"]
    assert lines[1][-2:] == ["100 ms (20)", "100 ms (20.0)"]


def test_names_table_gives_the_cost_of_a_further_name():
    lines = [
        _line("names", "1000", "inject", inject_seconds=2.0, above_bytes=1e8, head_bytes=1e7, text_seconds=12.0),
        _line("names", "11000", "inject", inject_seconds=7.0, above_bytes=2e8, head_bytes=1e8, text_seconds=132.0),
    ]
    (table,) = speed_tables(lines)
    assert "| 11,000 | 7.0 s | 0.50 | 0.20 GB | 0.10 GB | 2.0 | 2 min |" in table


def test_measurements_of_other_sections_stay(tmp_path):
    write_results(tmp_path / "speed.json", FACTS, FIT)
    assert read_results(tmp_path / "speed.json") == FIT
    assert json.loads((tmp_path / "speed.json").read_text())["machine"] == FACTS
    assert read_results(tmp_path / "none.json") == []


def test_every_stage_is_a_function_of_the_pipeline():
    places = [find_function(place) for places in STAGES.values() for place in places]
    assert all(callable(getattr(module, name)) for module, name in places)
    assert find_function("inject:inject") == (sys.modules["timm_inject.inject"], "inject")


@pytest.mark.parametrize("size", [(73, 2049), pytest.param((1200, 300), marks=pytest.mark.slow)])
def test_made_up_rows_are_foreseeable_in_part(size, shared_cache):
    problem = make_problem(*size)
    assert problem.rows.shape == size
    assert not problem.is_real
    assert len(problem.hidden_rows) == len(problem.hidden_descriptors) == round(0.1 * size[0])
    singular = torch.linalg.svdvals(problem.rows - problem.rows.mean(0))
    assert singular[0] > 1.5 * singular[30]
    assert torch.equal(make_problem(*size).rows, problem.rows)
    mapper = create_mapper("kernel-ridge").fit(problem.descriptors, problem.rows)
    assert score_rows(mapper.predict_rows(problem.hidden_descriptors), problem)["cosine"] > 0.05


@pytest.mark.slow
def test_real_rows_where_there_are_some_and_scores(shared_cache):
    problem = make_problem(1000, 1281)
    assert problem.is_real
    assert (len(problem.rows), len(problem.hidden_rows)) == (900, 100)
    mapper = create_mapper("ridge").fit(problem.descriptors, problem.rows)
    scores = score_rows(mapper.predict_rows(problem.hidden_descriptors), problem)
    assert 0.1 < scores["cosine"] < 0.9
    assert scores["found"] > 0.1
    assert score_rows(problem.hidden_rows, problem) == {"cosine": pytest.approx(1.0), "found": 1.0}


def test_names_are_those_of_the_smallest_imagenet_that_has_so_many():
    assert len(class_names(73)) == 73
    assert class_names(1000)[0] == class_names(73)[0]
    names = class_names(21_900)
    assert len(names) == 21_900
    assert names[-1].name.startswith("other ")
    with pytest.raises(BenchmarkDataError, match="A head of 30000 classes is more than ImageNet has names for, 21843."):
        class_names(30_000)


def test_operations_tell_layers_apart():
    layer, inputs = nn.Linear(8, 3), torch.rand(2, 8)
    assert operations(layer, inputs) == operations(nn.Linear(8, 3), inputs) != []
    assert operations(layer, inputs) != operations(nn.Linear(8, 4), inputs)
    assert operations(layer, inputs) != operations(nn.Sequential(layer, nn.ReLU()), inputs)


def test_a_head_is_read_or_refused(capsys, tmp_path):
    code, _, err = run_benchmark(capsys, "speed", "--heads", "1000by1281", "--output", tmp_path)
    assert code == 2
    assert "A head is written classes x row width, such as 1000x1281, at least 10x2; got '1000by1281'." in err
    assert run_benchmark(capsys, "speed", "--counts", "0", "--output", tmp_path)[0] == 2


def test_the_glance_sets_fits_beside_the_recipe_and_adds_up_what_inject_loads():
    stages = {f"{stage}_seconds": 1.0 for stage in tables.STAGE_COLUMNS}
    lines = [
        Measurement("fit", "73 x 2049", "icis", {"fit_seconds": 0.5}),
        Measurement("fit", "73 x 2049", "icis-paper", {"fit_seconds": 50.0, "epochs": 300.0}),
        Measurement("fit", "90 x 9", "icis", {"fit_seconds": 2.0}),
        Measurement("fit", "90 x 9", "icis-paper", {"fit_seconds": 60.0}),
        Measurement("inject", "nothing cached", "inject", stages | {"inject_seconds": 7.25, "encoder load_seconds": 3.0}),
    ]
    rows = tables.speed_glance(lines).splitlines()[2:]
    assert rows == [
        "| fit a head of 73 x 2049 | 500 ms | 100 times as fast as the published recipe |",
        "| fit a head of 90 x 9 | 2.0 s | at least 30 times as fast as the published recipe |",
        f"| `inject` three names, nothing cached | {len(stages) + 2}.0 s | of that `inject` without the encoder's load: 4.2 s |",
    ]


def test_tasks_run_apart():
    answer = measure_apart("fit", {"num_classes": 1100, "row_dim": 20, "mapper": "ridge"}, repeats=1)
    assert answer["fit_seconds"] > 0
    assert answer["import timm_seconds"] > answer["import timm_inject_seconds"] > 0
    assert -1 <= answer["cosine"] <= 1
    assert set(TASKS) == {"fit", "recipe_batches", "bounds", "inject", "names", "text"}


@pytest.mark.slow
def test_the_whole_command(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmark:speed -->\n<!-- /benchmark:speed -->\nafter\n")
    options = ["--heads", "40x30", "--full-recipe", "--counts", "10", "1200", "--photos", "32", "--update-readme", page]
    code, _, err = run_benchmark(capsys, "speed", *options, "--output", tmp_path / "out")
    assert code == 0, err
    sections = [line.section for line in read_results(tmp_path / "out" / "speed.json")]
    assert list(dict.fromkeys(sections)) == ["fit", "inject", "names", "inference", "evaluate"]
    text = page.read_text()
    assert text.startswith("before\n<!-- benchmark:speed -->\n#### Mapper training")
    assert "| head alone |" in text
    assert "NO" not in text.split("#### The patched model")[1].split("####")[0].replace("NOT", "")
    assert timm.__version__ in text
    # One section anew keeps the others.
    code, out, _ = run_benchmark(capsys, "speed", "--sections", "inference", "--output", tmp_path / "out", "--json")
    assert code == 0
    document = json.loads(out)
    assert {line["section"] for line in document["measurements"]} == set(sections)
