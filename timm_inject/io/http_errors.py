"""What went wrong on the way to a server: errors of huggingface_hub's client, whatever HTTP library it uses."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

__all__ = ["innermost", "is_connection_error", "said", "status_of"]

# The modules of the HTTP libraries that the versions of huggingface_hub use, whose errors share no base class.
_HTTP_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


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
    first: Sequence[str] = [line.strip() for line in str(message).splitlines() if line.strip()]
    status = status_of(error)
    text = (first[0] if first else type(error).__name__).rstrip(".:")[:300]
    return f"{status}: {text}" if status and str(status) not in text else text
