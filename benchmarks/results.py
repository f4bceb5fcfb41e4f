"""Measured results: one record a run, kept as JSON lines, and summaries of them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks.errors import BenchmarkDataError
from benchmarks.slow import SLOW_MAPPERS
from timm_inject.cache import content_key

__all__ = ["Result", "ResultStore", "Setting", "Summary", "code_fingerprint", "data_fingerprint", "run_unit", "summarize"]

# What decides the rows: results of another state of these are measured again. The published recipe, which is slow, has a
# list of its own where its rows stay raw, so that work on other mappers does not throw its results away.
_CODE_OF_THE_RECIPE = (
    "mappers/base.py",
    "mappers/networks.py",
    "mappers/icis_paper.py",
    "benchmark/base_classifier.py",
    "benchmark/scores.py",
)
_CODE = (
    "mappers/*.py",
    "calibration.py",
    "pseudo_features.py",
    "fitting.py",
    "descriptors.py",
    "encoder.py",
    "shipped_embeddings.py",
    "data/*",
    "class_texts.py",
    "lexicon.py",
    "taxonomy.py",
    "benchmark/base_classifier.py",
    "benchmark/scores.py",
)


_LINE_START = '{"setting": {'


@dataclass(frozen=True, slots=True)
class Setting:
    """What tells one run from another; fields that a benchmark does not use stay at their default.

    Attributes:
        benchmark: "cub", "sun", "awa2" or "imagenet-heldout".
        part: "table", "test", "parts", "ablation", "curve", "transfer" or "groups".
        protocol: How the base classifier and the scale of the rows are chosen: "held-out", "paper", or "" for a given head.
        descriptors: "att", "wiki2vec", "conceptnet", "names", or how new ImageNet classes are told: "lemma", "definition", ….
        method: The mapper or the ablation's step.
        calibration: "harmonic", "keep-seen" or "none".
        seed: Of everything random.
        head: The model whose head gets the new rows, or "" for one trained here.
        fold: Which classes are hidden, or -1.
        num_seen: How many seen classes the mapper learns from, or 0 for all of them.
        data: Fingerprint of the data.
    """

    benchmark: str
    part: str
    protocol: str
    descriptors: str
    method: str
    calibration: str
    seed: int
    head: str = ""
    fold: int = -1
    num_seen: int = 0
    data: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement.

    Attributes:
        setting: What was measured.
        scores: Fractions in [0, 1]; None where there was no image to measure a score on.
        self_score: The image-free estimates of some of them.
        seconds: "fit": one fit of the mapper; "predict": fit, cross-fit, calibration and self-score together.
        curve: (unseen, seen) accuracies along the seen-unseen curve, for plots.
        notes: Counts worth printing, such as how many names were taken in another sense.
        error: What went wrong, or "".
        code: Fingerprint of the code that decides the rows.
    """

    setting: Setting
    scores: dict[str, float | None] = field(default_factory=dict)
    self_score: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    curve: tuple[tuple[float, float], ...] = ()
    notes: dict[str, float] = field(default_factory=dict)
    error: str = ""
    code: str = ""


class ResultStore:
    """Results on disk, one JSON object a line; the last line of a setting counts.

    Appending is all that is ever done to the file, so a killed run loses at most the line it was writing.

    Args:
        path: The file; None keeps results in memory.

    Raises:
        BenchmarkDataError: A line other than a cut-off last one is no result.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._results: dict[Setting, Result] = {}
        self._is_cut_off = False
        if path is not None and path.is_file():
            self._read(path)

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        self._is_cut_off = bool(text) and not text.endswith("\n")
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                result = _from_dict(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                if isinstance(error, json.JSONDecodeError) and line.startswith(_LINE_START[: len(line)]):
                    continue  # Cut off by a kill: that run is done again.
                raise BenchmarkDataError(
                    f"Line {number} of '{path}' is no benchmark result ({error}). Remove the file to measure again."
                ) from error
            self._results[result.setting] = result

    def __iter__(self) -> Any:
        return iter(self._results.values())

    def __len__(self) -> int:
        return len(self._results)

    def add(self, results: Iterable[Result]) -> None:
        """Keep results, on disk first."""
        results = list(results)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                if self._is_cut_off:
                    file.write("\n")
                    self._is_cut_off = False
                file.writelines(json.dumps(asdict(result)) + "\n" for result in results)
        self._results |= {result.setting: result for result in results}

    def has(self, setting: Setting) -> bool:
        """Whether the setting was measured without an error, by the code that is installed now."""
        result = self._results.get(setting)
        return result is not None and not result.error and result.code == code_fingerprint(setting)


def run_unit(store: ResultStore, settings: Sequence[Setting], measure: Callable[[], Iterable[Result]]) -> list[Result]:
    """Measure settings that come from one computation, unless the store has them all.

    Whatever fails is kept as a result with its error, so that it loses nothing else and is tried again the next time;
    Ctrl-C is not kept.

    Returns:
        What was measured now; empty where there was nothing to do.
    """
    if all(store.has(setting) for setting in settings):
        return []
    try:
        results = [replace(result, code=code_fingerprint(result.setting)) for result in measure()]
    except Exception as error:  # noqa: BLE001 - one bad run must not lose the others, whatever it dies of
        results = [Result(setting, error=f"{type(error).__name__}: {error}") for setting in settings]
    store.add(results)
    return results


@dataclass(frozen=True, slots=True)
class Summary:
    """One score over seeds and folds.

    Attributes:
        mean: Of those that were measured.
        spread: Their sample standard deviation; None for a single one.
        count: How many were measured.
    """

    mean: float
    spread: float | None
    count: int


def summarize(values: Iterable[float | None]) -> Summary | None:
    """Mean and sample standard deviation (n - 1) of what is there; None where nothing is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Summary(mean(known), stdev(known) if len(known) > 1 else None, len(known))


def code_fingerprint(setting: Setting) -> str:
    """A short digest of the installed code that decides the rows and scores of a setting."""
    if setting.part == "ablation":
        return _fingerprint((*_CODE_OF_THE_RECIPE, "benchmark/ablation.py"))
    if setting.part == "groups":
        return _fingerprint((*_CODE, "confidence.py", "benchmark/estimates.py"))
    if setting.part == "parts":
        return _fingerprint((*_CODE, "benchmark/parts.py"))
    is_raw_recipe = setting.method in SLOW_MAPPERS and setting.protocol == "paper"
    return _fingerprint(_CODE_OF_THE_RECIPE if is_raw_recipe else _CODE)


@functools.cache
def _fingerprint(patterns: tuple[str, ...]) -> str:
    # Once a process: the code that runs is the code that was there at the start.
    package = Path(str(files("timm_inject")))
    sources = sorted(path for pattern in patterns for path in package.glob(pattern))
    return content_key(torch.__version__, *(path.read_bytes() for path in sources))[:12]


def data_fingerprint(*parts: Any) -> str:
    """A short digest of arrays, tensors and texts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.contiguous().numpy().tobytes() if isinstance(part, torch.Tensor) else str(part).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


def _from_dict(record: dict[str, Any]) -> Result:
    record["setting"] = Setting(**record["setting"])
    record["curve"] = tuple((unseen, seen) for unseen, seen in record["curve"])
    return Result(**record)
