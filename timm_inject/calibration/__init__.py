"""How new rows compete with the old ones: their length and offset, and image-free estimates of how well they do."""

from timm_inject.calibration.activation import ACTIVATIONS, Activation, resolve_activation
from timm_inject.calibration.confidence import MAX_NAMES, NameEstimates, estimate_names
from timm_inject.calibration.explanation import Explanation, explain_row, leans_on, rows_at_once
from timm_inject.calibration.pseudo_features import draw_pseudo_features
from timm_inject.calibration.rows import CALIBRATIONS, CalibratedRows, calibrate_rows, check_calibration, rehearse, usual_num_new
from timm_inject.calibration.self_score import ClassSelfScore, SelfScore, score_hidden_classes

__all__ = [
    "ACTIVATIONS",
    "CALIBRATIONS",
    "MAX_NAMES",
    "Activation",
    "CalibratedRows",
    "ClassSelfScore",
    "Explanation",
    "NameEstimates",
    "SelfScore",
    "calibrate_rows",
    "check_calibration",
    "draw_pseudo_features",
    "estimate_names",
    "explain_row",
    "leans_on",
    "rehearse",
    "resolve_activation",
    "rows_at_once",
    "score_hidden_classes",
    "usual_num_new",
]
