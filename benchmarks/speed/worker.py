"""What is measured in a process of its own, which `records.measure_apart` starts; it answers in JSON.

Nothing heavy is imported at the top: the imports are a part of what is measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

__all__ = ["STAGES", "TASKS", "main"]

_MAX_FITS, _ENOUGH_SECONDS = 5, 15.0

# Stage -> the function of `timm_inject.inject` that is it.
STAGES = {
    "names": "_resolve_classes",
    "text": "encode_descriptors",
    "fit": "fit_and_crossfit",
    "predict and calibrate": "_predict",
    "estimates": "_look_ahead",
    "write": "resize_head",
}


def fit(options: dict[str, Any]) -> dict[str, Any]:
    """Fit a mapper on a head, and score what it predicts for hidden classes."""
    import psutil

    from benchmarks.speed.problems import make_problem, score_rows
    from benchmarks.speed.records import peak_bytes
    from timm_inject.mappers import create_mapper

    problem = make_problem(options["num_classes"], options["row_dim"])
    mapper = create_mapper(options["mapper"])
    unseen = problem.hidden_descriptors if mapper.uses_unseen_descriptors else None
    before = psutil.Process().memory_info().rss
    seconds: list[float] = []
    # Quick ones are fitted again, as the first fit also pays for what torch sets up once.
    while not seconds or (len(seconds) < _MAX_FITS and sum(seconds) < _ENOUGH_SECONDS):
        start = time.perf_counter()
        mapper.fit(problem.descriptors, problem.rows, seed=0, unseen_descriptors=unseen)
        seconds.append(time.perf_counter() - start)
    peak = peak_bytes()
    answer = {"fit_seconds": median(seconds), "fits": len(seconds), "peak_bytes": peak, "is_real": problem.is_real}
    answer["fit_bytes"] = max(0, peak - before)
    epochs = {"epochs": int(mapper.tensors["num_epochs"])} if "num_epochs" in mapper.tensors else {}
    return answer | epochs | score_rows(mapper.predict_rows(problem.hidden_descriptors), problem)


def recipe_batches(options: dict[str, Any]) -> dict[str, Any]:
    """Time one batch of the published recipe: it is the same on a few classes as on all."""
    from benchmarks.speed.problems import make_problem
    from timm_inject.mappers import create_mapper

    problem = make_problem(options["num_classes"], options["row_dim"])
    count = min(options["classes"], len(problem.rows))
    times: list[float] = []

    class Enough(Exception):  # noqa: N818 - not an error
        pass

    def watch(step: str, done: int, total: int) -> None:
        times.append(time.perf_counter())
        if done > options["epochs"]:
            raise Enough

    with contextlib.suppress(Enough):
        create_mapper("icis-paper").fit(problem.descriptors[:count], problem.rows[:count], seed=0, progress=watch)
    batches = (len(times) - 1) * -(-count // 16)
    return {"batch_seconds": (times[-1] - times[0]) / batches, "batches": batches, "is_real": problem.is_real}


def bounds(options: dict[str, Any]) -> dict[str, Any]:
    """What a fit is compared with: its Gram matrix, and a direct solve at the speed of matrix products."""
    import torch

    from benchmarks.speed.problems import make_problem
    from benchmarks.speed.records import best_gemm_rate, time_of

    problem = make_problem(options["num_classes"], options["row_dim"])
    texts = problem.descriptors
    texts[:256] @ texts.T
    # The inner products and one pass over them, a block at a time so that memory stays small.
    gram = time_of(lambda: [torch.exp(block @ texts.T).sum() for block in texts.split(2048)])
    rows, dim = problem.rows.shape
    rate = best_gemm_rate()
    return {"gram_seconds": gram, "solve_seconds": (rows**3 / 3 + 2 * rows**2 * dim) / rate, "gemm_gflops": rate / 1e9}


def inject(options: dict[str, Any]) -> dict[str, Any]:
    """The whole call, stage by stage; with "shipped": False as if the package held no embeddings."""
    import timm_inject
    from timm_inject import encoder
    from timm_inject.offline import create_packaged_model

    start = time.perf_counter()
    model = create_packaged_model(options["model"])
    load_seconds = time.perf_counter() - start
    module = sys.modules["timm_inject.inject"]
    seconds = dict.fromkeys([*STAGES, "encoder load"], 0.0)
    for stage, name in STAGES.items():
        _time_calls(module, name, stage, seconds)
    _time_calls(encoder, "_load", "encoder load", seconds)
    if not options.get("shipped", True):
        vars(encoder)["find_shipped_embeddings"] = lambda weights: None
    start = time.perf_counter()
    timm_inject.inject(model, options["names"])
    total = time.perf_counter() - start
    seconds["text"] -= seconds["encoder load"]
    seconds["other"] = total - sum(seconds.values())
    stages = {"model load": load_seconds, **seconds}
    return {f"{stage}_seconds": value for stage, value in stages.items()} | {"inject_seconds": total}


def names(options: dict[str, Any]) -> dict[str, Any]:
    """Many names into one head, with an encoder that takes no time; the head is fitted before."""
    import psutil

    import timm_inject
    from benchmarks.speed.problems import QuickEncoder
    from benchmarks.speed.records import peak_bytes
    from timm_inject.head import find_head
    from timm_inject.lexicon import label_set_wnids, load_lexicon
    from timm_inject.offline import create_packaged_model

    count = options["count"]
    lexicon = load_lexicon()
    found = [lexicon.by_wnid(wnid) for wnid in label_set_wnids("imagenet-22k")]
    words = [synset.lemmas[0] for synset in found if synset is not None]
    # Half of them words that have a definition elsewhere, none of them a name that another has.
    new = [f"{words[number * 7 % len(words)]} of kind {number}" for number in range(count)]
    warm, model = (create_packaged_model("tf_efficientnet_lite0") for _ in range(2))
    timm_inject.inject(warm, ["okapi"], encoder=QuickEncoder())
    del warm
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    timm_inject.inject(model, new, encoder=QuickEncoder())
    seconds = time.perf_counter() - start
    (leaf,) = find_head(model).leaves
    own = sum(parameter.numel() * parameter.element_size() for parameter in leaf.layer.parameters())
    return {"inject_seconds": seconds, "above_bytes": max(0, peak_bytes() - before), "head_bytes": own}


def text(options: dict[str, Any]) -> dict[str, Any]:
    """The default encoder on texts of the usual kind, for what many names cost beside the package's own work."""
    from timm_inject.class_names import resolve_seen_class_names
    from timm_inject.class_texts import resolve_class_texts
    from timm_inject.descriptors import encode_descriptors
    from timm_inject.encoder import resolve_encoder

    loaded = dataclasses.replace(resolve_encoder(None), shipped=lambda: None)
    loaded.load().encode(["to warm up"])
    classes, _ = resolve_class_texts(resolve_seen_class_names(None, 1000, "imagenet-1k")[: options["count"]], [])
    start = time.perf_counter()
    encode_descriptors(classes, loaded)
    return {"text_seconds": time.perf_counter() - start}


TASKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "fit": fit,
    "recipe-batches": recipe_batches,
    "bounds": bounds,
    "inject": inject,
    "names": names,
    "text": text,
}


def _time_calls(module: Any, name: str, stage: str, seconds: dict[str, float]) -> None:
    """Add up the time in a function of a module."""
    original = getattr(module, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            seconds[stage] += time.perf_counter() - start

    setattr(module, name, timed)


def main(arguments: list[str], figures: dict[str, float]) -> None:
    """Do one task and write its answer as the last line.

    Args:
        arguments: The task's name, and its options as JSON.
        figures: What was measured before; they are passed on.
    """
    task, options = arguments
    sys.stdout.write(f"\n{json.dumps(figures | TASKS[task](json.loads(options)))}\n")
