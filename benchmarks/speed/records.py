"""What a speed benchmark measures, on which machine, and how it is kept."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from benchmarks.errors import BenchmarkDataError
from timm_inject.cache import CACHE_VARIABLE

__all__ = [
    "Measurement",
    "best_gemm_rate",
    "machine_facts",
    "measure_apart",
    "peak_bytes",
    "read_results",
    "time_of",
    "write_results",
]

_GEMM_SIZE = 2048
_STARTER = """
import sys, time
start = time.perf_counter()
import timm
timm_done = time.perf_counter()
from benchmarks.speed import worker
seconds = {"import timm_seconds": timm_done - start, "import timm_inject_seconds": time.perf_counter() - timm_done}
worker.main(sys.argv[1:], seconds)
"""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of a table.

    Attributes:
        section: "fit", "inject", "names", "inference" or "evaluate".
        case: What was worked on.
        variant: What did the work.
        figures: Seconds, bytes, ratios and scores, by name; those that end in `_seconds` or `_bytes` say so.
        notes: What a reader must know to read the figures.
    """

    section: str
    case: str
    variant: str
    figures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def machine_facts() -> dict[str, Any]:
    """The machine and the versions that figures depend on."""
    packages = ("timm_inject", "torch", "timm", "sentence-transformers", "transformers", "numpy")
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gemm_gflops": best_gemm_rate() / 1e9,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def best_gemm_rate() -> float:
    """Floating-point operations a second that a float32 product of large square matrices reaches on this machine."""
    one, other = torch.rand(2, _GEMM_SIZE, _GEMM_SIZE)
    one @ other
    return 2 * _GEMM_SIZE**3 / min(time_of(lambda: one @ other) for _ in range(5))


def time_of(work: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    try:
        import resource
    except ImportError:  # Windows keeps the figure elsewhere
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_apart(task: str, options: dict[str, Any], *, cache: Path | None = None, repeats: int = 1) -> dict[str, Any]:
    """Run a task of `worker` in a fresh process, so that its imports, its memory and its cache are its own.

    Args:
        task: A key of `worker.TASKS`.
        options: JSON-able; passed to it.
        cache: The folder for `TIMM_INJECT_CACHE`; None for an empty one that is deleted.
        repeats: How many processes, one after the other; the figures are medians.

    Returns:
        Figure -> median; what is no number is that of the last process.

    Raises:
        BenchmarkDataError: The process failed.
    """
    answers = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as empty:
            environment = {**os.environ, CACHE_VARIABLE: str(cache or empty)}
            command = [sys.executable, "-c", _STARTER, task, json.dumps(options)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise BenchmarkDataError(f"The measurement {task!r} failed: {done.stderr.strip()[-1000:]}")
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: median(a[key] for a in answers) if isinstance(value, int | float) else value for key, value in answers[-1].items()}


def read_results(path: Path) -> list[Measurement]:
    """Measurements of an earlier run; none where there was none.

    Raises:
        BenchmarkDataError: The file holds something else.
    """
    if not path.is_file():
        return []
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["measurements"]
        return [Measurement(**{**line, "notes": tuple(line["notes"])}) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkDataError(f"'{path}' is no result of `benchmark speed` ({error}). Remove it to measure again.") from error


def write_results(path: Path, facts: dict[str, Any], measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Write all measurements, with the machine's facts; give what was written."""
    document = {"machine": facts, "measurements": [asdict(line) for line in measurements]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
