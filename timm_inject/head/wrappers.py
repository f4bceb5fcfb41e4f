"""What people wrap around a model."""

from timm.utils.model_ema import ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["unwrap_model"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, ModelEmaV2, ModelEmaV3, AveragedModel)


def unwrap_model(model: nn.Module) -> nn.Module:
    """Give the model inside wrappers, or `model` itself.

    Looked through are `torch.compile`, `DataParallel` and `DistributedDataParallel`, the averaged copies that timm's
    `ModelEmaV2` and `ModelEmaV3` and torch's `AveragedModel` hold (such a copy is another model than the one it averages), and
    PEFT's models.
    """
    while True:
        if isinstance(model, _WRAPPERS):
            model = model.module
        elif (inner := _inside_compiled(model) or _inside_peft(model)) is not None:
            model = inner
        else:
            return model


def _inside_compiled(model: nn.Module) -> nn.Module | None:
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def _inside_peft(model: nn.Module) -> nn.Module | None:
    """The model that PEFT put its adapters into; by name, as PEFT need not be installed."""
    if type(model).__module__.partition(".")[0] != "peft":
        return None
    ask = getattr(model, "get_base_model", None)  # a PeftModel; a tuner alone, such as LoraModel, has the attribute only
    inner = ask() if callable(ask) else getattr(model, "model", None)
    return inner if isinstance(inner, nn.Module) and inner is not model else None
