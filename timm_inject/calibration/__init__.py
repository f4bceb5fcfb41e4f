"""How new rows compete with the old ones: their length and offset, and image-free estimates of how well they do."""

from timm_inject.calibration.activation import ACTIVATIONS, Activation, resolve_activation
from timm_inject.calibration.estimates import (
    MAX_NAMES,
    ClassSelfScore,
    NameEstimates,
    SelfScore,
    estimate_names,
    score_hidden_classes,
)
from timm_inject.calibration.explanation import Explanation, explain_row, leans_on, rows_at_once
from timm_inject.calibration.pseudo_features import fit_feature_model
from timm_inject.calibration.rows import (
    CALIBRATIONS,
    CalibratedRows,
    calibrate_rows,
    check_calibration,
    rehearse,
    settle_calibration,
    usual_num_new,
)

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
    "estimate_names",
    "explain_row",
    "fit_feature_model",
    "leans_on",
    "rehearse",
    "resolve_activation",
    "rows_at_once",
    "score_hidden_classes",
    "settle_calibration",
    "usual_num_new",
]
