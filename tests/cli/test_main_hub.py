"""The commands card and cache; push is tested with the Hub."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import WordEncoder, run_command
from timm_inject import cache, inject, save_for_hf


@pytest.fixture
def saved(folders, tmp_path):
    return Path(shutil.copytree(folders[1], tmp_path / "model"))


def test_card(capsys, saved):
    before = (saved / "README.md").read_bytes()
    (saved / "README.md").unlink()
    assert run_command(capsys, "card", saved) == (0, f"Written: {saved / 'README.md'}\n", "")
    assert (saved / "README.md").read_bytes() == before
    code, out, _ = run_command(capsys, "card", saved, "--repo-id", "alice/zoo", "--json")
    assert (code, json.loads(out)) == (0, {"card": str(saved / "README.md")})
    assert "hf-hub:alice/zoo" in (saved / "README.md").read_text(encoding="utf-8")


def test_card_keeps_what_somebody_wrote(capsys, saved):
    (saved / "README.md").write_text("mine")
    code, out, err = run_command(capsys, "card", saved)
    assert (code, out) == (2, "")
    assert err == (
        f"timm-inject: '{saved / 'README.md'}' was written or changed by somebody and is kept. Move it away, or pass "
        "`overwrite=True` (`--overwrite`).\n"
    )
    assert (saved / "README.md").read_text() == "mine"
    assert run_command(capsys, "card", saved, "--overwrite")[0] == 0
    assert "2 injected classes" in (saved / "README.md").read_text(encoding="utf-8")


def test_card_of_a_folder_without_a_patched_model(capsys, small_model, tmp_path):
    save_for_hf(small_model, tmp_path / "plain")
    code, out, err = run_command(capsys, "card", tmp_path / "plain")
    assert (code, out) == (2, "")
    assert err.startswith(f"timm-inject: The model in '{tmp_path / 'plain'}' holds no injected classes: ")
    assert err.count("\n") == 1


def test_cache(capsys, small_model, own_cache, monkeypatch):
    assert run_command(capsys, "cache")[1] == (
        f"Cache in {own_cache}, at most 512 MB\n"
        "  embeddings        0 files       0.0 MB\n"
        "  mappers           0 files       0.0 MB\n"
        "  features          0 files       0.0 MB\n"
        "  texts             0 files       0.0 MB\n"
    )
    inject(small_model, ["okapi"], encoder=WordEncoder(), mapper="ridge")
    code, out, _ = run_command(capsys, "cache", "--json")
    report = json.loads(out)
    assert (code, report["entries"], report["cleared"]) == (
        0,
        {"embeddings": 0, "mappers": 2, "features": 1, "texts": 0},
        False,
    )  # the mapper, and the kernel of the estimates
    assert report["directory"] == str(own_cache)
    assert "mappers           2 files" in run_command(capsys, "cache", "--clear")[1]
    assert cache.inspect_cache().entries == {"embeddings": 0, "mappers": 0, "features": 0, "texts": 0}
    assert run_command(capsys, "cache", "--clear", "--quiet") == (0, "", "")
    monkeypatch.setenv(cache.CACHE_VARIABLE, "off")
    assert run_command(capsys, "cache") == (0, "The cache is switched off.\n", "")


def test_ctrl_c_in_a_push_says_what_is_left(capsys, saved, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("timm_inject.cli.commands.push_folder", stop)
    code, _, err = run_command(capsys, "push", saved, "alice/zoo")
    assert (code, err) == (
        130,
        "timm-inject: stopped; the repository is as it was, unless the commit had arrived. Pushing again is safe.\n",
    )
