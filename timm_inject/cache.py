"""A small disk cache for what is slow or costly to make again: text embeddings, fitted mappers, pseudo-features, written texts.

Files are safetensors, named by a hash of everything that determines their content, so an entry never goes stale. They are
written aside and moved into place, so a killed process leaves no half-written entry, and two processes that
write the same entry write the same bytes. Only files of such names in the folders of `CACHE_KINDS` are ever deleted, so a cache
folder that holds other things too loses none of them.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from timm_inject.errors import ArgumentValueError
from timm_inject.io import expand_user, written_beside

__all__ = [
    "CACHE_KINDS",
    "CACHE_VARIABLE",
    "CacheReport",
    "cache_directory",
    "clear_cache",
    "content_key",
    "inspect_cache",
    "load_or_compute",
    "load_or_compute_text",
]

CACHE_VARIABLE = "TIMM_INJECT_CACHE"
CACHE_KINDS = ("embeddings", "mappers", "features", "texts")
# The last to be dropped: these are small, and what a language model wrote may have cost money.
_KEPT_LONGEST = "texts"
_TEXT = "utf-8"
_MAX_BYTES = 512_000_000
# What a killed process left behind: nothing takes so long to write.
_STALE_SECONDS = 3600.0
_ENTRY_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{64}\..+\.tmp")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What lies in the cache, or was taken out of it.

    Attributes:
        directory: The folder; None where the cache is switched off.
        entries: Kind -> number of files.
        sizes: Kind -> bytes.
        max_bytes: Above this the entries that were used longest ago go.
    """

    directory: Path | None
    entries: dict[str, int]
    sizes: dict[str, int]
    max_bytes: int


def cache_directory() -> Path | None:
    """The cache's folder: `$TIMM_INJECT_CACHE`, else `timm_inject` in the user's cache folder.

    Returns:
        None if the variable is "off", or where the user has no home folder.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen == "off":
        return None
    try:
        return expand_user(chosen) if chosen else expand_user(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "timm_inject"
    except ArgumentValueError:
        return None


def content_key(*parts: str | bytes | torch.Tensor) -> str:
    """A hex digest of the parts, in order; tensors count with their dtype, shape and bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            data = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        else:
            data = part.encode() if isinstance(part, str) else part
        # The length goes in front, so that ("ab", "c") and ("a", "bc") differ.
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def load_or_compute(kind: str, key: str, compute: Callable[[], Mapping[str, torch.Tensor]]) -> Tensors:
    """Read the entry `kind/key`, or compute it and keep it.

    A cache must never be the reason for a failure: an unreadable entry is computed again, and a folder that cannot be
    written is left alone.
    """
    directory = cache_directory()
    if directory is None:
        return dict(compute())
    path = directory / kind / f"{key}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        # Not `load_file`: that maps the file, and fails in its own way where another process deletes it meanwhile.
        tensors = load(path.read_bytes())
        os.utime(path)  # Marks the entry as used, for `_drop_oldest`.
        return dict(tensors)
    tensors = {name: tensor.contiguous() for name, tensor in compute().items()}
    with contextlib.suppress(OSError, SafetensorError):
        _write_atomically(path, tensors)
        _drop_oldest(directory)
    return tensors


def load_or_compute_text(key: str, compute: Callable[[], str]) -> str:
    """The same for one text, an entry of the kind "texts"."""
    entry = load_or_compute("texts", key, lambda: {_TEXT: torch.tensor(list(compute().encode()), dtype=torch.uint8, device="cpu")})
    return bytes(entry[_TEXT].tolist()).decode()


def inspect_cache() -> CacheReport:
    """Say what lies in the cache."""
    directory = cache_directory()
    found = list(_files(directory)) if directory else []
    return _report(directory, found)


def clear_cache() -> CacheReport:
    """Delete every entry, also one that another process is using (it has read it already, or computes it again).

    Returns:
        What was deleted; a file that cannot be deleted is left where it is.
    """
    directory = cache_directory()
    gone: list[tuple[float, int, Path]] = []
    for entry in list(_files(directory)) if directory else []:
        with contextlib.suppress(OSError):
            entry[2].unlink()
            gone.append(entry)
    return _report(directory, gone)


def _report(directory: Path | None, files: list[tuple[float, int, Path]]) -> CacheReport:
    sizes = {kind: [size for _, size, path in files if path.parent.name == kind] for kind in CACHE_KINDS}
    entries = {kind: len(found) for kind, found in sizes.items()}
    return CacheReport(directory, entries, {kind: sum(found) for kind, found in sizes.items()}, _MAX_BYTES)


def _write_atomically(path: Path, tensors: Tensors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as whole:
        save_file(tensors, whole)


def _drop_oldest(directory: Path) -> None:
    """Keep the entries that were used last, up to the size limit, and clear away what killed processes left."""
    total = 0
    last_to_go_first = sorted(_files(directory), key=lambda file: (file[2].parent.name == _KEPT_LONGEST, *file), reverse=True)
    for used, size, path in last_to_go_first:
        is_stale = path.suffix == ".tmp" and time.time() - used > _STALE_SECONDS
        total += size
        if is_stale or (total > _MAX_BYTES and path.suffix != ".tmp"):
            # Another process may be deleting it too, or, on Windows, reading it.
            with contextlib.suppress(OSError):
                path.unlink()


def _files(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """(time of the last use, size, path) of every file that this module wrote."""
    for kind in CACHE_KINDS:
        with contextlib.suppress(OSError):
            for path in (directory / kind).iterdir():
                if not (_ENTRY_NAME.fullmatch(path.name) or _TEMPORARY_NAME.fullmatch(path.name)):
                    continue
                # It may be gone since the listing.
                with contextlib.suppress(OSError):
                    status = path.stat()
                    yield status.st_mtime, status.st_size, path
