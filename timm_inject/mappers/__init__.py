"""From class descriptors to classifier rows: the row predictors, their registry, and mappers that are trained once and kept."""

from timm_inject.mappers.base import Mapper, isolated_float32, normalize
from timm_inject.mappers.crossfit import MIN_CLASSES, Crossfit, assign_folds
from timm_inject.mappers.fitting import FittedMapper, fit_and_crossfit
from timm_inject.mappers.icis import IcisParts
from timm_inject.mappers.kernel_ridge import KernelRidgeMapper, choose_kernel, gaussian_kernel
from timm_inject.mappers.networks import IcisNetworks
from timm_inject.mappers.registry import MAPPERS, IcisMapper, IcisPaperMapper, create_mapper, mapper_names
from timm_inject.mappers.span import RowSpan

__all__ = [
    "MAPPERS",
    "MIN_CLASSES",
    "Crossfit",
    "FittedMapper",
    "IcisMapper",
    "IcisNetworks",
    "IcisPaperMapper",
    "IcisParts",
    "KernelRidgeMapper",
    "Mapper",
    "RowSpan",
    "assign_folds",
    "choose_kernel",
    "create_mapper",
    "fit_and_crossfit",
    "gaussian_kernel",
    "isolated_float32",
    "mapper_names",
    "normalize",
]
