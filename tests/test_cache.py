import multiprocessing
import os
import random
import signal
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from timm_inject import cache

KEY, NEW = "0" * 64, "a" * 64
SIZE = 10_000  # small enough for torch to use one thread: a forked process has none of its parent's others, and would wait for them
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_key_tells_apart_parts_and_dtypes():
    one = torch.ones(4)
    keys = {
        cache.content_key("ab", "c"),
        cache.content_key("a", "bc"),
        cache.content_key(one),
        cache.content_key(one.double()),
        cache.content_key(one.reshape(2, 2)),
    }
    assert len(keys) == 5
    assert cache.content_key(one) == cache.content_key(torch.ones(4))


def test_second_call_reads_the_first_ones_result():
    calls = []

    def compute():
        calls.append(1)
        return {"x": torch.arange(3.0)}

    first = cache.load_or_compute("mappers", KEY, compute)
    second = cache.load_or_compute("mappers", KEY, compute)
    assert len(calls) == 1
    assert torch.equal(first["x"], second["x"])


def test_off_switches_it_off(monkeypatch):
    monkeypatch.setenv(cache.CACHE_VARIABLE, "off")
    calls = []
    for _ in range(2):
        cache.load_or_compute("mappers", KEY, lambda: calls.append(1) or {"x": torch.zeros(1)})
    assert len(calls) == 2


def test_default_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_directory() == tmp_path / "timm_inject"


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 64])
def test_damaged_entry_is_computed_again(own_cache, content):
    cache.load_or_compute("mappers", KEY, lambda: {"x": torch.zeros(1)})
    path = own_cache / "mappers" / f"{KEY}.safetensors"
    path.write_bytes(content)
    assert cache.load_or_compute("mappers", KEY, lambda: {"x": torch.ones(1)})["x"].item() == 1
    assert cache.load_or_compute("mappers", KEY, lambda: {"x": torch.zeros(1)})["x"].item() == 1


def test_unwritable_folder_does_no_harm(monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(blocker / "below"))
    assert cache.load_or_compute("mappers", KEY, lambda: {"x": torch.ones(1)})["x"].item() == 1


def test_failed_computation_leaves_nothing(own_cache):
    with pytest.raises(KeyboardInterrupt):
        cache.load_or_compute("mappers", KEY, _interrupt)
    assert not list(own_cache.rglob("*.*"))


def _interrupt():
    raise KeyboardInterrupt


def test_oldest_entries_go_first(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "_MAX_BYTES", 3000)
    for age, name in enumerate([NEW, "b" * 64, "c" * 64]):
        cache.load_or_compute("mappers", name, lambda: {"x": torch.zeros(256)})
        path = own_cache / "mappers" / f"{name}.safetensors"
        if path.exists():
            os.utime(path, (1e9 - age, 1e9 - age))
    cache.load_or_compute("embeddings", KEY, lambda: {"x": torch.zeros(256)})
    assert {path.stem for path in own_cache.rglob("*.safetensors")} == {KEY, NEW}


def _write(directory):
    os.environ[cache.CACHE_VARIABLE] = str(directory)
    cache.load_or_compute("mappers", KEY, lambda: {"x": torch.arange(1000.0)})


