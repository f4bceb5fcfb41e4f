"""Give a trained timm image classifier new classes from their names alone, without a single image.

>>> import timm, timm_inject
>>> model = timm.create_model("resnet50.a1_in1k", pretrained=True)
>>> head = timm_inject.inject(model, ["okapi", "electric scooter"])  # the model now has 1002 outputs
"""

from timm_inject.classification import Prediction, classify
from timm_inject.encoder import DEFAULT_ENCODER, TextEncoder
from timm_inject.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ClassNameError,
    DescriptionError,
    EncoderError,
    HeadWeightsError,
    HubConflictError,
    HubConnectionError,
    HubError,
    HubPermissionError,
    HubServerError,
    HubTokenError,
    ImageError,
    InjectionWarning,
    MapperError,
    SaveError,
    TimmInjectError,
    UnknownSeenClassesError,
    UnsupportedHeadError,
    WeakClassWarning,
)
from timm_inject.evaluation import GzslScores, evaluate
from timm_inject.explanation import Explanation, explain
from timm_inject.hub import push_to_hf_hub, save_for_hf
from timm_inject.inject import inject, texts_to_encode
from timm_inject.mappers import Mapper, mapper_names
from timm_inject.metrics import harmonic_mean
from timm_inject.optimizer import refresh_optimizer
from timm_inject.precomputed import PrecomputedEncoder
from timm_inject.record import InjectedClass, InjectionRecord, injection_record
from timm_inject.removal import remove, rename
from timm_inject.self_score import ClassSelfScore, SelfScore, self_score
from timm_inject.trained_mapper import TrainedMapper, fit_mapper
from timm_inject.version import __version__

__all__ = [
    "DEFAULT_ENCODER",
    "ArgumentTypeError",
    "ArgumentValueError",
    "ClassNameError",
    "ClassSelfScore",
    "DescriptionError",
    "EncoderError",
    "Explanation",
    "GzslScores",
    "HeadWeightsError",
    "HubConflictError",
    "HubConnectionError",
    "HubError",
    "HubPermissionError",
    "HubServerError",
    "HubTokenError",
    "ImageError",
    "InjectedClass",
    "InjectionRecord",
    "InjectionWarning",
    "Mapper",
    "MapperError",
    "PrecomputedEncoder",
    "Prediction",
    "SaveError",
    "SelfScore",
    "TextEncoder",
    "TimmInjectError",
    "TrainedMapper",
    "UnknownSeenClassesError",
    "UnsupportedHeadError",
    "WeakClassWarning",
    "__version__",
    "classify",
    "evaluate",
    "explain",
    "fit_mapper",
    "harmonic_mean",
    "inject",
    "injection_record",
    "mapper_names",
    "push_to_hf_hub",
    "refresh_optimizer",
    "remove",
    "rename",
    "save_for_hf",
    "self_score",
    "texts_to_encode",
]
