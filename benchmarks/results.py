"""Measured results: one record a run, kept as JSON lines, and summaries of them."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks import BenchmarkDataError
from timm_inject.cache import content_key

# They take minutes a fit.
SLOW_MAPPERS = ("icis-paper",)
# Of the tables that show a few mappers only; the default comes first.
MAIN_MAPPERS = ("icis", "kernel-ridge")

# What decides the rows: results of another state of these are measured again. The published recipe, which is slow, has a
# list of its own where its rows stay raw, so that work on other mappers does not throw its results away.
_OWN_CODE = ("benchmarks/base_classifier.py", "benchmarks/scores.py")
_CODE_OF_THE_RECIPE = (*_OWN_CODE, *(f"timm_inject/mappers/{name}.py" for name in ("base", "networks", "icis_paper")))
_CODE = (
    *_OWN_CODE,
    "timm_inject/mappers/*.py",
    *(f"timm_inject/calibration/{name}.py" for name in ("rows", "pseudo_features")),
    *(f"timm_inject/text/{files}" for files in ("*.py", "data/*", "lexicon/*")),
)
_CODE_OF_A_PART = {
    "ablation": (*_CODE_OF_THE_RECIPE, "benchmarks/ablation.py"),
    "parts": (*_CODE, "benchmarks/ablation.py"),
    "groups": (*_CODE, "timm_inject/calibration/confidence.py", "benchmarks/estimates.py"),
}
_LINE_START = '{"setting": {'


@dataclass(frozen=True, slots=True)
class Setting:
    """What tells one run from another; fields that a benchmark does not use stay at their default.

    Attributes:
        benchmark: "cub", "sun", "awa2" or "imagenet".
        part: "table", "test", "parts", "ablation", "curve", "transfer" or "groups".
        protocol: How the base classifier and the scale of the rows are chosen: "held-out", "paper", or "" for a given head.
        descriptors: "att", "wiki2vec", "conceptnet", "names", or how new ImageNet classes are told: "lemma", "synset", ….
        method: The mapper or the ablation's step.
        calibration: As in `inject`; "none" for raw rows.
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
    """Results on disk, one JSON object a line; the last line of a setting counts. Without a path they are in memory.

    Appending is all that is ever done to the file, so a killed run loses at most the line it was writing.

    Raises:
        BenchmarkDataError: A line other than a cut-off last one is no result.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._results: dict[Setting, Result] = {}
        text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
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

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results.values())

    def add(self, results: Iterable[Result]) -> None:
        """Keep results, on disk first."""
        results = list(results)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._is_cut_off)
                self._is_cut_off = False
                file.writelines(json.dumps(asdict(result)) + "\n" for result in results)
        self._results |= {result.setting: result for result in results}

    def has(self, setting: Setting) -> bool:
        """Whether the setting was measured without an error, by the code that is installed now."""
        result = self._results.get(setting)
        return result is not None and not result.error and result.code == code_fingerprint(setting)


@dataclass(frozen=True, slots=True)
class Summary:
    """One score over seeds and folds: of those that were measured the mean, the standard deviation (of several) and the count."""

    mean: float
    spread: float | None
    count: int


def summarize(values: Iterable[float | None]) -> Summary | None:
    """Mean and sample standard deviation (n - 1) of what is there; None where nothing is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Summary(mean(known), stdev(known) if len(known) > 1 else None, len(known))


def select(results: Iterable[Result], **fields: object) -> list[Result]:
    """Those whose setting has these fields, failures among them."""
    return [result for result in results if all(getattr(result.setting, name) == value for name, value in fields.items())]


def group_results(results: Iterable[Result], by: Sequence[str]) -> dict[tuple[str, ...], list[Result]]:
    """Successful results by these fields of their settings, in the order in which groups first appear."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        if not result.error:
            groups.setdefault(tuple(str(getattr(result.setting, name)) for name in by), []).append(result)
    return groups


def code_fingerprint(setting: Setting) -> str:
    """A short digest of the installed code that decides the rows and scores of a setting."""
    is_raw_recipe = setting.method in SLOW_MAPPERS and setting.protocol == "paper"
    return _fingerprint(_CODE_OF_A_PART.get(setting.part) or (_CODE_OF_THE_RECIPE if is_raw_recipe else _CODE))


@functools.cache
def _fingerprint(patterns: tuple[str, ...]) -> str:
    # Once a process: the code that runs is the code that was there at the start.
    sources: list[Path] = []
    for package, _, pattern in sorted(pattern.partition("/") for pattern in patterns):
        sources += sorted(path for path in Path(str(files(package))).glob(pattern) if path.is_file())
    return content_key(torch.__version__, *(path.read_bytes() for path in sources))[:12]


def data_fingerprint(*parts: Any) -> str:
    """A short digest of tensors and texts."""
    return content_key(*(part if isinstance(part, torch.Tensor) else str(part) for part in parts))[:12]


def _from_dict(record: dict[str, Any]) -> Result:
    record["setting"] = Setting(**record["setting"])
    record["curve"] = tuple((unseen, seen) for unseen, seen in record["curve"])
    return Result(**record)
