"""Several processes that share one job, as `accelerate launch` and `torchrun` start them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

__all__ = ["ProcessGroup", "is_main_process", "join_processes", "own_device"]

_joined = itertools.count()


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those that share the job.

    Attributes:
        rank: Its number, from 0.
        size: How many they are.
        handle: For torch; None where there is one process only.
    """

    rank: int
    size: int
    handle: Any = None

    def gather(self, item: Any) -> list[Any]:
        """What each process passed, in order of rank, the same on all of them."""
        if self.handle is None:
            return [item]
        gathered: list[Any] = [None] * self.size
        distributed.all_gather_object(gathered, item, group=self.handle)
        return gathered


@contextlib.contextmanager
def join_processes() -> Iterator[ProcessGroup]:
    """Find the other processes; where the launcher started several and nobody introduced them yet, do that for the time being.

    What they exchange are small tensors on the CPU, so the group is of gloo, whatever the caller's own is.
    """
    if not distributed.is_available():
        yield ProcessGroup(0, 1)
        return
    is_ours = not distributed.is_initialized() and _launched() > 1
    if is_ours:
        store, rank, size = next(distributed.rendezvous("env://"))  # type: ignore[attr-defined]  # torch documents it
        # Under a prefix of its own each time: what an earlier group left in the launcher's store would be taken for this one's.
        store = distributed.PrefixStore(f"timm_inject/{next(_joined)}", store)  # type: ignore[attr-defined]
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    elif not distributed.is_initialized() or distributed.get_world_size() == 1:
        yield ProcessGroup(0, 1)
        return
    try:
        handle = distributed.new_group(backend="gloo")
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size(), handle)
        distributed.destroy_process_group(handle)
    finally:
        if is_ours:
            distributed.destroy_process_group()


def is_main_process() -> bool:
    """Whether this is the process that should print."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0" or _launched() <= 1


def own_device() -> torch.device:
    """The accelerator that the launcher meant for this process, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _launched() -> int:
    """How many processes the launcher started, by the variables that torch's own `env://` reads."""
    has_all = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ["WORLD_SIZE"]) if has_all else 1
