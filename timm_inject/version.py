"""Two versions: of the package, as its metadata states it, and of the numbers that it computes."""

import importlib.metadata

__all__ = ["ROWS_VERSION", "__version__", "installed_versions"]

try:
    __version__ = importlib.metadata.version("timm_inject")
except importlib.metadata.PackageNotFoundError:  # the folder was copied, not installed
    __version__ = "0+unknown"

# Raised when the same call gives other rows, and only then: cached fits and records of earlier injections are told apart by it.
ROWS_VERSION = "5"


def installed_versions(*packages: str) -> dict[str, str]:
    """Package -> version of timm_inject and these."""
    return {"timm_inject": __version__} | {package: importlib.metadata.version(package) for package in packages}
