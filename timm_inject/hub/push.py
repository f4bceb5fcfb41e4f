"""Bring a saved folder to the Hub in one commit, and say what is left there when that fails.

All files go up in a single commit on top of the one that was looked at, so a push that breaks off leaves the repository as it
was, and whatever was uploaded before is not sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from timm_inject.errors import (
    ArgumentValueError,
    HubConflictError,
    HubConnectionError,
    HubError,
    HubPermissionError,
    HubServerError,
    HubTokenError,
    InjectionWarning,
    TimmInjectError,
    list_some,
)
from timm_inject.io import innermost, is_connection_error, said, status_of
from timm_inject.version import __version__

__all__ = ["Pushed", "PushedFiles", "push_files"]

_CARD = "README.md"
_CONFIG = "config.json"
_MAX_CONFIG_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class PushedFiles:
    """What goes to the Hub.

    Attributes:
        paths: Name in the repository -> file, for what makes up the model.
        make_card: Writes the card and the pictures that it shows for a repository's full id, and gives the same of them.
        own_key: The key in config.json that says that a repository was filled by timm_inject.
    """

    paths: dict[str, Path]
    make_card: Callable[[str], dict[str, Path]]
    own_key: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came of a push.

    Attributes:
        commit: As huggingface_hub tells it; `pr_url` with a pull request.
        is_new: Whether it was made now. Where the repository holds these very files already, the client makes no commit and no
            pull request, and `commit` is the one that is there.
    """

    commit: CommitInfo
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Remote:
    """A repository as it was looked at: its newest commit, and path -> the hash of the content."""

    commit: str
    hashes: dict[str, str]
    is_private: bool


def push_files(
    files: PushedFiles,
    repo_id: str,
    *,
    commit_message: str,
    token: str | bool | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    overwrite: bool = False,
    is_own_card: Callable[[str], bool],
) -> Pushed:
    """Push in one commit; a repository that does not exist is created.

    Args:
        files: What to push.
        repo_id: "owner/name", or a name under the token's owner.
        commit_message: Title of the commit.
        token: An access token; None takes the one that `hf auth login` saved.
        revision: Branch, which must exist; None is the main one.
        private: Whether a repository that is created is private.
        create_pr: Open a pull request instead of writing to the branch.
        overwrite: Replace another model's files, and a README.md that somebody wrote.
        is_own_card: Says of a README.md's text whether timm_inject wrote it and nobody changed it.

    Warns:
        InjectionWarning: A README.md was kept, or there was nothing to push.

    Raises:
        HubError: One of its subclasses; the text says what is left on the Hub.
        ArgumentValueError: `repo_id` is no repository id, or the Hub finds the card's metadata invalid.
    """
    _check_arguments(repo_id, commit_message, token, revision, create_pr)
    api = HfApi(token=token, library_name="timm_inject", library_version=__version__)
    push = _Push(api, files, repo_id, revision)
    try:
        push.repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        remote = push.before = push.look()
        push.check_visibility(private, remote)
        if not create_pr and not overwrite:
            push.check_not_anothers(remote)
        card = files.make_card(push.repo_id)
        push.sent = files.paths | (card if overwrite or push.may_write_card(card[_CARD], remote, is_own_card) else {})
        commit = push.commit(commit_message, create_pr)
    except TimmInjectError:
        raise
    except Exception as error:
        raise push.explain(innermost(error)) from error
    is_new = commit.oid != remote.commit
    if not is_new:
        nothing = "no pull request was opened" if create_pr else "no commit was made"
        warnings.warn(
            f"{push.repo_id!r} holds these very files already, so {nothing}.",
            InjectionWarning,
            stacklevel=4,
        )
    return Pushed(commit, is_new)


