"""Give the head other rows, in place, all or nothing. Nothing else in the package writes to the user's model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timm_inject.errors import ArgumentTypeError, ArgumentValueError, HeadWeightsError, InjectionWarning
from timm_inject.head.finding import find_head
from timm_inject.head.leaf import Head, Leaf, count_rows, split_rows
from timm_inject.head.refusals import type_name
from timm_inject.head.wrappers import unwrap_model

__all__ = ["HeadState", "describe_model", "resize_head"]

_RECORD_ATTRIBUTE = "timm_inject_record"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class HeadState:
    """Everything that a change of the class count touches on a model, kept so that it can be put back.

    The saved values are the objects themselves (parameters included), not copies: `restore` gives back the same
    `Parameter` objects, so an optimizer that holds them still works.
    """

    saved: tuple[tuple[dict[str, Any], str, object], ...]

    @classmethod
    def capture(cls, model: nn.Module, head: Head | None) -> HeadState:
        """Remember the current state of `model`, whose head is `head`; None for what the model says of itself alone."""
        saved: list[tuple[dict[str, Any], str, object]] = []
        for owner, name in _touched_attributes(unwrap_model(model), head):
            store: dict[str, Any] = owner._parameters if name in owner._parameters else vars(owner)
            saved.append((store, name, store.get(name, _MISSING)))
        return cls(tuple(saved))

    def restore(self) -> None:
        """Put the model back as it was.

        Writes to the modules' own dictionaries, as `setattr` may be the very thing that failed.
        """
        for store, name, value in self.saved:
            if value is _MISSING:
                store.pop(name, None)
            else:
                store[name] = value


def resize_head(
    model: nn.Module,
    head: Head,
    new_rows: Sequence[Tensor],
    *,
    kept: Sequence[int] | None = None,
    config: Mapping[str, Any],
    record: Mapping[str, Any] | None,
) -> Any:
    """Keep some rows of the head and append others, in place, all or nothing.

    Every leaf stays the same object at the same path, with its hooks and flags; its weight and bias become new
    `Parameter` objects (same dtype, device, memory format and `requires_grad`, no gradient yet). Kept rows are copied bit by
    bit. The class counts and the config of the model follow, so it saves and loads as a timm model of that width.

    Two things hold the old parameters: an optimizer, for which there is `refresh_optimizer`, and the gradient buckets of
    `DistributedDataParallel`, which must be wrapped again. Hooks registered on the old parameter tensors (not on the layer)
    are not carried over.

    Args:
        model: The model that `head` was found in, wrapped or not.
        head: As `find_head` returns it.
        new_rows: One tensor a leaf, each of shape (num_new, row_dim of that leaf), finite, on any device; cast to the leaf's
            dtype at the write. num_new may be 0.
        kept: Positions of the rows that stay, in their new order; None keeps them all. Each at most once.
        config: Updates for `model.pretrained_cfg`, for example `label_names`. The config is replaced by an updated
            copy, never changed in place; a value of None takes its key out. `num_classes` is set with or without being named
            here.
        record: What was injected, JSON-able; a shallow copy becomes `model.timm_inject_record` (a deep one takes seconds for
            100,000 classes). None deletes that attribute.

    Returns:
        What `model.get_classifier()` returns, now with `len(kept) + num_new` outputs.

    Raises:
        ArgumentTypeError: A tensor of `new_rows` is not a floating-point tensor.
        ArgumentValueError: `new_rows` or `kept` does not fit the head, `head` is not this model's, or `config` states
            another class count.
        HeadWeightsError: A new row is not finite, or no longer is in the head's dtype.

    Warns:
        InjectionWarning: `model` is wrapped in `DistributedDataParallel`.
    """
    wrapped, model = model, unwrap_model(model)
    _check_same_head(find_head(model), head)
    positions = _check_kept(kept, head)
    num_new = _check_new_rows(new_rows, head)
    num_classes = len(positions) + num_new
    config = _check_config(config, len(positions), num_new)
    if isinstance(wrapped, nn.parallel.DistributedDataParallel):
        warnings.warn(
            "DistributedDataParallel still synchronises the gradients of the head's earlier parameters. Wrap the model again "
            "before training: DistributedDataParallel(wrapped.module, ...). Inference works as it is.",
            InjectionWarning,
            stacklevel=2,
        )
    # Everything that can fail or takes time comes before the first write.
    changes: list[tuple[nn.Module, str, object]] = []
    for leaf, rows in zip(head.leaves, new_rows, strict=True):
        changes += [(leaf.layer, name, parameter) for name, parameter in _resized_parameters(leaf, positions, rows).items()]
        changes.append((leaf.layer, leaf.kind.width, num_classes))
    changes += [(module, "num_classes", num_classes) for module in _counting_modules(model, head)]
    changes += [(model, name, value) for name, value in _updated_config(model, config).items()]
    state = HeadState.capture(model, head)
    try:
        _write(model, changes, record)
        return model.get_classifier()  # type: ignore[operator]
    except BaseException:  # KeyboardInterrupt too: a half-resized model is worse than none
        state.restore()
        raise


def describe_model(model: nn.Module, *, config: Mapping[str, Any], record: Mapping[str, Any] | None) -> None:
    """Change what the model says of itself, its config and its record, all or nothing; no parameter is touched.

    Args:
        model: A timm model, wrapped or not.
        config: Updates for `model.pretrained_cfg`, as in `resize_head`.
        record: As in `resize_head`; an empty one says that nothing was injected, whatever the model's folder says.
    """
    model = unwrap_model(model)
    changes = [(model, name, value) for name, value in _updated_config(model, copy.deepcopy(dict(config))).items()]
    state = HeadState.capture(model, None)
    try:
        _write(model, changes, record)
    except BaseException:
        state.restore()
        raise


def _write(model: nn.Module, changes: Sequence[tuple[nn.Module, str, object]], record: Mapping[str, Any] | None) -> None:
    for owner, name, value in changes:
        setattr(owner, name, value)
    if record is not None:
        setattr(model, _RECORD_ATTRIBUTE, dict(record))
    elif _RECORD_ATTRIBUTE in vars(model):
        delattr(model, _RECORD_ATTRIBUTE)


# --- what resizing touches -------------------------------------------------------------------------------------------


def _touched_attributes(model: nn.Module, head: Head | None) -> Iterator[tuple[nn.Module, str]]:
    for leaf in head.leaves if head else ():
        for name in leaf.layer._parameters:
            yield leaf.layer, name
        yield leaf.layer, leaf.kind.width
    for module in _counting_modules(model, head) if head else ():
        yield module, "num_classes"
    for name in ("pretrained_cfg", "default_cfg", "_model_args", _RECORD_ATTRIBUTE):
        yield model, name


def _counting_modules(model: nn.Module, head: Head) -> list[nn.Module]:
    """List the modules on the way from the model to its leaves that store the head's class count."""
    ancestors: dict[nn.Module, None] = {}
    for leaf in head.leaves:
        parts = leaf.name.split(".")
        ancestors |= dict.fromkeys(model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts)))
    return [module for module in ancestors if vars(module).get("num_classes") == head.num_classes]


