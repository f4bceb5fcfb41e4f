"""What is measured in a process of its own, so that its imports, its memory and its cache are its own; it answers in JSON."""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

import timm_inject
from benchmarks import BenchmarkDataError
from benchmarks.session import peak_bytes
from benchmarks.speed.problems import QuickEncoder, class_names, make_problem, score_rows
from timm_inject.cache import CACHE_VARIABLE
from timm_inject.head import find_head
from timm_inject.mappers import IcisPaperMapper, create_mapper
from timm_inject.offline import create_packaged_model
from timm_inject.text import encode_descriptors, resolve_class_texts, resolve_encoder

_MAX_FITS, _ENOUGH_SECONDS = 5, 15.0
_GEMM_SIZE = 2048
_STARTER = """
import sys, time
start = time.perf_counter()
import timm
timm_done = time.perf_counter()
import timm_inject
seconds = {"import timm_seconds": timm_done - start, "import timm_inject_seconds": time.perf_counter() - timm_done}
from benchmarks.speed import worker
worker.main(*sys.argv[1:], seconds)
"""
# Stage -> the functions of `inject` that are it, as module:name.
STAGES = {
    "names": ["inject:pose_problem"],
    "text": ["inject:encode_descriptors", "problem:encode_descriptors"],
    "fit": ["problem:fit_and_crossfit"],
    "predict and calibrate": ["inject:_predict"],
    "estimates": ["inject:_look_ahead"],
    "write": ["inject:resize_head"],
}


