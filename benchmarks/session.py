"""One run of a benchmark: the options that several share, the store, progress lines, files and pages. Only this room prints."""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkDataError
from benchmarks.report import summary_records
from benchmarks.results import SLOW_MAPPERS, Result, ResultStore, code_fingerprint
from benchmarks.units import Unit, run_units
from timm_inject.errors import ArgumentValueError, TimmInjectError
from timm_inject.mappers import create_mapper, mapper_names

# What a reader of the tables has to fill in, instead of our own folders.
_PLACEHOLDERS = {"data_root": "DIR", "images": "DIR", "imagenet_images": "DIR", "vectors": "DIR", "descriptions": "FILE"}
_NOT_SHOWN = {"run", "command", "dataset", "get_default", "output", "update_readme", "plots", "quiet", "json"}
_PLOT_TITLES = {
    "bars": "Scores by method",
    "seen-unseen": "Seen against unseen accuracy, for every offset",
    "seen-classes": "Accuracy among the unseen classes, by the number of seen classes",
    "estimates": "Estimated and measured accuracy of groups of hidden classes",
    "self-score": "Self-score and real score",
}


def add_method_options(command: argparse.ArgumentParser, seeds: Sequence[int]) -> None:
    """The options of every benchmark of mappers."""
    names = f"of {', '.join(mapper_names())}; or 'all', or 'quick', without {', '.join(SLOW_MAPPERS)}"
    command.add_argument("--methods", nargs="+", metavar="MAPPER", help=names)
    command.add_argument("--seeds", nargs="+", type=int, default=list(seeds), metavar="N")
    command.add_argument("--encoder", metavar="ID|FOLDER", help="a sentence-transformers model, where names are encoded")


def add_plots_option(command: argparse.ArgumentParser) -> None:
    """For benchmarks with plots that a page shows."""
    command.add_argument("--plots", type=Path, metavar="DIR", help="copy the main plots there, and show them below the tables")


def chosen_methods(chosen: Sequence[str] | None, *, default: str) -> list[str]:
    """The mappers that `--methods` asks for."""
    groups = {"all": mapper_names(), "quick": [name for name in mapper_names() if name not in SLOW_MAPPERS]}
    names = [name for method in chosen or [default] for name in groups.get(method, [method])]
    return [create_mapper(name).name for name in dict.fromkeys(names)]


