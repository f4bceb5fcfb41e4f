"""Row predictors, and the registry that knows them by name. A new one is a file with a class and a line here."""

import difflib

from timm_inject.errors import MapperError
from timm_inject.mappers.base import Mapper
from timm_inject.mappers.baselines import (
    ConseMapper,
    CostaMapper,
    MeanRowMapper,
    RidgeMapper,
    SmoMapper,
    WeightedAverageMapper,
)
from timm_inject.mappers.icis_networks import IcisNetworksMapper
from timm_inject.mappers.icis_paper import IcisPaperMapper
from timm_inject.mappers.kernel_ridge import IcisMapper, KernelRidgeMapper

__all__ = ["MAPPERS", "IcisMapper", "IcisPaperMapper", "Mapper", "create_mapper", "mapper_names"]

MAPPERS: dict[str, type[Mapper]] = {
    mapper.name: mapper
    for mapper in (
        IcisMapper,
        IcisPaperMapper,
        IcisNetworksMapper,
        KernelRidgeMapper,
        RidgeMapper,
        WeightedAverageMapper,
        SmoMapper,
        CostaMapper,
        ConseMapper,
        MeanRowMapper,
    )
}


def mapper_names() -> list[str]:
    """The names that `mapper` takes."""
    return list(MAPPERS)


def create_mapper(name: str) -> Mapper:
    """Make an unfitted mapper.

    Raises:
        MapperError: The registry does not know the name.
    """
    if name not in MAPPERS:
        near = difflib.get_close_matches(name, MAPPERS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise MapperError(f"There is no mapper {name!r}.{hint} Known: {', '.join(MAPPERS)}.")
    return MAPPERS[name]()