def measure_apart(task: str, options: dict[str, Any], *, cache: Path | None = None, repeats: int = 1) -> dict[str, float]:
    """Run a task of `TASKS` in fresh processes, one after the other; give the medians of its figures.

    Without a folder for the cache each process has an empty one, which is deleted.
    """
    answers = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as empty:
            environment = {**os.environ, CACHE_VARIABLE: str(cache or empty)}
            command = [sys.executable, "-c", _STARTER, task, json.dumps(options)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
        if done.returncode != 0:
            raise BenchmarkDataError(f"The measurement {task!r} failed: {done.stderr.strip()[-1000:]}")
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    return {figure: float(median(answer[figure] for answer in answers)) for figure in answers[0]}


def main(task: str, options: str, figures: dict[str, float]) -> None:
    """Do a task with these options, and write its answer and the figures from before as the last line."""
    sys.stdout.write(f"\n{json.dumps(figures | TASKS[task](json.loads(options)))}\n")


def time_of(work: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best_gemm_rate() -> float:
    """Floating-point operations a second that a float32 product of large square matrices reaches on this machine."""
    one, other = torch.rand(2, _GEMM_SIZE, _GEMM_SIZE)
    one @ other
    return 2 * _GEMM_SIZE**3 / min(time_of(lambda: one @ other) for _ in range(5))


def fit(options: dict[str, Any]) -> dict[str, float]:
    """Fit a mapper on a head, and score what it predicts for hidden classes."""
    problem = make_problem(options["num_classes"], options["row_dim"])
    mapper = create_mapper(options["mapper"])
    unseen = problem.hidden_descriptors if mapper.uses_unseen_descriptors else None
    before = _held_bytes()
    seconds: list[float] = []
    # Quick ones are fitted again, as the first fit also pays for what torch sets up once.
    while not seconds or (len(seconds) < _MAX_FITS and sum(seconds) < _ENOUGH_SECONDS):
        seconds.append(time_of(lambda: mapper.fit(problem.descriptors, problem.rows, seed=0, unseen_descriptors=unseen)))
    peak = peak_bytes()
    answer = {"fit_seconds": median(seconds), "fits": len(seconds), "peak_bytes": peak, "fit_bytes": max(0, peak - before)}
    answer |= {"epochs": int(mapper.tensors["num_epochs"])} if "num_epochs" in mapper.tensors else {}
    return answer | {"is_real": problem.is_real} | score_rows(mapper.predict_rows(problem.hidden_descriptors), problem)


def recipe_batches(options: dict[str, Any]) -> dict[str, float]:
    """Time one batch of the published recipe: it is the same on a few classes as on all."""

    class FewEpochs(IcisPaperMapper):
        max_epochs = options["epochs"] + 1  # the first one also sets up what the others use

    problem = make_problem(options["num_classes"], options["row_dim"])
    count = min(options["classes"], len(problem.rows))
    ends: list[float] = []
    mapper = FewEpochs()
    mapper.fit(problem.descriptors[:count], problem.rows[:count], progress=lambda *_: ends.append(time.perf_counter()))
    batches = options["epochs"] * -(-count // 16)
    return {"batch_seconds": (ends[options["epochs"]] - ends[0]) / batches, "batches": batches, "is_real": problem.is_real}


def bounds(options: dict[str, Any]) -> dict[str, float]:
    """What a fit is compared with: its Gram matrix, and a direct solve at the speed of matrix products."""
    problem = make_problem(options["num_classes"], options["row_dim"])
    texts, (rows, dim) = problem.descriptors, problem.rows.shape
    texts[:256] @ texts.T
    # The inner products and one pass over them, a block at a time so that memory stays small.
    gram = time_of(lambda: [torch.exp(block @ texts.T).sum() for block in texts.split(2048)])
    rate = best_gemm_rate()
    return {"gram_seconds": gram, "solve_seconds": (rows**3 / 3 + 2 * rows**2 * dim) / rate, "gemm_gflops": rate / 1e9}


def inject(options: dict[str, Any]) -> dict[str, float]:
    """The whole call, stage by stage; with "shipped": False as if the package held no embeddings."""
    start = time.perf_counter()
    model = create_packaged_model(options["model"])
    load_seconds = time.perf_counter() - start
    seconds = dict.fromkeys([*STAGES, "encoder load"], 0.0)
    for stage, paths in {**STAGES, "encoder load": ["text.encoder:_load"]}.items():
        for path in paths:
            _time_calls(path, stage, seconds)
    if not options.get("shipped", True):
        vars(importlib.import_module("timm_inject.text.encoder"))["find_shipped_embeddings"] = lambda weights: None
    total = time_of(lambda: timm_inject.inject(model, options["names"]))
    seconds["text"] -= seconds["encoder load"]
    seconds["other"] = total - sum(seconds.values())
    stages = {"model load": load_seconds, **seconds}
    return {f"{stage}_seconds": value for stage, value in stages.items()} | {"inject_seconds": total}


def names(options: dict[str, Any]) -> dict[str, float]:
    """Many names into one head, with an encoder that takes no time; the head is fitted before."""
    words = [name.name for name in class_names(21_843)]
    # Half of them words that have a definition elsewhere, none of them a name that another has.
    new = [f"{words[number * 7 % len(words)]} of kind {number}" for number in range(options["count"])]
    timm_inject.inject(create_packaged_model("tf_efficientnet_lite0"), ["okapi"], encoder=QuickEncoder())
    model = create_packaged_model("tf_efficientnet_lite0")
    before = _held_bytes()
    seconds = time_of(lambda: timm_inject.inject(model, new, encoder=QuickEncoder()))
    (leaf,) = find_head(model).leaves
    own = sum(parameter.numel() * parameter.element_size() for parameter in leaf.layer.parameters())
    return {"inject_seconds": seconds, "above_bytes": max(0, peak_bytes() - before), "head_bytes": own}


def text(options: dict[str, Any]) -> dict[str, float]:
    """The default encoder on texts of the usual kind, for what many names cost beside the package's own work."""
    loaded = dataclasses.replace(resolve_encoder(None), shipped=lambda: None)
    loaded.load().encode(["to warm up"])
    classes, _ = resolve_class_texts(class_names(1000)[: options["count"]], [])
    return {"text_seconds": time_of(lambda: encode_descriptors(classes, loaded))}


TASKS = {task.__name__: task for task in (fit, recipe_batches, bounds, inject, names, text)}


def _held_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def find_function(path: str) -> tuple[Any, str]:
    """The module and the name of what `STAGES` writes as module:name."""
    module, _, name = path.partition(":")
    return importlib.import_module(f"timm_inject.{module}"), name


def _time_calls(path: str, stage: str, seconds: dict[str, float]) -> None:
    """Add up the time in a function."""
    module, name = find_function(path)
    original = getattr(module, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            seconds[stage] += time.perf_counter() - start

    setattr(module, name, timed)