class Session:
    """Runs units and reports them.

    Args:
        options: Of the command line: `command`, `output`, `quiet`, `json`, `update_readme` and `plots` are read.

    Attributes:
        store: Of the results, in the output folder.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._start = time.perf_counter()
        self.store: ResultStore = ResultStore(options.output / "results.jsonl")

    def progress(self, step: str, done: int, total: int) -> None:
        """One line that is written over; nothing where the error stream is no terminal."""
        if not self._options.quiet and sys.stderr.isatty():
            print(f"\r\x1b[K{step}: {done}/{total}", end="" if done < total else "\r\x1b[K", file=sys.stderr, flush=True)

    def run(self, units: Iterable[Unit]) -> None:
        """Run what the store lacks."""

        def report(unit: Unit, results: list[Result], position: int, total: int) -> None:
            print_note(self._options, f"[{position}/{total}] {unit.label}: {_outcome(results)}")

        run_units(units, self.store, report)

    def finish(
        self,
        results: Sequence[Result],
        sections: Sequence[str],
        plots: Sequence[str] = (),
        glance: str = "",
        shown: Sequence[str] = (),
    ) -> None:
        """Write tables, summary and the blocks of pages, and print the tables or the summary.

        Args:
            results: All that the tables stand for.
            sections: The tables, as markdown.
            plots: Files in the output folder.
            glance: The few figures for a first page; they open the tables, and are a block of their own.
            shown: Which plots a page shows below the tables.

        Raises:
            TimmInjectError: Some results are failures.
        """
        older = sum(result.code != code_fingerprint(result.setting) for result in results)
        failed = [result for result in results if result.error]
        made_by = f"Made by `{command_line(self._options)}`."
        notes = [made_by, *[f"{older} of {len(results)} results were measured with another version of the code."] * bool(older)]
        notes += [f"Failed: {result.setting.method}, seed {result.setting.seed}: {result.error}." for result in failed]
        opening = f"#### At a glance\n\n{glance}" if glance else ""
        report = "\n\n".join(filter(None, [opening, *sections, " ".join(notes)]))
        # CPU time is of all cores together; on a machine that does something else, too, this says more.
        seconds, cpu_seconds, peak_gb = time.perf_counter() - self._start, time.process_time(), peak_bytes() / 1e9
        records = summary_records(results)
        summary = {"results": records, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_gb": peak_gb}
        folder = self._options.output
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(report + "\n", encoding="utf-8")
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        copies = []
        if getattr(self._options, "plots", None) is not None:
            target = self._options.plots / self._options.command
            target.mkdir(parents=True, exist_ok=True)
            copies = [Path(shutil.copy(folder / plot, target)) for plot in shown if plot in plots]
        publish(self._options, report, f"{glance} {made_by}" if glance else "", summary, copies)
        files = ", ".join(["results.jsonl", "report.md", "summary.json", *plots])
        cost = f"{seconds:.0f} s, {cpu_seconds:.0f} s of CPU time, at most {peak_gb:.1f} GB of memory"
        print_note(self._options, f"{cost}. In '{folder}': {files}.")
        if failed:
            raise TimmInjectError(
                f"{len(failed)} runs failed, the first with: {failed[0].error}. The same command tries them again."
            )


def publish(options: argparse.Namespace, report: str, glance: str, record: Mapping[str, Any], plots: Sequence[Path] = ()) -> None:
    """Put the report, the glance and the plots into the pages that the options name, and print the report or the record."""
    for page in options.update_readme:
        texts = {options.command: f"{report}\n\n{image_links(plots, page)}", f"{options.command}-summary": glance}
        replace_blocks(page, {name: text for name, text in texts.items() if text})
    print(json.dumps(record) if options.json else report)


def print_note(options: argparse.Namespace, text: str) -> None:
    """Say how far a run is, on the error stream."""
    if not options.quiet:
        print(text, file=sys.stderr, flush=True)


def _outcome(results: Sequence[Result]) -> str:
    if not results:
        return "as stored"
    result = next((r for r in results if r.setting.calibration == "harmonic"), results[0])
    if result.error:
        return f"failed, {result.error}"
    figures = {"T1": result.scores["zsl_accuracy"], "H": result.scores["harmonic_mean"]}
    shown = [f"{name} {100 * value:.1f}" for name, value in figures.items() if value is not None]
    return ", ".join([*shown, *(f"{name} in {value:.2f} s" for name, value in result.seconds.items())])


def command_line(options: argparse.Namespace) -> str:
    """The command that makes these tables: what differs from the defaults, with folders as a reader has to fill them in."""
    parts = ["python -m benchmarks", *dict.fromkeys([options.command, getattr(options, "dataset", options.command)])]
    for name, value in vars(options).items():
        if name in _NOT_SHOWN or value == options.get_default(name):
            continue
        text = _PLACEHOLDERS.get(name) or (" ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
        parts.append(f"--{name.replace('_', '-')} {text}")
    return " ".join(parts)


def replace_blocks(path: Path, texts: Mapping[str, str]) -> None:
    """Put each text, by name, between `<!-- benchmark:NAME -->` and `<!-- /benchmark:NAME -->` of a file.

    Texts that the file has no markers for are left out, as long as it has some.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentValueError(f"The file '{path}' could not be read as UTF-8 text: {error}") from error
    counts = {}
    for name, text in texts.items():
        start, end = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
        blocks = re.findall(f"{re.escape(start)}.*?{re.escape(end)}", content, re.DOTALL)
        counts[f"'{start}' to '{end}'"] = len(blocks)
        if len(blocks) == 1:
            content = content.replace(blocks[0], f"{start}\n{text.strip()}\n{end}")
    if not any(counts.values()) or max(counts.values()) > 1:
        told = " and ".join(f"{count} blocks from {markers}" for markers, count in counts.items())
        raise BenchmarkDataError(
            f"'{path}' has {told}, expected one of one or more. Put the two lines once where the tables belong."
        )
    path.write_text(content, encoding="utf-8")


def image_links(plots: Iterable[Path], page: Path) -> str:
    """Markdown that shows the plots in the file `page`."""
    links = []
    for plot in plots:
        title = next((title for kind, title in _PLOT_TITLES.items() if plot.name.startswith(kind)), plot.stem)
        links.append(f"![{title}]({Path(os.path.relpath(plot, page.parent)).as_posix()})")
    return "\n\n".join(links)


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    try:
        import resource
    except ImportError:  # Windows keeps the figure elsewhere
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024
