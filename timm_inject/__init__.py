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
    ImageError,
    InjectionWarning,
    MapperError,
    SaveError,
    TimmInjectError,
    UnknownSeenClassesError,
    UnsupportedHeadError,
)
from timm_inject.evaluation import GzslScores, evaluate
from timm_inject.hub import save_for_hf
from timm_inject.inject import inject
from timm_inject.mappers import Mapper, mapper_names
from timm_inject.metrics import harmonic_mean
from timm_inject.record import InjectedClass, InjectionRecord, injection_record
from timm_inject.version import __version__

__all__ = [
    "DEFAULT_ENCODER",
    "ArgumentTypeError",
    "ArgumentValueError",
    "ClassNameError",
    "DescriptionError",
    "EncoderError",
    "GzslScores",
    "HeadWeightsError",
    "ImageError",
    "InjectedClass",
    "InjectionRecord",
    "InjectionWarning",
    "Mapper",
    "MapperError",
    "Prediction",
    "SaveError",
    "TextEncoder",
    "TimmInjectError",
    "UnknownSeenClassesError",
    "UnsupportedHeadError",
    "__version__",
    "classify",
    "evaluate",
    "harmonic_mean",
    "inject",
    "injection_record",
    "mapper_names",
    "save_for_hf",
]
