"""What each part of the default mapper adds."""

from __future__ import annotations

from timm_inject.mappers import IcisMapper, IcisParts

__all__ = ["PARTS_STEPS", "PartsMapper"]

_NOTHING = IcisParts(powers=(1.0,), blends=False, mix_weights=(0.0,), network_weight=0.0, equalize=0.0)
_ROOTS = IcisParts(blends=False, mix_weights=(0.0,), network_weight=0.0, equalize=0.0)
_BLEND = IcisParts(mix_weights=(0.0,), network_weight=0.0, equalize=0.0)
_MIX = IcisParts(network_weight=0.0, equalize=0.0)
# One after the other; the last is `icis` itself.
PARTS_STEPS: dict[str, IcisParts] = {
    "kernel ridge on centred descriptors and rows": _NOTHING,
    "+ roots of the descriptors where they help": _ROOTS,
    "+ kernels of several widths": _BLEND,
    "+ a mix of seen rows where it helps": _MIX,
    "+ the paper's networks": IcisParts(equalize=0.0),
    "+ weak directions strengthened: `icis`": IcisParts(),
}


class PartsMapper(IcisMapper):
    """`icis` with some of its parts."""

    name = "icis-parts"

    def __init__(self, parts: IcisParts) -> None:
        super().__init__()
        self.parts = parts  # type: ignore[misc]  # of this one mapper
