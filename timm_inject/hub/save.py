"""Save a patched model in timm's own format, with its labels and its record, in a folder or on the Hub."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import timm.models
import torch
from huggingface_hub import CommitInfo
from safetensors import SafetensorError, safe_open
from torch import nn

from timm_inject.errors import ArgumentValueError, InjectionWarning, SaveError, join_problems, list_some
from timm_inject.head import config_of, unwrap_model
from timm_inject.hub.card import CARD_NAME, PLOT_NAME, is_own_card, render_model_card
from timm_inject.hub.card_plot import draw_card_plot
from timm_inject.hub.push import Pushed, PushedFiles, push_files
from timm_inject.hub.writer import Exported, check_takes, find_obstacles
from timm_inject.injected import CONFIG_KEY, LABEL_KEYS, InjectionRecord, find_record, injection_record, record_in, with_note
from timm_inject.io import expand_user, written_aside

__all__ = ["push_folder", "push_to_hf_hub", "save_for_hf", "write_card"]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


def save_for_hf(
    model: nn.Module,
    save_directory: str | os.PathLike[str],
    model_config: dict[str, Any] | None = None,
    model_args: dict[str, Any] | None = None,
    safe_serialization: bool | Literal["both"] = False,
    data_config: dict[str, Any] | None = None,
    *,
    model_card: Mapping[str, Any] | None = None,
) -> Path:
    """Save the model so that `timm.create_model("local-dir:DIRECTORY", pretrained=True)` loads it, timm_inject or not.

    Writes model.safetensors, config.json (labels in timm's keys, the injection record under `timm_inject` and in timm's notes), a
    model card and, where matplotlib is installed, the card's plot. A README.md that somebody wrote or changed is kept; a card of
    ours goes where the model holds no injected classes any more. Parameters are timm's.

    Args:
        model: A patched timm model; one that was never injected is saved as timm would save it.
        save_directory: Made if it does not exist. Files of the same names are replaced only when all new ones are complete.
        model_config: Further keys for config.json, as timm's `model_config`; it is not changed.
        model_args: As timm's `model_args`: what stands in for arguments of the model that JSON can't hold, such as layer classes.
        safe_serialization: As in timm, so that its calls can be kept; whatever it says, safetensors alone are written, no pickle.
        data_config: As timm's `data_config`.
        model_card: Further content for the card, under timm's own keys: `tags`, `license`, `license_name`, `license_link`,
            `description`, `details`, `usage`, `citation`. It is your own Markdown and is not escaped.

    Returns:
        The directory.

    Warns:
        InjectionWarning: timm would build another model from the written config, as somebody changed this one's layers.

    Raises:
        SaveError: The folder cannot be made or written, or timm can't describe the model in a config.json.
        ArgumentValueError: The record of what was injected can't be found or is not of these rows; `safe_serialization` has a value
            that timm does not know; or the installed timm does not take an argument.
    """
    check_serialization(safe_serialization)
    target = expand_user(save_directory)
    model = unwrap_model(model)
    record = find_record(model)
    config = _config(model, record) | (model_config or {})
    _check_obstacles(model, target, {**(config.get("model_args") or {}), **(model_args or {})})
    # Older versions of timm do not know all of these.
    further = {key: value for key, value in {"model_args": model_args, "data_config": data_config}.items() if value is not None}
    check_takes(timm.models.save_for_hf, further)
    try:
        target.mkdir(parents=True, exist_ok=True)
        old_card = (target / CARD_NAME).exists() and _may_replace_card(target / CARD_NAME)
        with written_aside(target) as aside:
            _write(Exported(model, with_note(model, record)), aside, config, further, target)
            if CONFIG_KEY in config and _may_replace_card(target / CARD_NAME):
                write_card(aside, model_card=model_card)
            difference = _difference_from_timms(model, aside)
            new = {path.name for path in aside.iterdir()}
        if old_card:
            _remove_what_is_left(target, new)
    except (OSError, SafetensorError) as error:
        if isinstance(error, SaveError):
            raise
        raise SaveError(f"The model could not be saved to '{target}': {error}. Choose a folder that you can write to.") from error
    if difference:
        warnings.warn(
            f"timm.create_model will not load what was saved: {difference}. Save the model without the change (adapters merged, no "
            "layer of your own), or load the weights into a model that is changed in the same way.",
            InjectionWarning,
            stacklevel=2,
        )
    return target


def check_serialization(value: object) -> None:
    """Refuse a `safe_serialization` that timm does not know.

    Raises:
        ArgumentValueError: It is none of True, False and "both".
    """
    if not (isinstance(value, bool) or value == "both"):
        raise ArgumentValueError(
            f"`safe_serialization` must be True, False or 'both', as in timm, got {value!r}. timm_inject writes safetensors "
            "whatever it says, never pickles."
        )


def _check_obstacles(model: nn.Module, target: Path, model_args: Mapping[str, Any]) -> None:
    obstacles = find_obstacles(model, model_args)
    if obstacles:
        raise SaveError(f"The model could not be saved to '{target}': {join_problems(obstacles)}.")


def _write(exported: Any, folder: Path, config: dict[str, Any], further: Mapping[str, Any], target: Path) -> None:
    """Have timm write weights and config.

    Raises:
        SaveError: timm can't describe the model, or the tensors can't be written.
    """
    try:
        timm.models.save_for_hf(exported, str(folder), model_config=config, safe_serialization=True, **further)
        _state_num_classes_once(folder / CONFIG_NAME)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise SaveError(
            f"The model could not be saved to '{target}': timm's writer says: {type(error).__name__}: {said}."
        ) from error


def push_to_hf_hub(
    model: nn.Module,
    repo_id: str,
    commit_message: str = "Add model",
    token: str | bool | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    model_config: dict[str, Any] | None = None,
    model_card: Mapping[str, Any] | None = None,
    model_args: dict[str, Any] | None = None,
    task_name: str = "image-classification",
    safe_serialization: bool | Literal["both"] = "both",
    data_config: dict[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> CommitInfo:
    """Push a patched model to the Hub, as `timm.models.push_to_hf_hub` does, with its labels, its record and a model card.

    The pushed repository loads with `timm.create_model("hf-hub:REPO_ID", pretrained=True)` and with transformers'
    `pipeline("image-classification")`. Everything goes up in one commit: after a failure the repository is as it was, and
    pushing again is safe. A README.md that somebody wrote is kept, with a note; another model's files are refused.

    Args:
        model: A patched timm model.
        repo_id: "owner/name", or a name under the token's owner. Created if it does not exist.
        commit_message: Title of the commit.
        token: An access token; None takes the one that `hf auth login` saved.
        revision: The branch to push to, which must exist.
        private: Whether a repository that is created is private.
        create_pr: Open a pull request instead of writing to the branch.
        model_config: Further keys for config.json.
        model_card: Further content for the card, as in `save_for_hf`.
        model_args: As timm's `model_args`.
        task_name: As in timm; "image-classification" is the only one here.
        safe_serialization: As in `save_for_hf`.
        data_config: As timm's `data_config`.
        overwrite: Replace another model's files, and a README.md that somebody wrote.

    Returns:
        The commit: `commit_url`, `oid` and, with `create_pr`, `pr_url`.

    Raises:
        HubError: One of its subclasses tells no token, no permission, a taken repository, a lost connection and a failing server
            apart; the text says what is left on the Hub.
        ArgumentValueError: The model holds no injected classes, or an argument has a value that can't be.

    Warns:
        InjectionWarning: A README.md was kept, or the repository holds these very files already, so that there is no new commit.
            The commit that is returned is then the one that is there, and there is no pull request.
    """
    check_serialization(safe_serialization)
    if task_name != "image-classification":
        raise ArgumentValueError(f"`task_name` must be 'image-classification', got {task_name!r}.")
    injection_record(unwrap_model(model))
    with tempfile.TemporaryDirectory() as temporary:
        save_for_hf(model, temporary, model_config, model_args, data_config=data_config)

        def make_card(full_id: str) -> dict[str, Path]:
            return _card_paths(write_card(temporary, model_card=model_card, repo_id=full_id).parent)

        return _push(
            Path(temporary),
            make_card,
            repo_id,
            commit_message=commit_message,
            token=token,
            revision=revision,
            private=private,
            create_pr=create_pr,
            overwrite=overwrite,
        ).commit


def push_folder(
    directory: str | os.PathLike[str],
    repo_id: str,
    commit_message: str = "Add model",
    token: str | bool | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    *,
    overwrite: bool = False,
) -> Pushed:
    """Push a folder that `save_for_hf` wrote, as it is; its card names the repository instead of the folder.

    Only config.json, model.safetensors, README.md and the card's plot are pushed, whatever else lies in the folder.

    Returns:
        The commit, and whether there was anything to push.

    Args:
        directory: The folder.
        repo_id: As in `push_to_hf_hub`, like all that follow.
        commit_message: Title of the commit.
        token: An access token.
        revision: The branch to push to.
        private: Whether a repository that is created is private.
        create_pr: Open a pull request.
        overwrite: Replace what somebody else wrote.

    Raises:
        HubError: As `push_to_hf_hub`.
        ArgumentValueError: The folder holds no model with injected classes.
    """
    folder = expand_user(directory)
    read_saved(folder)
    if not (folder / WEIGHTS_NAME).is_file():
        raise ArgumentValueError(f"The folder '{folder}' has no {WEIGHTS_NAME}. Save the model with `timm_inject.save_for_hf`.")
    with tempfile.TemporaryDirectory() as temporary:

        def make_card(full_id: str) -> dict[str, Path]:
            if not _may_replace_card(folder / CARD_NAME):
                return _card_paths(folder)
            shutil.copyfile(folder / CONFIG_NAME, Path(temporary) / CONFIG_NAME)
            return _card_paths(write_card(temporary, repo_id=full_id).parent)

        return _push(
            folder,
            make_card,
            repo_id,
            commit_message=commit_message,
            token=token,
            revision=revision,
            private=private,
            create_pr=create_pr,
            overwrite=overwrite,
        )


def write_card(
    directory: str | os.PathLike[str],
    *,
    model_card: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write README.md and its plot into a folder that `save_for_hf` wrote, from its config.json alone.

    Args:
        directory: The folder.
        model_card: Further content; see `render_model_card`.
        repo_id: Named in the card as the place to load the model from.
        overwrite: Replace a README.md that somebody wrote or changed.

    Returns:
        The path of README.md.

    Raises:
        ArgumentValueError: The folder holds no model with injected classes, or a README.md that somebody wrote.
        SaveError: The folder cannot be written.
    """
    folder = expand_user(directory)
    config, record = read_saved(folder)
    if not overwrite and not _may_replace_card(folder / CARD_NAME):
        raise ArgumentValueError(
            f"'{folder / CARD_NAME}' was written or changed by somebody and is kept. Move it away, or pass `overwrite=True` "
            "(`--overwrite`)."
        )
    described = config.get("pretrained_cfg")
    described = dict(described) if isinstance(described, dict) else {}
    described |= {key: config[key] for key in ("architecture", "label_names") if config.get(key)}
    try:
        with written_aside(folder) as aside:
            has_plot = draw_card_plot(record, aside / PLOT_NAME)
            card = render_model_card(described, record, repo_id=repo_id, has_plot=has_plot, details=model_card)
            (aside / CARD_NAME).write_text(card, encoding="utf-8", newline="\n")
    except OSError as error:
        raise SaveError(f"The card could not be written to '{folder}': {error}. Choose a folder that you can write to.") from error
    return folder / CARD_NAME


