import multiprocessing
import os

import pytest
import torch

from timm_inject import cache


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

    first = cache.load_or_compute("kind", "key", compute)
    second = cache.load_or_compute("kind", "key", compute)
    assert len(calls) == 1
    assert torch.equal(first["x"], second["x"])


def test_off_switches_it_off(monkeypatch):
    monkeypatch.setenv(cache.CACHE_VARIABLE, "off")
    calls = []
    for _ in range(2):
        cache.load_or_compute("kind", "key", lambda: calls.append(1) or {"x": torch.zeros(1)})
    assert len(calls) == 2


def test_default_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_directory() == tmp_path / "timm_inject"


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 64])
def test_damaged_entry_is_computed_again(own_cache, content):
    cache.load_or_compute("kind", "key", lambda: {"x": torch.zeros(1)})
    path = own_cache / "kind" / "key.safetensors"
    path.write_bytes(content)
    assert cache.load_or_compute("kind", "key", lambda: {"x": torch.ones(1)})["x"].item() == 1
    assert cache.load_or_compute("kind", "key", lambda: {"x": torch.zeros(1)})["x"].item() == 1


def test_unwritable_folder_does_no_harm(monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(blocker / "below"))
    assert cache.load_or_compute("kind", "key", lambda: {"x": torch.ones(1)})["x"].item() == 1


def test_failed_computation_leaves_nothing(own_cache):
    with pytest.raises(KeyboardInterrupt):
        cache.load_or_compute("kind", "key", _interrupt)
    assert not list(own_cache.rglob("*.*"))


def _interrupt():
    raise KeyboardInterrupt


def test_oldest_entries_go_first(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "_MAX_BYTES", 3000)
    for age, name in enumerate(["new", "middle", "old"]):
        cache.load_or_compute("kind", name, lambda: {"x": torch.zeros(256)})
        path = own_cache / "kind" / f"{name}.safetensors"
        if path.exists():
            os.utime(path, (1e9 - age, 1e9 - age))
    cache.load_or_compute("kind", "newest", lambda: {"x": torch.zeros(256)})
    assert {path.stem for path in own_cache.rglob("*.safetensors")} == {"newest", "new"}


def _write(directory):
    os.environ[cache.CACHE_VARIABLE] = str(directory)
    cache.load_or_compute("kind", "key", lambda: {"x": torch.arange(1000.0)})


def test_two_processes_may_write_one_entry(own_cache):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(own_cache,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    entry = cache.load_or_compute("kind", "key", lambda: {"x": torch.zeros(1)})
    assert torch.equal(entry["x"], torch.arange(1000.0))
    assert [path.name for path in (own_cache / "kind").iterdir()] == ["key.safetensors"]
