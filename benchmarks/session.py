"""One run of a benchmark command: its store, its progress lines and its files. The only part of the benchmarks that prints."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import image_links, replace_blocks, summary_records
from benchmarks.results import Result, ResultStore, code_fingerprint
from benchmarks.units import Unit, run_units
from timm_inject.errors import TimmInjectError

__all__ = ["Session", "command_line", "print_answer", "print_note"]

# What a reader of the tables has to fill in, instead of our own folders.
_PLACEHOLDERS = {"data_root": "DIR", "images": "DIR", "imagenet_images": "DIR", "vectors": "DIR", "descriptions": "FILE"}
_NOT_SHOWN = {"run", "dataset", "get_default", "output", "update_readme", "plots", "quiet", "json"}


class Session:
    """Runs units and reports them.

    Args:
        options: Of the command line: `output`, `quiet`, `json`, `update_readme`, `plots` and `dataset` are read.

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
        """Run what the store lacks; Ctrl-C ends the process with code 130 and keeps what is done."""
        try:
            run_units(units, self.store, self._report)
        except KeyboardInterrupt:
            print(f"timm-inject: stopped. What is done is in '{self._options.output}'; the same command goes on.", file=sys.stderr)
            raise SystemExit(130) from None

    def _report(self, unit: Unit, results: list[Result], position: int, total: int) -> None:
        if self._options.quiet:
            return
        print(f"[{position}/{total}] {unit.label}: {_outcome(results)}", file=sys.stderr, flush=True)

    def finish(
        self,
        results: Sequence[Result],
        sections: Sequence[str],
        plots: Sequence[str],
        *,
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
        """
        older = sum(result.code != code_fingerprint(result.setting) for result in results)
        notes = [f"Made by `{command_line(self._options)}`."]
        if older:
            notes.append(f"{older} of {len(results)} results were measured with another version of the code.")
        failed = [result for result in results if result.error]
        notes += [f"Failed: {result.setting.method}, seed {result.setting.seed}: {result.error}." for result in failed]
        opening = [f"#### At a glance\n\n{glance}"] if glance else []
        report = "\n\n".join(filter(None, [*opening, *sections, " ".join(notes)]))
        summary = {
            "results": summary_records(results),
            "seconds": time.perf_counter() - self._start,
            # Of all cores together; on a machine that does something else, too, this says more.
            "cpu_seconds": time.process_time(),
            "peak_memory_gb": _peak_gb(),
        }
        folder = self._options.output
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(report + "\n", encoding="utf-8")
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        self._update_pages(report, f"{glance} {notes[0]}" if glance else "", [name for name in shown if name in plots])
        print(json.dumps(summary) if self._options.json else report)
        if not self._options.quiet:
            files = ", ".join(["results.jsonl", "report.md", "summary.json", *plots])
            text = (
                f"{summary['seconds']:.0f} s, {summary['cpu_seconds']:.0f} s of CPU time, at most "
                f"{summary['peak_memory_gb']:.1f} GB of memory. In '{folder}': {files}."
            )
            print(text, file=sys.stderr)
        if failed:
            raise TimmInjectError(
                f"{len(failed)} runs failed, the first with: {failed[0].error}. The same command tries them again."
            )

    def _update_pages(self, report: str, glance: str, shown: Sequence[str]) -> None:
        name, copies = self._options.dataset, []
        if self._options.plots is not None:
            folder: Path = self._options.plots / name
            folder.mkdir(parents=True, exist_ok=True)
            copies = [Path(shutil.copy(self._options.output / plot, folder)) for plot in shown]
        for page in self._options.update_readme or ():
            texts = {name: f"{report}\n\n{image_links(copies, page)}"}
            replace_blocks(page, texts | ({f"{name}-summary": glance} if glance else {}))


def print_answer(text: str, record: dict[str, Any], *, as_json: bool) -> None:
    """Print an answer for people or for programs."""
    print(json.dumps(record) if as_json else text)


def print_note(text: str) -> None:
    """Say how far a run is, on the error stream."""
    print(text, file=sys.stderr, flush=True)


def _outcome(results: Sequence[Result]) -> str:
    if not results:
        return "as stored"
    result = next((r for r in results if r.setting.calibration == "harmonic"), results[0])
    if result.error:
        return f"failed, {result.error}"
    t1, harmonic = result.scores["zsl_accuracy"], result.scores["harmonic_mean"]
    shown = [f"{name} {100 * value:.1f}" for name, value in (("T1", t1), ("H", harmonic)) if value is not None]
    return ", ".join([*shown, *(f"{name} in {value:.2f} s" for name, value in result.seconds.items())])


def command_line(options: argparse.Namespace) -> str:
    """The command that makes these tables: what differs from the defaults, with folders as a reader has to fill them in."""
    parts = ["timm-inject benchmark", options.dataset]
    for name, value in vars(options).items():
        if name in _NOT_SHOWN or value == options.get_default(name):
            continue
        text = _PLACEHOLDERS.get(name) or (" ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
        parts.append(f"--{name.replace('_', '-')}{'' if value is True else ' ' + text}")
    return " ".join(parts)


def _peak_gb() -> float:
    """Most memory that the process has held, in GB; 0 on systems that do not tell."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