def _check_arguments(repo_id: object, commit_message: str, token: object, revision: str | None, create_pr: bool) -> None:
    if not isinstance(repo_id, str):
        raise ArgumentValueError(f"`repo_id` must be a text such as 'user/resnet50-plus', got {type(repo_id).__name__}.")
    if not commit_message:
        raise ArgumentValueError("`commit_message` is empty. Leave it out, or say what the commit does.")
    if create_pr and revision not in (None, "main"):
        raise ArgumentValueError(f"A pull request goes to the main branch, not to {revision!r}. Leave `revision` out.")
    if not (isinstance(token, str) and token) and (token is False or huggingface_hub.get_token() is None):
        raise HubTokenError(
            "There is no access token for the Hub, so nothing was sent. Run `hf auth login`, set HF_TOKEN, or pass `token`, with a "
            "token that may write (https://huggingface.co/settings/tokens)."
        )


class _Push:
    """One push: what is known of the repository, for the moment when something fails."""

    def __init__(self, api: HfApi, files: PushedFiles, repo_id: str, revision: str | None) -> None:
        self.api, self.files, self.repo_id, self.revision = api, files, repo_id, revision
        self.before: _Remote | None = None
        self.sent: dict[str, Path] = {}
        self.is_pull_request = False

    def look(self) -> _Remote:
        info = self.api.model_info(self.repo_id, revision=self.revision, files_metadata=True)
        hashes = {}
        for sibling in info.siblings or []:
            hashes[sibling.rfilename] = str(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id)
        return _Remote(str(info.sha), hashes, bool(info.private))

    def check_visibility(self, private: bool, remote: _Remote) -> None:
        if private and not remote.is_private:
            raise HubConflictError(
                f"The repository {self.repo_id!r} exists and is public, and `private=True` is for new ones only. Make it private "
                "in its settings first, or push without `private`. No file of it was changed."
            )

    def check_not_anothers(self, remote: _Remote) -> None:
        """Refuse to replace a model that timm_inject did not put there."""
        replaced = [name for name in self.files.paths if name in remote.hashes]
        if not replaced or self.files.own_key in self._remote_config(remote):
            return
        raise HubConflictError(
            f"The repository {self.repo_id!r} holds a model that this push would replace ({list_some(replaced)}), and timm_inject "
            "did not put it there. Push to another repository, pass `create_pr=True` to propose the change, or `overwrite=True` to "
            "replace it. No file of it was changed."
        )

    def may_write_card(self, card: Path, remote: _Remote, is_own_card: Callable[[str], bool]) -> bool:
        """Whether README.md is missing there, or is a card of ours that nobody changed."""
        if _CARD not in remote.hashes or is_own_card(self._remote_text(_CARD, remote)):
            return True
        if remote.hashes[_CARD] != _hashes_of(card)[0]:
            warnings.warn(
                f"The README.md of {self.repo_id!r} was written by somebody and is kept, so it may not name the new classes. "
                "Pass `overwrite=True` to replace it with timm_inject's card.",
                InjectionWarning,
                stacklevel=5,
            )
        return False

    def commit(self, message: str, create_pr: bool) -> CommitInfo:
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in self.sent.items()]
        self.is_pull_request = create_pr
        parent = self.before.commit if self.before else None
        try:
            commit = self.api.create_commit(
                self.repo_id,
                operations,
                commit_message=message,
                revision=self.revision,
                create_pr=create_pr,
                parent_commit=parent,
            )
        except Exception as error:
            # The answer to the commit may be what was lost. Then everything is there.
            lost = is_connection_error(error) or (status_of(error) or 0) >= 500
            arrived = self._find_arrived() if lost and not create_pr else None
            if arrived is None:
                raise
            url = f"{self.api.endpoint}/{self.repo_id}/commit/{arrived.commit}"
            return CommitInfo(commit_url=url, commit_message=message, commit_description="", oid=arrived.commit)
        return commit

    def _find_arrived(self) -> _Remote | None:
        """The repository as it is now, if a new commit holds all that was sent."""
        with contextlib.suppress(Exception):
            now = self.look()
            if (
                self.before
                and now.commit != self.before.commit
                and all(now.hashes.get(name) in _hashes_of(path) for name, path in self.sent.items())
            ):
                return now
        return None

    def _remote_config(self, remote: _Remote) -> dict[str, Any]:
        if _CONFIG not in remote.hashes:
            return {}
        try:
            config = json.loads(self._remote_text(_CONFIG, remote))
        except (ValueError, RecursionError):
            return {}
        return config if isinstance(config, dict) else {}

    def _remote_text(self, name: str, remote: _Remote) -> str:
        # Into a folder of its own: the Hub's cache is for models, and `name` is one of ours, not the Hub's.
        with tempfile.TemporaryDirectory() as folder:
            path = self.api.hf_hub_download(self.repo_id, name, revision=remote.commit, local_dir=folder)
            content = Path(path).read_bytes()[:_MAX_CONFIG_BYTES]
        return content.decode("utf-8", errors="replace")

    def explain(self, error: BaseException) -> TimmInjectError:
        """Say what went wrong, as one of our errors, and what is left on the Hub."""
        if isinstance(error, HFValidationError):
            return ArgumentValueError(f"{self.repo_id!r} is no repository id: {error} Write 'user/name'.")
        status = status_of(error)
        where, message = f"{self.repo_id!r} on {self.api.endpoint}", said(error)
        if (status == 401 and not isinstance(error, RepositoryNotFoundError)) or _has_no_such_token(error):
            return HubTokenError(
                f"The Hub does not know the access token ({message}). Log in again. Nothing was written to the Hub."
            )
        # Refused before there was a look at the repository, so nothing was sent there.
        refused_at_once = status in (401, 403) and self.before is None
        left = "Nothing was written to the Hub." if refused_at_once else self._what_is_left()
        if status in (401, 403):
            return HubPermissionError(
                f"The token may not write to {where}: {message}. Push under your own name, or use a token with write access. {left}"
            )
        if isinstance(error, RevisionNotFoundError):
            return HubError(
                f"The repository {where} has no branch {self.revision!r}. Make it with `huggingface_hub.create_branch`. {left}"
            )
        if status in (404, 410):
            return HubError(f"The repository {where} was not found, or is not yours to see: {message}. {left}")
        if status in (409, 412):
            return HubConflictError(
                f"{where} was changed by somebody else meanwhile ({message}). {left} Look at it, then push again."
            )
        if status == 429:
            return HubServerError(f"The Hub takes no more requests for now ({message}). {left} Push again in a few minutes.")
        if (status or 0) >= 500 or isinstance(error, json.JSONDecodeError):
            return HubServerError(f"The Hub failed on its side ({message}). {left} Push again later: that is safe.")
        if is_connection_error(error):
            return HubConnectionError(f"The connection to {self.api.endpoint} failed ({message}). {left} Push again: that is safe.")
        if isinstance(error, ValueError) and not isinstance(error, HfHubHTTPError):
            message = " ".join(str(error).split())[:500]  # what is invalid in a card stands on lines of its own
            return ArgumentValueError(f"The push to {where} was refused: {message}. {left}")
        return HubError(f"The push to {where} failed: {message}. {left}")

    def _what_is_left(self) -> str:
        if self.is_pull_request:
            return f"A pull request may have been opened: see {self.api.endpoint}/{self.repo_id}/discussions."
        if "/" not in self.repo_id:
            return "What is left on the Hub is not known."
        try:
            info = self.api.model_info(self.repo_id, revision=self.revision)
        except RepositoryNotFoundError:
            return "Nothing was written to the Hub."
        except RevisionNotFoundError:
            return "No file was changed."
        except Exception:  # noqa: BLE001 - this is the report of a failure; a second one adds nothing but its own fact
            return "The Hub can't be asked what is left there; a commit is either there as a whole or not at all."
        files = [sibling.rfilename for sibling in info.siblings or [] if sibling.rfilename != ".gitattributes"]
        if not files:
            return "The repository is there, without a file of yours."
        if self.before is None or self.before.commit == info.sha:
            return "No file of the repository was changed."
        return f"The repository has a newer commit ({info.sha})."


def _hashes_of(path: Path) -> tuple[str, str]:
    """The two hashes by which the Hub names a file: git's for a small one, sha256 for one in large-file storage."""
    content = path.read_bytes() if path.is_file() else b""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return git, hashlib.sha256(content).hexdigest()


def _has_no_such_token(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    return status_of(error) == 401 and "credentials" in str(getattr(response, "headers", {}).get("X-Error-Message", ""))
