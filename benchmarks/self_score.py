"""How well the self-score foretells the real score, over the results of benchmarks that were run."""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkFileError
from benchmarks.plots import plot_self_score
from benchmarks.report import self_score_points
from benchmarks.results import ResultStore, code_fingerprint
from benchmarks.session import print_note, publish


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `self-score`."""
    command.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="the --output folders of other benchmarks")


def run(options: argparse.Namespace) -> None:
    """Plot, and give the rank correlation."""
    missing = [str(folder) for folder in options.folders if not (folder / "results.jsonl").is_file()]
    if missing:
        raise BenchmarkFileError(f"There is no results.jsonl in {', '.join(missing)}. Run a benchmark with that `--output` first.")
    stored = [result for folder in options.folders for result in ResultStore(folder / "results.jsonl")]
    results = [result for result in stored if result.code == code_fingerprint(result.setting)]
    summary: dict[str, Any] = {}
    plots: list[Path] = []
    for score, name in (("zsl_accuracy", "T1"), ("harmonic_mean", "H")):
        points = self_score_points(results, score)
        file = options.output / f"self-score-{name}.png"
        correlation = plot_self_score(points, file, title="Does the self-score foretell the real score?")
        summary[name] = {"points": len(points), "rank_correlation": correlation}
        plots += [file] if correlation is not None else []
    shown = [
        f"{'too few points' if entry['rank_correlation'] is None else format(entry['rank_correlation'], '.2f')} for {name}"
        for name, entry in summary.items()
    ]
    text = (
        f"Spearman's rank correlation of self-score and real score over {summary['H']['points']} points (head or dataset, text, "
        f"mapper; calibrated rows): {', '.join(shown)}. Made by `python -m benchmarks self-score` from the results of "
        f"{', '.join(dict.fromkeys(result.setting.benchmark for result in results)) or 'nothing'}."
    )
    publish(options, text, text, summary, plots)
    print_note(options, f"Plots in '{options.output}'.")