def test_two_processes_may_write_one_entry(own_cache):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(own_cache,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    entry = cache.load_or_compute("mappers", KEY, lambda: {"x": torch.zeros(1)})
    assert torch.equal(entry["x"], torch.arange(1000.0))
    assert [path.name for path in (own_cache / "mappers").iterdir()] == [f"{KEY}.safetensors"]


def test_report_and_clear(own_cache, monkeypatch):
    assert cache.inspect_cache().entries == {"embeddings": 0, "mappers": 0, "features": 0, "texts": 0}
    cache.load_or_compute("mappers", KEY, lambda: {"x": torch.zeros(256)})
    cache.load_or_compute("embeddings", KEY, lambda: {"x": torch.zeros(16)})
    cache.load_or_compute("embeddings", NEW, lambda: {"x": torch.zeros(16)})
    cache.load_or_compute("features", KEY, lambda: {"x": torch.zeros(8)})
    cache.load_or_compute_text(KEY, lambda: "long grey ears")
    report = cache.inspect_cache()
    assert report.directory == own_cache
    assert report.entries == {"embeddings": 2, "mappers": 1, "features": 1, "texts": 1}
    assert report.sizes == {kind: sum(p.stat().st_size for p in (own_cache / kind).iterdir()) for kind in cache.CACHE_KINDS}
    assert cache.clear_cache() == report
    assert not any(path.is_file() for path in own_cache.rglob("*"))
    monkeypatch.setenv(cache.CACHE_VARIABLE, "off")
    assert cache.inspect_cache().directory is cache.clear_cache().directory is None


def test_a_text_is_written_once_and_read_back_as_it_was():
    text = "a caf\N{LATIN SMALL LETTER E WITH ACUTE} table \N{SNOWMAN}"
    assert cache.load_or_compute_text(KEY, lambda: text) == text
    assert cache.load_or_compute_text(KEY, _interrupt) == text


def test_texts_are_the_last_to_go(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "_MAX_BYTES", 1000)
    for age, key in enumerate([KEY, NEW]):
        cache.load_or_compute_text(key, lambda: "long grey ears" * 20)
        os.utime(own_cache / "texts" / f"{key}.safetensors", (1e9 - age, 1e9 - age))
    cache.load_or_compute("mappers", NEW, lambda: {"x": torch.zeros(256)})
    left = {f"{path.parent.name}/{path.stem}" for path in own_cache.rglob("*.safetensors")}
    assert left == {f"texts/{KEY}", f"texts/{NEW}"}
    cache.load_or_compute_text("b" * 64, lambda: "wide feet" * 40)
    left = {f"{path.parent.name}/{path.stem}" for path in own_cache.rglob("*.safetensors")}
    assert left == {f"texts/{KEY}", f"texts/{'b' * 64}"}


def test_nothing_but_own_entries_is_ever_deleted(own_cache, monkeypatch):
    """A user may name a folder that holds other things, such as models."""
    others = [
        own_cache / "model.safetensors",
        own_cache / "mappers" / "model.safetensors",
        own_cache / "mappers" / f"{KEY}.txt",
        own_cache / "other" / f"{KEY}.safetensors",
        own_cache / "mappers" / "deeper" / f"{KEY}.safetensors",
        own_cache / "mappers" / "notes.tmp",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 5000)
        os.utime(path, (0, 0))
    monkeypatch.setattr(cache, "_MAX_BYTES", 10)
    cache.load_or_compute("mappers", NEW, lambda: {"x": torch.zeros(256)})
    assert not (own_cache / "mappers" / f"{NEW}.safetensors").exists()  # too large for the limit by itself
    cache.clear_cache()
    assert all(path.exists() for path in others)


def _work_until_killed(directory, begun):
    """Write, read and drop entries as fast as possible; say so once the first ones are there."""
    os.environ[cache.CACHE_VARIABLE] = str(directory)
    cache._MAX_BYTES = 200_000
    number = 0
    while True:
        number += 1
        for kind in cache.CACHE_KINDS:
            key = f"{number % 7:064x}"
            entry = cache.load_or_compute(kind, key, lambda n=number: {"x": torch.full((SIZE,), float(n % 7))})
            if not torch.equal(entry["x"], torch.full((SIZE,), float(number % 7))):
                os._exit(3)
        if number == 1:
            os.write(begun, b"x")


def _kill_itself_before_the_move(directory):
    """Die at the worst moment: the temporary file is whole, the entry is not there."""
    os.environ[cache.CACHE_VARIABLE] = str(directory)
    cache.save_file = lambda tensors, path: (save_file(tensors, path), os.kill(os.getpid(), signal.SIGKILL))
    cache.load_or_compute("mappers", KEY, lambda: {"x": torch.zeros(4)})


def _start(function, *arguments):
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 2)
    return child


@needs_fork
def test_killed_at_any_moment(own_cache):
    """SIGKILL at random moments: no entry is ever wrong, and the size stays bounded."""
    chance = random.Random(0)
    for _ in range(20):
        pipes = [os.pipe() for _ in range(2)]
        children = [_start(_work_until_killed, own_cache, begun) for _, begun in pipes]
        for has_begun, begun in pipes:
            os.close(begun)
            assert os.read(has_begun, 1) == b"x"
            os.close(has_begun)
        time.sleep(chance.uniform(0.0, 0.03))
        for child in children:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), f"the process ended by itself with {os.WEXITSTATUS(status)}"
    entries = list(own_cache.rglob("*.safetensors"))
    assert entries
    for path in entries:
        assert torch.equal(load_file(path)["x"], torch.full((SIZE,), float(int(path.stem, 16))))
    assert sum(path.stat().st_size for path in entries) < 200_000 + 3 * 40_200


@needs_fork
def test_what_a_killed_process_left_goes_away(own_cache):
    _, status = os.waitpid(_start(_kill_itself_before_the_move, own_cache), 0)
    assert os.WIFSIGNALED(status)
    (leftover,) = own_cache.rglob("*.*")
    assert leftover.suffix == ".tmp"
    cache.load_or_compute("mappers", NEW, lambda: {"x": torch.zeros(1)})
    assert leftover.exists()  # another process may be writing it
    os.utime(leftover, (time.time() - 7200,) * 2)
    cache.load_or_compute("mappers", KEY, lambda: {"x": torch.zeros(1)})
    assert sorted(path.suffix for path in own_cache.rglob("*.*")) == [".safetensors", ".safetensors"]


def _work_a_while(directory):
    end = time.monotonic() + 1.0
    os.environ[cache.CACHE_VARIABLE] = str(directory)
    cache._MAX_BYTES = 50_000
    number = os.getpid()
    while time.monotonic() < end:
        number += 1
        entry = cache.load_or_compute("mappers", f"{number % 5:064x}", lambda n=number: {"x": torch.full((4_000,), float(n % 5))})
        if not torch.equal(entry["x"], torch.full((4_000,), float(number % 5))):
            os._exit(3)
        if number % 50 == 0:
            cache.clear_cache()


@needs_fork
def test_many_processes_write_drop_and_clear_at_once(own_cache):
    children = [_start(_work_a_while, own_cache) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
