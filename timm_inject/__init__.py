"""Give a trained timm image classifier new classes from their names alone, without a single image.

>>> import timm, timm_inject
>>> model = timm.create_model("resnet50.a1_in1k", pretrained=True)
>>> head = timm_inject.inject(model, ["okapi", "electric scooter"])  # the model now has 1002 outputs
"""

from timm_inject.calibration import ClassSelfScore, Explanation, SelfScore
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
    LanguageModelError,
    MapperError,
    SaveError,
    TimmInjectError,
    UnknownSeenClassesError,
    UnsupportedHeadError,
    WeakClassWarning,
)
from timm_inject.head import refresh_optimizer
from timm_inject.hub import TrainedMapper, attach_record, push_to_hf_hub, save_for_hf
from timm_inject.images import GzslScores, Prediction, classify, evaluate, harmonic_mean
from timm_inject.inject import inject
from timm_inject.injected import InjectedClass, InjectionRecord, injection_record, remove, rename
from timm_inject.mappers import Mapper, mapper_names
from timm_inject.text import DEFAULT_ENCODER, ClassText, LanguageModel, PrecomputedEncoder, Sense, SentenceEncoder, TextEncoder
from timm_inject.verbs import explain, fit_mapper, look_up, self_score, texts_to_encode
from timm_inject.version import __version__

__all__ = [
    "DEFAULT_ENCODER",
    "ArgumentTypeError",
    "ArgumentValueError",
    "ClassNameError",
    "ClassSelfScore",
    "ClassText",
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
    "LanguageModel",
    "LanguageModelError",
    "Mapper",
    "MapperError",
    "PrecomputedEncoder",
    "Prediction",
    "SaveError",
    "SelfScore",
    "Sense",
    "SentenceEncoder",
    "TextEncoder",
    "TimmInjectError",
    "TrainedMapper",
    "UnknownSeenClassesError",
    "UnsupportedHeadError",
    "WeakClassWarning",
    "__version__",
    "attach_record",
    "classify",
    "evaluate",
    "explain",
    "fit_mapper",
    "harmonic_mean",
    "inject",
    "injection_record",
    "look_up",
    "mapper_names",
    "push_to_hf_hub",
    "refresh_optimizer",
    "remove",
    "rename",
    "save_for_hf",
    "self_score",
    "texts_to_encode",
]