def _resized_parameters(leaf: Leaf, positions: Tensor, new_rows: Tensor) -> dict[str, nn.Parameter]:
    """Build the parameters with the other rows; the model is not touched."""
    parameters: dict[str, nn.Parameter] = {}
    with torch.inference_mode(False), torch.no_grad():  # an inference tensor could never be trained again
        for name, part in split_rows(leaf, new_rows).items():
            old: nn.Parameter = getattr(leaf.layer, name)
            cast = part.to(device=old.device, dtype=old.dtype)
            _check_cast(cast, part, leaf)
            shape = (len(positions) + len(part), *old.shape[1:])
            resized = torch.empty(shape, dtype=old.dtype, device=old.device, memory_format=_memory_format(old))
            resized[: len(positions)] = old[positions.to(old.device)]
            resized[len(positions) :] = cast
            parameters[name] = nn.Parameter(resized, requires_grad=old.requires_grad)
    return parameters


def _memory_format(parameter: Tensor) -> torch.memory_format:
    """Tell the two apart by their strides: a 1x1 convolution's weight is contiguous in either."""
    if parameter.ndim == 4 and parameter.stride(3) == parameter.shape[1] != 1:
        return torch.channels_last
    return torch.contiguous_format


def _updated_config(model: nn.Module, updates: Mapping[str, Any]) -> dict[str, object]:
    """Build the new values of the attributes in which timm describes the model."""
    old = getattr(model, "pretrained_cfg", None)
    if old is None or isinstance(old, Mapping):
        new: Any = {key: value for key, value in {**(old or {}), **updates}.items() if updates.get(key, key) is not None}
    else:  # a PretrainedCfg object
        new = copy.copy(old)
        for key, value in updates.items():
            setattr(new, key, value)
    attributes: dict[str, object] = {"pretrained_cfg": new}
    if hasattr(model, "default_cfg"):
        attributes["default_cfg"] = new  # timm keeps the two as one object
    model_args = getattr(model, "_model_args", None)
    # What timm would build the model again from.
    if isinstance(model_args, Mapping) and "num_classes" in model_args and "num_classes" in updates:
        attributes["_model_args"] = {**model_args, "num_classes": updates["num_classes"]}
    return attributes


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_same_head(current: Head, head: Head) -> None:
    if current.leaves != head.leaves:
        raise ArgumentValueError(
            f"`head` ({head.name!r}) is not the classifier that this model has now ({current.name!r}). "
            "Call find_head(model) again: the layer was replaced, or the head is another model's."
        )


