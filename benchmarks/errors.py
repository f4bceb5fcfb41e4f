"""What can go wrong with a benchmark's data."""

from timm_inject.errors import TimmInjectError

__all__ = ["BenchmarkDataError", "BenchmarkFileError"]


class BenchmarkFileError(TimmInjectError, FileNotFoundError):
    """A file of a benchmark is not where it was looked for."""


class BenchmarkDataError(TimmInjectError, ValueError):
    """A file of a benchmark does not hold what its layout promises."""
