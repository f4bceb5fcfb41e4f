"""Two models injected at once in two threads get what they get alone, and leave no global setting behind."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import NEW, WordEncoder, make_model
from timm_inject import inject
from timm_inject.head import find_head, growth, read_rows

JOBS = {
    "test_resnet": {"mapper": "icis", "seed": 1},
    "repvit_m0_9": {"mapper": "kernel-ridge", "seed": 2},
    "test_vit": {"mapper": "ridge", "calibration": "keep-seen"},
    "dla46_c": {"mapper": "wavg", "descriptions": None},
}


def rows_of(model: nn.Module) -> list[Tensor]:
    return [read_rows(leaf) for leaf in find_head(model).leaves]


def run_all(jobs: list[Callable[[], None]]) -> None:
    """Start the jobs together; raise what any of them raised."""
    start, errors = threading.Barrier(len(jobs)), []

    def work(job: Callable[[], None]) -> None:
        try:
            start.wait(timeout=60)
            job()
        except BaseException as error:  # noqa: BLE001  a thread would swallow it
            errors.append(error)

    threads = [threading.Thread(target=work, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def run_job(model: nn.Module, name: str) -> None:
    inject(model, NEW, encoder=WordEncoder(), **JOBS[name])


@pytest.mark.parametrize("cached", [True, False])
def test_threads_give_what_each_gives_alone(cached: bool, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {name: make_model(name) for name in JOBS}
    monkeypatch.setenv("TIMM_INJECT_CACHE", "off")
    for name, model in alone.items():
        run_job(model, name)
    monkeypatch.setenv("TIMM_INJECT_CACHE", str(tmp_path) if cached else "off")
    growth._growing_tensors.cache_clear()
    together = [(name, make_model(name)) for name in [*JOBS, *JOBS]]  # each twice, so that two also write the same cache entry
    rng, settings = torch.get_rng_state(), global_settings()
    run_all([lambda name=name, model=model: run_job(model, name) for name, model in together])
    for name, model in together:
        assert all(torch.equal(own, other) for own, other in zip(rows_of(model), rows_of(alone[name]), strict=True)), name
    assert torch.equal(torch.get_rng_state(), rng)
    assert global_settings() == settings
    assert bool(list(tmp_path.rglob("*.safetensors"))) == cached


def global_settings() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )


def test_a_failure_in_one_thread_leaves_the_other_alone() -> None:
    alone, good, bad = make_model(), make_model(), make_model()
    run_job(alone, "test_resnet")
    before = rows_of(bad)

    def fail() -> None:
        def stop(step: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            inject(bad, NEW, encoder=WordEncoder(), progress=stop)

    run_all([lambda: run_job(good, "test_resnet"), fail])
    assert torch.equal(rows_of(good)[0], rows_of(alone)[0])
    assert torch.equal(rows_of(bad)[0], before[0])


def test_the_comparison_can_fail() -> None:
    one, other = make_model(), make_model()
    inject(one, NEW, encoder=WordEncoder(), seed=1)
    inject(other, NEW, encoder=WordEncoder(), seed=2)
    assert not torch.equal(rows_of(one)[0], rows_of(other)[0])
