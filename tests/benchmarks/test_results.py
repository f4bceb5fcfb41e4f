"""The store of results: it resumes, keeps what is good, and says what is not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import BenchmarkDataError
from benchmarks.report import glance_table, summary_records
from benchmarks.results import Result, ResultStore, Setting, code_fingerprint, summarize
from benchmarks.session import image_links, replace_blocks
from benchmarks.units import Unit, run_units
from timm_inject.errors import ArgumentValueError

SETTING = Setting("cub", "table", "held-out", "att", "ridge", "none", 0)


def result(seed=0, value=0.5, **changes):
    setting = replace(SETTING, seed=seed)
    return replace(Result(setting, {"zsl_accuracy": value}, {"zsl_accuracy": 0.4}, {"fit": 1.0}, ((0.0, 1.0),)), **changes)


def test_what_was_written_is_read(tmp_path):
    store = ResultStore(tmp_path / "new" / "results.jsonl")
    store.add([result(), result(seed=1, value=None)])
    again = ResultStore(tmp_path / "new" / "results.jsonl")
    assert list(again) == list(store) == [result(), result(seed=1, value=None)]


def test_the_last_result_of_a_setting_counts(tmp_path):
    store = ResultStore(tmp_path / "results.jsonl")
    store.add([result(value=0.1)])
    store.add([result(value=0.9)])
    assert [entry.scores["zsl_accuracy"] for entry in ResultStore(tmp_path / "results.jsonl")] == [0.9]


def unit(seed, measure):
    return Unit(f"seed {seed}", (replace(SETTING, seed=seed),), measure)


def test_one_bad_seed_loses_no_other_and_is_tried_again(tmp_path):
    calls = []

    def good(seed):
        def measure():
            calls.append(seed)
            return [result(seed)]

        return measure

    def bad():
        calls.append("bad")
        raise RuntimeError("no memory")

    path = tmp_path / "results.jsonl"
    reported = []
    units = [unit(0, good(0)), unit(1, bad), unit(2, good(2))]
    run_units(units, ResultStore(path), lambda u, r, i, n: reported.append((u.label, [x.error for x in r], i, n)))
    assert calls == [0, "bad", 2]
    assert reported == [("seed 0", [""], 1, 3), ("seed 1", ["RuntimeError: no memory"], 2, 3), ("seed 2", [""], 3, 3)]
    store = ResultStore(path)
    assert [entry.error for entry in store] == ["", "RuntimeError: no memory", ""]

    # A second run does only what failed.
    calls.clear()
    run_units([unit(0, good(0)), unit(1, good(1)), unit(2, good(2))], store)
    assert calls == [1]
    assert [entry.error for entry in ResultStore(path)] == ["", "", ""]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    path = tmp_path / "results.jsonl"

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_units([unit(0, lambda: [result(0)]), unit(1, stop), unit(2, lambda: [result(2)])], ResultStore(path))
    assert [entry.setting.seed for entry in ResultStore(path)] == [0]
    run_units([unit(0, stop)], ResultStore(path))  # which is there


def test_other_code_is_measured_again(tmp_path, monkeypatch):
    store = ResultStore(tmp_path / "results.jsonl")
    measured = []
    for _ in range(2):
        run_units([unit(0, lambda: [result()])], store, lambda unit, results, *_: measured.append([r.code for r in results]))
    assert measured == [[code_fingerprint(SETTING)], []]
    for module in ("results", "units"):
        monkeypatch.setattr(f"benchmarks.{module}.code_fingerprint", lambda setting: "other")
    run_units([unit(0, lambda: [result()])], store)
    assert [entry.code for entry in store] == ["other"]


def test_work_on_other_mappers_keeps_the_slow_recipes_raw_results():
    recipe = replace(SETTING, method="icis-paper", protocol="paper")
    assert code_fingerprint(recipe) != code_fingerprint(replace(recipe, method="ridge"))
    assert code_fingerprint(replace(recipe, part="ablation")) not in (code_fingerprint(recipe), code_fingerprint(SETTING))
    # Calibrated, it depends on everything.
    assert code_fingerprint(replace(recipe, protocol="held-out")) == code_fingerprint(SETTING)
    assert len(code_fingerprint(recipe)) == 12


@pytest.mark.parametrize("left", [1, 5, 300, -40, -2, -1])
def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path, left):
    path = tmp_path / "results.jsonl"
    ResultStore(path).add([result(0), result(1)])
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[:left])
    store = ResultStore(path)
    # Without its newline alone, the line is whole.
    kept = [0, 1] if left == -1 else [0]
    assert [entry.setting.seed for entry in store] == kept
    store.add([result(2)])
    assert [entry.setting.seed for entry in ResultStore(path)] == [*kept, 2]


def test_a_file_of_something_else_is_told(tmp_path):
    path = tmp_path / "results.jsonl"
    for content in ('{"a": 1}\n{"b": 2}\n', "some notes\n", '{"setting": {}}\n'):
        path.write_text(content)
        with pytest.raises(BenchmarkDataError, match=r"Line 1 of '.*' is no benchmark result .* Remove the file"):
            ResultStore(path)


def test_mean_and_spread_are_those_of_numpy():
    values = [0.1, 0.4, 0.35]
    summary = summarize([*values, None])
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.spread == pytest.approx(np.std(values, ddof=1))
    assert summary.count == 3
    assert summarize([0.3]).spread is None
    assert summarize([None]) is None


def test_summary_records_join_seeds_and_show_failures():
    records = summary_records([result(0, 0.2), result(1, 0.4), result(2, error="it broke")])
    assert json.loads(json.dumps(records)) == records
    assert records[0]["scores"]["zsl_accuracy"] == {
        "mean": pytest.approx(0.3),
        "spread": pytest.approx(0.1414, abs=1e-4),
        "count": 2,
    }
    assert records[0]["self_score"]["zsl_accuracy"]["mean"] == 0.4
    assert records[0]["seeds"] == [0, 1]
    assert (records[1]["seed"], records[1]["error"]) == (2, "it broke")


def test_blocks_of_a_page_are_replaced(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- benchmark:cub -->\nold\n<!-- /benchmark:cub -->\nafter\n")
    replace_blocks(path, {"cub": "a\nnew table", "cub-summary": "not here"})
    assert path.read_text() == "before\n<!-- benchmark:cub -->\na\nnew table\n<!-- /benchmark:cub -->\nafter\n"
    path.write_text(path.read_text() + "<!-- benchmark:cub-summary -->\n<!-- /benchmark:cub-summary -->\n")
    replace_blocks(path, {"cub": "b", "cub-summary": "c"})
    assert "<!-- benchmark:cub -->\nb\n<!--" in path.read_text()
    assert "<!-- benchmark:cub-summary -->\nc\n<!--" in path.read_text()
    before = path.read_text()
    with pytest.raises(BenchmarkDataError, match="has 0 blocks from '<!-- benchmark:sun -->' to '<!-- /benchmark:sun -->' and 0 "):
        replace_blocks(path, {"sun": "", "sun-summary": ""})
    path.write_text(before * 2)
    with pytest.raises(BenchmarkDataError, match="has 2 blocks from"):
        replace_blocks(path, {"cub": "d"})
    assert path.read_text() == before * 2
    with pytest.raises(ArgumentValueError, match="could not be read"):
        replace_blocks(tmp_path / "none.md", {"cub": ""})


def test_glance_table_takes_the_default_calibrated_and_the_recipe_raw():
    def of(method, calibration, h):
        scores = {"zsl_accuracy": 0.5, "unseen_accuracy": 0.4, "seen_accuracy": 0.6, "harmonic_mean": h}
        setting = Setting("cub", "table", "held-out", "att", method, calibration, 0)
        return Result(setting, scores=scores)

    results = [
        of("icis", "harmonic", 0.3),
        of("icis", "none", 0.9),
        of("icis-paper", "none", 0.4),
        of("icis-paper", "harmonic", 0.9),
    ]
    table = glance_table([*results, of("mean-row", "harmonic", 0.1)], "About.")
    assert table.startswith("About.\n\n| method | T1 | u | s | H |\n")
    lines = table.splitlines()[4:6]
    assert lines[0] == "| `icis-paper`, as published: raw rows | 50.0 | 40.0 | 60.0 | **40.0** |"
    assert lines[1] == "| `icis`, the default | 50.0 | 40.0 | 60.0 | **30.0** |"
    assert "mean-row" not in table
    # A protocol that keeps every row raw.
    assert "**90.0**" in glance_table([of("icis", "none", 0.9)], "About.")
    assert glance_table([of("mean-row", "harmonic", 0.1)], "About.") == ""


def test_image_links_are_relative_to_the_page():
    links = image_links([Path("docs/plots/cub/bars-held-out.png"), Path("docs/plots/x.png")], Path("docs/benchmarks.md"))
    assert links == "![Scores by method](plots/cub/bars-held-out.png)\n\n![x](plots/x.png)"