def _check_kept(kept: Sequence[int] | None, head: Head) -> Tensor:
    if kept is None:
        return torch.arange(head.num_classes, device="cpu")
    positions = list(kept)
    if len(set(positions)) < len(positions) or any(not 0 <= position < head.num_classes for position in positions):
        raise ArgumentValueError(
            f"`kept` must hold different positions from 0 to {head.num_classes - 1}, got {positions!r:.200}. Leave it out to keep "
            "every row."
        )
    return torch.tensor(positions, dtype=torch.long, device="cpu")


def _check_config(config: Mapping[str, Any], num_kept: int, num_new: int) -> dict[str, Any]:
    num_classes = num_kept + num_new
    if not num_classes:
        raise ArgumentValueError("A head without any row is no classifier. Keep at least one row, or give a new one.")
    updates: dict[str, Any] = copy.deepcopy({"num_classes": num_classes, **config})
    if updates["num_classes"] != num_classes:
        raise ArgumentValueError(
            f"`config` states num_classes={updates['num_classes']}, but {num_kept} rows and {num_new} "
            f"new ones make {num_classes}. Leave `num_classes` out, or pass {num_classes}."
        )
    return updates


def _check_new_rows(new_rows: Sequence[Tensor], head: Head) -> int:
    """Check the rows of every leaf; give how many new classes they make."""
    if isinstance(new_rows, Tensor) or len(new_rows) != len(head.leaves):
        got = "one tensor" if isinstance(new_rows, Tensor) else f"{len(new_rows)} tensors"
        raise ArgumentValueError(f"`new_rows` must be a list of {len(head.leaves)}, one tensor a layer of the head; got {got}.")
    for leaf, rows in zip(head.leaves, new_rows, strict=True):
        _check_leaf_rows(rows, leaf)
    counts = [len(rows) for rows in new_rows]
    if len(set(counts)) > 1:
        raise ArgumentValueError(f"`new_rows` must have as many rows for each layer of the head, got {counts}.")
    return counts[0]


def _check_leaf_rows(rows: Tensor, leaf: Leaf) -> None:
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        what = f"a tensor of {rows.dtype}" if isinstance(rows, Tensor) else type_name(rows)
        raise ArgumentTypeError(f"`new_rows` must be a float32 tensor a layer, got {what}. Convert it with torch.as_tensor.")
    if rows.ndim != 2 or rows.shape[1] != leaf.row_dim:
        bias = "the bias as last column" if leaf.has_bias else "no bias column"
        raise ArgumentValueError(
            f"`new_rows` must have shape (num_new, {leaf.row_dim}) for {leaf.name!r}, {bias}; "
            f"got {tuple(rows.shape)}. Predict rows of the width that read_rows(leaf) gives."
        )
    broken = (~rows.isfinite()).any(dim=1)
    if broken.any():
        raise HeadWeightsError(
            f"`new_rows` has NaN or infinity in {count_rows(broken)}; finite numbers are expected. The model is "
            "unchanged; check the descriptors and the mapper."
        )


def _check_cast(cast: Tensor, part: Tensor, leaf: Leaf) -> None:
    broken = (~cast.isfinite()).reshape(len(cast), -1).any(dim=1) if len(cast) else torch.zeros(0, dtype=torch.bool)
    if broken.any():
        raise HeadWeightsError(
            f"`new_rows` has values up to {float(part.abs().max()):.3g}, but the classifier {leaf.name!r} is "
            f"{cast.dtype}, which ends at {torch.finfo(cast.dtype).max:.3g}: {count_rows(broken)} would be infinite. "
            "The model is unchanged; convert it with model.float() first."
        )
