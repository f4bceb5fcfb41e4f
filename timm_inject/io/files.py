"""Paths as people write them, and files that take their place whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from timm_inject.errors import ArgumentValueError

__all__ = ["expand_user", "is_folder", "written_aside", "written_beside"]


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Give the path with "~" written out.

    Raises:
        ArgumentValueError: It begins with "~" and there is no such home folder, as in containers without a user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ArgumentValueError(f"There is no home folder for the '~' in '{os.fspath(path)}'. Write the path in full.") from error


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; what can be no path at all, such as an overlong one, is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """Give a path in the folder of `target` to write to; what is there at the end takes the place of `target`, at once.

    The file gets the permissions that new files have there, where the drive knows any; safetensors makes its files private.

    Args:
        target: In a folder that exists.

    Raises:
        OSError: The file can't be moved; `target` is then as it was.
    """
    path = target.with_name(f"{target.stem}.{secrets.token_hex(4)}.tmp")
    try:
        mode = _usual_mode(path)
        yield path
        _set_mode(path, mode)
        path.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """The same for several files: give an empty folder, and move what is in it at the end into `folder`, all of it or nothing.

    Args:
        folder: Must exist. A file of the same name is replaced.

    Raises:
        OSError: A file can't be moved, or a folder has its name; `folder` is then as it was.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-", ignore_cleanup_errors=True) as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        old.mkdir()
        yield new
        mode = _usual_mode(old / ".mode")
        paths = sorted(new.iterdir())
        for path in paths:
            _set_mode(path, mode)
        _take_places(paths, folder, old)


def _usual_mode(path: Path) -> int:
    """Make an empty file, as its permissions follow from those of the process."""
    path.touch(exist_ok=False)
    return path.stat().st_mode


def _set_mode(path: Path, mode: int) -> None:
    with contextlib.suppress(OSError):  # network and removable drives may know no permissions
        path.chmod(mode)


def _take_places(paths: Sequence[Path], folder: Path, old: Path) -> None:
    targets = [folder / path.name for path in paths]
    for target in targets:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has the name of the file", str(target))
    kept: list[tuple[Path, Path | None]] = []
    try:
        for path, target in zip(paths, targets, strict=True):
            kept.append((target, _keep(target, old)))
            path.replace(target)
    except BaseException:  # Ctrl-C too: a new config.json must not stay beside old weights
        for target, before in reversed(kept):
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True) if before is None else before.replace(target)
        raise


def _keep(target: Path, old: Path) -> Path | None:
    """Keep what is about to be replaced in `old`; None where there is nothing."""
    if not os.path.lexists(target):
        return None
    before = old / target.name
    try:
        if target.is_symlink():
            raise OSError(errno.ENOTSUP, "the link itself is kept")
        os.link(target, before)  # the name is never without a file
    except OSError:
        target.replace(before)
    return before
