"""What timm's writer gets to write: the model with plain, unshared tensors and a config that JSON can hold."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import timm
from timm.data import resolve_data_config
from timm.layers import get_act_layer, get_norm_layer
from torch import Tensor, nn

from timm_inject.errors import ArgumentValueError
from timm_inject.head import as_attribute, config_of, find_head, inner_classifiers, tensor_names

__all__ = ["Exported", "check_takes", "find_obstacles"]

# Names by which timm knows layer classes that people pass as arguments; unlike the class, a name can stand in a config.json.
_ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "silu", "gelu", "gelu_tanh", "quick_gelu", "mish", "elu", "celu", "selu", "prelu"),
    *("sigmoid", "tanh", "hard_sigmoid", "hard_swish", "hard_mish"),
)
_NORMS = ("batchnorm2d", "batchnorm1d", "groupnorm", "groupnorm1", "layernorm", "layernorm2d", "rmsnorm", "rmsnorm2d", "simplenorm")
_NAME_IT = 'set model.pretrained_cfg["architecture"] to its name in timm'
# Of the model's arguments, timm's writer leaves these out.
_NOT_WRITTEN = ("drop_rate", "drop_path_rate", "drop_block_rate", "num_classes", "device", "dtype")


class Exported:
    """A model as timm's writer is to see it; the model itself is not touched.

    What the writer expects of every model, and one of the user's own may lack, is filled in.

    Args:
        model: The unwrapped model.
        config: What takes the place of keys of its config; None takes a key out.
    """

    def __init__(self, model: nn.Module, config: Mapping[str, Any]) -> None:
        self._model = model
        self.pretrained_cfg = {key: value for key, value in (config_of(model) | dict(config)).items() if value is not None}
        if not self.pretrained_cfg.get("input_size"):
            self.pretrained_cfg["input_size"] = tuple(resolve_data_config({}, pretrained_cfg={})["input_size"])
        if not hasattr(model, "num_features"):
            self.num_features = find_head(model).leaves[0].feature_dim

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def state_dict(self) -> dict[str, Tensor]:
        """Contiguous tensors that share no memory, as safetensors wants them.

        Of a tensor with several names, those are left out that timm's own model of the architecture lacks, if it has one of them.
        """
        tensors = self._model.state_dict()
        sharing: dict[int, list[str]] = {}
        for name, tensor in tensors.items():
            if tensor.numel() and not tensor.is_meta:
                sharing.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
        left_out: set[str] = set()
        copied: set[str] = set()
        for names in sharing.values():
            if len(names) > 1:
                left_out |= _spare_names(self._model, {name: tensors[name] for name in names})
                copied |= set(names)
        return {
            name: tensor.detach().clone().contiguous() if name in copied else tensor.detach().contiguous()
            for name, tensor in tensors.items()
            if name not in left_out
        }


def find_obstacles(model: nn.Module, given: Mapping[str, Any] | None = None) -> list[str]:
    """Say why timm can't describe the model in a config.json, each with what to do; none for most models.

    Args:
        model: The unwrapped model.
        given: Arguments that stand in for the model's own, as `model_args` of `save_for_hf`.
    """
    config, given = config_of(model), given or {}
    obstacles = []
    if not isinstance(config.get("architecture"), str):
        path = next((path for path, _ in inner_classifiers(model)), None)
        fix = f"pass `{as_attribute('model', path)}`, the timm model that it holds" if path else _NAME_IT
        obstacles.append(f"the model's config names no architecture; {fix}")
    arguments = getattr(model, "_model_args", None)
    own = arguments if isinstance(arguments, Mapping) else {}
    for key, value in {**own, **given}.items():
        if key not in _NOT_WRITTEN and not _fits_json(value):
            obstacles.append(f"the argument {key} can't be written to config.json; {_replacement(key, value)}")
    return obstacles


def check_takes(writer: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse arguments that the installed timm's writer does not know.

    Raises:
        ArgumentValueError: With the first of them.
    """
    parameters = inspect.signature(writer).parameters
    unknown = [name for name in options if name not in parameters]
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        raise ArgumentValueError(f"timm {timm.__version__} does not take `{unknown[0]}`. Leave it out, or update timm.")


def _spare_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> set[str]:
    """Names that timm's model lacks for tensors that it has by another name."""
    known = tensor_names(model) or frozenset()
    views = {name: (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) for name, tensor in tensors.items()}
    own = {views[name] for name in tensors if name in known}
    return {name for name in tensors if name not in known and views[name] in own}


def _fits_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _replacement(key: str, value: object) -> str:
    name = _timms_name(value)
    if name:
        return f"pass model_args={{{key!r}: {name!r}}} to `save_for_hf`"
    return f"pass model_args={{{key!r}: ...}} to `save_for_hf`, with a value that JSON can hold"


def _timms_name(value: object) -> str | None:
    """The name by which timm knows a layer class, or None."""
    for names, find in ((_ACTIVATIONS, get_act_layer), (_NORMS, get_norm_layer)):
        for name in names:
            try:
                found = find(name)
            except (KeyError, AssertionError):  # another release of timm has other names
                continue
            # Of activations torch and timm have classes of one name, which do the same.
            if found is value or (find is get_act_layer and getattr(value, "__name__", None) == found.__name__):
                return name
    return None