def read_saved(folder: Path) -> tuple[dict[str, Any], InjectionRecord]:
    """Read the config.json of a saved model, and the record in it.

    Raises:
        ArgumentValueError: There is none, it is no JSON object, or it holds no record.
    """
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentValueError(
            f"The folder '{folder}' has no readable {CONFIG_NAME}: {error}. Give a folder that `timm_inject.save_for_hf` or "
            "`timm-inject inject --output` wrote."
        ) from error
    data = record_in(config) if isinstance(config, dict) else None
    if not data:
        raise ArgumentValueError(
            f"The model in '{folder}' holds no injected classes: its {CONFIG_NAME} has no key {CONFIG_KEY!r}. Push a plain model "
            "with `timm.models.push_to_hf_hub`."
        )
    return config, InjectionRecord.from_dict(data)


def _push(folder: Path, make_card: Callable[[str], dict[str, Path]], repo_id: str, **options: Any) -> Pushed:
    paths = {name: folder / name for name in (CONFIG_NAME, WEIGHTS_NAME)}
    files = PushedFiles(paths=paths, make_card=make_card, own_key=CONFIG_KEY)
    return push_files(files, repo_id, is_own_card=is_own_card, **options)


def _card_paths(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in (CARD_NAME, PLOT_NAME) if (folder / name).is_file()}


