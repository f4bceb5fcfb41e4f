"""The command `timm-inject`: the only room that prints."""

from timm_inject.cli.main import main

__all__ = [
    "main",
]
