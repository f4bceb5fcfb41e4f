"""Files that take their place whole or not at all, and paths as people write them."""

import os
import pwd
import stat
from pathlib import Path

import pytest

from timm_inject import ArgumentValueError, PrecomputedEncoder, TimmInjectError, TrainedMapper, cache, save_for_hf
from timm_inject.cli import main
from timm_inject.io import expand_user, is_folder, written_aside, written_beside


class Stop(BaseException):
    """No `except Exception` may swallow it."""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(folder: Path, text: str, names: str = "abc") -> None:
    for name in names:
        (folder / name).write_text(f"{text} {name}")


def test_several_files_come_together(tmp_path):
    write(tmp_path, "old", "az")
    with written_aside(tmp_path) as aside:
        write(aside, "new")
        assert (tmp_path / "a").read_text() == "old a"
    assert contents(tmp_path) == {"a": "new a", "b": "new b", "c": "new c", "z": "old z"}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("error", [PermissionError, Stop])
def test_after_a_failure_at_any_move_everything_is_as_it_was(tmp_path, monkeypatch, links, failing, error):
    write(tmp_path, "old", "ac")
    real, moves = Path.replace, []

    def replace(self, target):
        if self.parent.name == "new":
            moves.append(target)
            if len(moves) == failing + 1:
                raise error("stop")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    if not links:  # as on FAT drives

        def refuse(*_, **__):
            raise PermissionError("no links")

        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(error), written_aside(tmp_path) as aside:
        write(aside, "new")
    assert len(moves) == failing + 1
    assert contents(tmp_path) == {"a": "old a", "c": "old c"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, Stop])
def test_what_is_not_finished_leaves_nothing(tmp_path, error):
    write(tmp_path, "old", "a")
    with pytest.raises(error), written_aside(tmp_path) as aside:  # noqa: PT012
        write(aside, "new")
        raise error
    with pytest.raises(error), written_beside(tmp_path / "a") as whole:  # noqa: PT012
        whole.write_text("half")
        raise error
    assert contents(tmp_path) == {"a": "old a"}


def test_a_folder_of_the_same_name_is_never_replaced(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("mine")
    with pytest.raises(IsADirectoryError), written_aside(tmp_path) as aside:
        write(aside, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "mine").read_text() == "mine"


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "a").symlink_to(tmp_path / "kept")
    with written_aside(tmp_path) as aside:
        write(aside, "new", "ab")
    assert contents(tmp_path) == {"a": "new a", "b": "new b", "kept": "kept"}


def test_files_get_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    with written_aside(tmp_path) as aside:
        write(aside, "new", "a")
        (aside / "a").chmod(0o600)
    with written_beside(tmp_path / "b") as whole:
        whole.write_text("new")
        whole.chmod(0o600)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_drives_without_permissions(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with written_aside(tmp_path) as aside:
        write(aside, "new", "ab")
    with written_beside(tmp_path / "c") as whole:
        whole.write_text("new c")
    assert contents(tmp_path) == {"a": "new a", "b": "new b", "c": "new c"}


@pytest.fixture
def no_home(monkeypatch):
    """As in a container whose user is in no list."""

    def nobody(*_):
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "USERPROFILE", cache.CACHE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(pwd, "getpwnam", nobody)


@pytest.mark.usefixtures("no_home")
def test_without_a_home_there_is_no_cache_and_paths_are_told(small_model, tmp_path, capsys):
    assert cache.cache_directory() is None
    assert cache.load_or_compute("embeddings", "0" * 64, dict) == {}
    assert save_for_hf(small_model, tmp_path) == tmp_path
    with pytest.raises(ArgumentValueError) as caught:
        expand_user("~/models")
    assert str(caught.value) == "There is no home folder for the '~' in '~/models'. Write the path in full."
    calls = [
        lambda: save_for_hf(small_model, "~/models"),
        lambda: TrainedMapper.from_pretrained("~/mapper"),
        lambda: PrecomputedEncoder.load("~/texts.npz"),
        lambda: PrecomputedEncoder(["a"], [[1.0]]).save("~nobody/texts.safetensors"),
    ]
    for call in calls:
        with pytest.raises(TimmInjectError, match="There is no home folder for the '~' in"):
            call()
    assert main(["cache"]) == 0


def test_what_can_be_no_folder_is_none(tmp_path):
    assert is_folder(tmp_path)
    assert not is_folder(tmp_path / ("x" * 5000))
    assert not is_folder(Path("a\0b"))
