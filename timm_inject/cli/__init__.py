"""The command `timm-inject`: the only room that prints."""

from timm_inject.cli.main import main
from timm_inject.cli.report import injection_lines, look_up_lines, prediction_lines, price_lines, score_lines, self_score_lines

__all__ = [
    "injection_lines",
    "look_up_lines",
    "main",
    "prediction_lines",
    "price_lines",
    "score_lines",
    "self_score_lines",
]
