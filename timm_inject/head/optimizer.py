"""Let an optimizer that was made before `inject` train the wider head."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError
from timm_inject.head.finding import find_head
from timm_inject.head.wrappers import unwrap_model

__all__ = ["refresh_optimizer"]

# State that is a copy of the weights and no sum over steps: timm's Lookahead, schedule-free optimizers, ASGD.
_WEIGHT_COPIES = frozenset({"lookahead_slow_buff", "z", "ax"})


@dataclass(frozen=True, slots=True)
class _Swap:
    """One parameter of the head, and where the optimizer holds its predecessor.

    Attributes:
        name: Dotted path in the model.
        new: The parameter that the model has now.
        group: The optimizer's group that holds the predecessor.
        position: Its place there.
        num_kept: How many leading rows the two share.
    """

    name: str
    new: nn.Parameter
    group: dict[str, Any]
    position: int
    num_kept: int

    @property
    def old(self) -> Tensor:
        """The predecessor."""
        held: Tensor = self.group["params"][self.position]
        return held


def refresh_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    """Put the head's new parameters in the place of the ones that the optimizer still holds.

    `inject` and `remove` give the head new parameters, as tensors of another size must be; an optimizer made before goes on
    with the old ones and would train nothing. Here each takes its predecessor's place, in the same group and with the same
    options. Momentum and the like stay for the rows that were there and are zero for new ones; copies of the weights (Lookahead,
    ASGD) start from the new rows; step counts stay. State that is not one number a weight (Adafactor's factors) starts anew for
    the head.

    Call it right after, before the model trains on: a predecessor is known by its rows.

    Args:
        optimizer: Made from the model's parameters before its head changed.
        model: The model, wrapped or not.

    Returns:
        The names of the parameters that took a predecessor's place; none where the optimizer is up to date already.

    Raises:
        ArgumentTypeError: `optimizer` is no torch optimizer.
        ArgumentValueError: The optimizer holds neither the head's parameters nor any predecessor of them.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentTypeError(f"`optimizer` must be a torch.optim.Optimizer, got {type(optimizer).__name__}.")
    optimizer = _inside_lookahead(optimizer)
    head = find_head(model)
    parameters = {f"{leaf.name}.{name}": own for leaf in head.leaves for name, own in leaf.layer.named_parameters(recurse=False)}
    swaps = list(_find_swaps(optimizer, unwrap_model(model), parameters))
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not swaps and not any(id(parameter) in held for parameter in parameters.values()):
        raise ArgumentValueError(
            f"The optimizer holds neither the parameters of {head.name!r} nor the ones that they came from. Refresh it right after "
            "`inject`, before the model trains on, or make it again from model.parameters()."
        )
    states = [_grown_state(optimizer.state.get(swap.old, {}), swap) for swap in swaps]
    for swap, state in zip(swaps, states, strict=True):
        optimizer.state.pop(swap.old, None)
        swap.group["params"][swap.position] = swap.new
        if state:
            optimizer.state[swap.new] = state
    return [swap.name for swap in swaps]


def _inside_lookahead(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer in timm's Lookahead, which shares its groups and leaves the state to it."""
    from timm.optim import Lookahead  # `import timm` does without timm.optim, and so do we until now

    return optimizer._base_optimizer if isinstance(optimizer, Lookahead) else optimizer


def _find_swaps(optimizer: torch.optim.Optimizer, model: nn.Module, parameters: dict[str, nn.Parameter]) -> Iterator[_Swap]:
    own = {id(parameter) for parameter in model.parameters()}
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    stale = [
        (group, position)
        for group in optimizer.param_groups
        for position, parameter in enumerate(group["params"])
        if id(parameter) not in own
    ]
    for name, new in parameters.items():
        if id(new) in held:
            continue
        candidates = [_Swap(name, new, group, position, _num_kept(group["params"][position], new)) for group, position in stale]
        best = max(candidates, key=lambda swap: swap.num_kept, default=None)
        if best is not None and best.num_kept:
            stale = [(group, position) for group, position in stale if group is not best.group or position != best.position]
            yield best


def _num_kept(old: Tensor, new: Tensor) -> int:
    """Count the leading rows that two parameters share."""
    if old.shape[1:] != new.shape[1:] or old.ndim == 0 or (old.dtype, old.device) != (new.dtype, new.device):
        return 0
    length = min(len(old), len(new))
    same = (old[:length] == new[:length]).reshape(length, -1).all(dim=1)
    return int(same.long().cumprod(dim=0).sum())


def _grown_state(state: dict[str, Any], swap: _Swap) -> dict[str, Any]:
    grown: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == swap.old.shape:
            is_copy = key in _WEIGHT_COPIES
            start = swap.new.detach().to(value.dtype, copy=True) if is_copy else torch.zeros_like(swap.new, dtype=value.dtype)
            grown[key] = start.requires_grad_(False)
            grown[key][: swap.num_kept] = value[: swap.num_kept]
        elif isinstance(value, Tensor) and value.numel() > 1:
            return {}
        else:
            grown[key] = copy.deepcopy(value)
    return grown
