"""What people wrap around a model."""

from timm.utils.model_ema import ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["unwrap_model"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, ModelEmaV2, ModelEmaV3, AveragedModel)


def unwrap_model(model: nn.Module) -> nn.Module:
    """Give the model inside wrappers, or `model` itself.

    Looked through are `torch.compile`, `DataParallel` and `DistributedDataParallel`, and the averaged copies that timm's
    `ModelEmaV2` and `ModelEmaV3` and torch's `AveragedModel` hold; such a copy is another model than the one it averages.
    """
    while True:
        if isinstance(model, _WRAPPERS):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # torch.compile's OptimizedModule
            model = inner
        else:
            return model
