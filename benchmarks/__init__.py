"""Benchmarks of timm_inject, beside the package and not in the wheel: `python -m benchmarks`. Needs the extra `benchmark`."""

from timm_inject.errors import TimmInjectError


class BenchmarkFileError(TimmInjectError, FileNotFoundError):
    """A file of a benchmark is not where it was looked for."""


class BenchmarkDataError(TimmInjectError, ValueError):
    """A file of a benchmark does not hold what its layout promises."""
