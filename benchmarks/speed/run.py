"""`timm-inject benchmark speed`: run the sections, keep the measurements, write the tables."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.report import replace_blocks
from benchmarks.session import command_line, print_answer, print_note
from benchmarks.speed.records import Measurement, machine_facts, read_results, write_results
from benchmarks.speed.sections import measure_evaluate, measure_fit, measure_inference, measure_inject, measure_names
from benchmarks.speed.tables import machine_line, speed_glance, speed_tables
from timm_inject.errors import ArgumentValueError

__all__ = ["run_speed"]


def run_speed(options: argparse.Namespace) -> None:
    """Measure the sections that are asked for; those that an earlier run left in the output folder stay in the tables."""
    heads = [_read_size(text) for text in options.heads]
    full_recipe = [_read_size(text) for text in options.full_recipe]
    if min([*options.counts, options.photos]) < 1:
        raise ArgumentValueError("`--counts` and `--photos` must be at least 1.")
    path: Path = options.output / "speed.json"
    kept = [line for line in read_results(path) if line.section not in options.sections]
    facts = machine_facts()
    sections: dict[str, Callable[[], Iterator[Measurement]]] = {
        "fit": lambda: measure_fit(heads, full_recipe),
        "inject": measure_inject,
        "names": lambda: measure_names(options.counts),
        "inference": measure_inference,
        "evaluate": lambda: measure_evaluate(options.photos),
    }
    measured: list[Measurement] = []
    for name in options.sections:
        measured += _run_section(name, sections[name](), quiet=options.quiet)
        document = write_results(path, facts, [*kept, *measured])
    if kept:  # what stayed was measured by the command without this option
        options.sections = options.get_default("sections")
    ending = [machine_line(facts), f"Made by `{command_line(options)}`."]
    lines = [*kept, *measured]
    report = "\n\n".join([*speed_tables(lines), *ending])
    (options.output / "report.md").write_text(report + "\n", encoding="utf-8")
    for page in options.update_readme or ():
        replace_blocks(page, {"speed": report, "speed-summary": "\n\n".join([speed_glance(lines), *ending])})
    print_answer(report, document, as_json=options.json)


def _run_section(name: str, lines: Iterator[Measurement], *, quiet: bool) -> list[Measurement]:
    start, measured = time.perf_counter(), []
    for line in lines:
        measured.append(line)
        if not quiet:
            figures = ", ".join(f"{key} {value:.4g}" for key, value in line.figures.items() if key.endswith(("seconds", "ratio")))
            print_note(f"[{time.perf_counter() - start:.0f} s] {name}, {line.case}, {line.variant}: {figures}")
    return measured


def _read_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or int(found[1]) < 10 or int(found[2]) < 2:
        raise ArgumentValueError(f"A head is written classes x row width, such as 1000x1281, at least 10x2; got {text!r}.")
    return int(found[1]), int(found[2])
