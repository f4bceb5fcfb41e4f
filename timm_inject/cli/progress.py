"""Progress bars on the error stream: timm_inject's own, and the Hub client's switched off where they are not wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from tqdm import tqdm

__all__ = ["Progress", "hub_progress_bars"]


class Progress:
    """Draws one tqdm bar a step; steps that end at once leave no trace.

    Args:
        quiet: Draw nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._step = ""
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far a step is, as `inject` calls its `progress`."""
        if self._quiet:
            return
        if step != self._step:
            self._close()
            self._step = step
            # tqdm shows nothing in the first second, so that quick steps do not flicker.
            self._bar = tqdm(total=total, desc=step, delay=1.0, leave=False)
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._step = None, ""


@contextlib.contextmanager
def hub_progress_bars(disabled: bool) -> Iterator[None]:
    """Switch the Hub client's bars off for a while."""
    were_disabled = are_progress_bars_disabled()
    if disabled:
        disable_progress_bars()
    try:
        yield
    finally:
        if disabled and not were_disabled:
            enable_progress_bars()
