"""Fetch small files from the Hub, and tell apart what is not there, a Hub that fails and one that can't be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from timm_inject.errors import HubConnectionError, HubServerError, TimmInjectError
from timm_inject.io import innermost, is_connection_error, said, status_of

__all__ = ["download"]


def download(
    repo_id: str, names: Sequence[str], *, what: str, missing: Callable[[str], TimmInjectError], **options: Any
) -> list[Path]:
    """Fetch files of one repository, by way of the Hub's cache.

    Args:
        repo_id: As given; it may be no id at all.
        names: Of the files.
        what: How an error calls what is fetched, such as "The mapper 'user/mapper'".
        missing: Makes the error for a repository or a file that is not there, from what the Hub says.
        **options: As `huggingface_hub.hf_hub_download` takes them.

    Raises:
        TimmInjectError: What `missing` makes.
        HubConnectionError: The Hub cannot be reached.
        HubServerError: The Hub fails, or takes no more requests for now.
    """
    try:
        return [Path(huggingface_hub.hf_hub_download(repo_id, name, **options)) for name in names]
    except Exception as error:
        if not isinstance(error, OSError | ValueError | EntryNotFoundError) and not is_connection_error(error):
            raise
        raise _explain(error, what, missing) from error


def _explain(error: Exception, what: str, missing: Callable[[str], TimmInjectError]) -> TimmInjectError:
    # The client says only that it found no local copy, and keeps the answer as the cause.
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    cause = innermost(cause)
    status = status_of(cause) or 0
    if status == 429 or status >= 500:
        return HubServerError(
            f"{what} is no folder, and the Hub did not give it ({said(cause)}). Try again later, or give a folder."
        )
    is_missing = isinstance(cause, HfHubHTTPError | EntryNotFoundError | HFValidationError)
    if is_missing and not isinstance(cause, LocalEntryNotFoundError):
        return missing(said(cause))
    return HubConnectionError(
        f"{what} is no folder, and the Hub could not be asked for it: {said(cause)}. Go online, or give a folder."
    )