def _may_replace_card(path: Path) -> bool:
    return not path.exists() or is_own_card(path.read_text(encoding="utf-8", errors="replace"))


def _remove_what_is_left(target: Path, new: set[str]) -> None:
    """Take away our earlier card, or its plot alone, where the save did not put another in its place."""
    for name in (CARD_NAME, PLOT_NAME):
        if name not in new:
            (target / name).unlink(missing_ok=True)


def _difference_from_timms(model: nn.Module, folder: Path) -> str:
    """Say how the tensors differ from those of the model that timm would build from the saved config; "" where they don't."""
    try:
        with torch.device("meta"):  # of this thread alone; takes no memory
            built = timm.create_model(f"local-dir:{folder}")
    except Exception as error:  # noqa: BLE001 - whatever it is, a loader will meet it too
        return f"it can't build the model from its config ({type(error).__name__}: {str(error)[:200]})"
    other = {name: list(tensor.shape) for name, tensor in built.state_dict().items()}
    with safe_open(folder / WEIGHTS_NAME, framework="pt") as saved:
        written = set(saved.keys())
        own = {name: saved.get_slice(name).get_shape() for name in model.state_dict() if name in written}
    differing = [key for key in own | other if own.get(key) != other.get(key)]
    if not differing:
        return ""
    architecture = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8")).get("architecture")
    return f"{len(differing)} tensors are not those of timm's {architecture!r}: {list_some(map(repr, differing))}"


def _state_num_classes_once(path: Path) -> None:
    """Take num_classes out of `model_args`: the top level states it, and transformers' TimmWrapper takes no second one."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_args", {}).pop("num_classes", None) is not None:
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _config(model: nn.Module, record: InjectionRecord | None) -> dict[str, Any]:
    """The config keys that timm's writer does not take from the model itself."""
    own = config_of(model)
    config = {key: own[key] for key in LABEL_KEYS if own.get(key)}
    if record is not None:
        config[CONFIG_KEY] = record.to_dict()
    return config
