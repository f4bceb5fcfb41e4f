"""A small disk cache for what is slow to compute again: text embeddings and fitted mappers.

Files are safetensors, named by a hash of everything that determines their content, so an entry never goes stale. They are
written to a temporary name and moved into place, so a killed process leaves no half-written entry, and two processes that
write the same entry write the same bytes.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

__all__ = ["CACHE_VARIABLE", "cache_directory", "content_key", "load_or_compute"]

CACHE_VARIABLE = "TIMM_INJECT_CACHE"
_MAX_BYTES = 512 * 1024**2

Tensors = dict[str, torch.Tensor]


def cache_directory() -> Path | None:
    """The cache's folder: `$TIMM_INJECT_CACHE`, else `timm_inject` in the user's cache folder; None if the variable is "off"."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "timm_inject"


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
        tensors = load_file(path)
        os.utime(path)  # Marks the entry as used, for `_drop_oldest`.
        return dict(tensors)
    tensors = {name: tensor.contiguous() for name, tensor in compute().items()}
    with contextlib.suppress(OSError):
        _write_atomically(path, tensors)
        _drop_oldest(directory)
    return tensors


def _write_atomically(path: Path, tensors: Tensors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    try:
        save_file(tensors, temporary)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _drop_oldest(directory: Path) -> None:
    entries = sorted(_stats(directory.rglob("*.safetensors")), reverse=True)
    total = 0
    for _, size, path in entries:
        total += size
        if total > _MAX_BYTES:
            path.unlink(missing_ok=True)


def _stats(paths: Iterable[Path]) -> Iterable[tuple[float, int, Path]]:
    for path in paths:
        # Another process may drop an entry between the listing and this look at it.
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            yield status.st_mtime, status.st_size, path
