"""From class descriptors to classifier rows: the row predictors, their registry, and mappers that are trained once and kept."""

from timm_inject.mappers.base import Mapper, isolated_float32, normalize
from timm_inject.mappers.crossfit import MIN_CLASSES, Crossfit, assign_folds
from timm_inject.mappers.fitting import FittedMapper, fit_and_crossfit
from timm_inject.mappers.kernel_ridge import IcisMapper, KernelRidgeMapper, cauchy_kernel, choose_kernel, leave_one_out_rows
from timm_inject.mappers.networks import IcisNetworks
from timm_inject.mappers.registry import MAPPERS, IcisPaperMapper, create_mapper, mapper_names
from timm_inject.mappers.span import RowSpan

__all__ = [
    "MAPPERS",
    "MIN_CLASSES",
    "Crossfit",
    "FittedMapper",
    "IcisMapper",
    "IcisNetworks",
    "IcisPaperMapper",
    "KernelRidgeMapper",
    "Mapper",
    "RowSpan",
    "assign_folds",
    "cauchy_kernel",
    "choose_kernel",
    "create_mapper",
    "fit_and_crossfit",
    "isolated_float32",
    "leave_one_out_rows",
    "mapper_names",
    "normalize",
]
