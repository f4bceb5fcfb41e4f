"""Every error that timm_inject raises on purpose.

Each class also inherits the built-in exception that a Python user would expect, so `except ValueError` keeps working,
and all share `TimmInjectError`, so one `except` is enough for a program that wraps the library.
"""

from collections.abc import Iterable, Sequence

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "ClassNameError",
    "DescriptionError",
    "EncoderError",
    "HeadWeightsError",
    "HubConflictError",
    "HubConnectionError",
    "HubError",
    "HubPermissionError",
    "HubServerError",
    "HubTokenError",
    "ImageError",
    "InjectionWarning",
    "LanguageModelError",
    "MapperError",
    "SaveError",
    "TimmInjectError",
    "UnknownSeenClassesError",
    "UnsupportedHeadError",
    "WeakClassWarning",
    "join_problems",
    "list_some",
]

# How many items an error names before "and N more".
_MAX_LISTED = 5
MAX_PROBLEMS = _MAX_LISTED


class TimmInjectError(Exception):
    """Base class. The message says what came, what was expected and how to fix it."""


class ArgumentTypeError(TimmInjectError, TypeError):
    """An argument has the wrong type."""


class ArgumentValueError(TimmInjectError, ValueError):
    """An argument has the right type but a value that the library does not take."""


class ClassNameError(TimmInjectError, ValueError):
    """A class name is empty, given twice, or already one of the model's classes."""


class UnknownSeenClassesError(TimmInjectError, ValueError):
    """The names of the classes that the model already knows are missing, or do not fit the head."""


class DescriptionError(TimmInjectError, ValueError):
    """A description is unusable."""


class EncoderError(TimmInjectError, RuntimeError):
    """The text encoder could not be loaded, or returned something that is not one finite vector a text."""


class LanguageModelError(TimmInjectError, OSError):
    """The language model that is to write descriptions cannot be reached, refuses, or keeps failing."""


class UnsupportedHeadError(TimmInjectError, ValueError):
    """The model has no classifier that can be widened."""


class HeadWeightsError(TimmInjectError, ValueError):
    """The classifier's weights are not those of a trained classifier."""


class MapperError(TimmInjectError, ValueError):
    """A mapper is unknown, or does not fit the model or the descriptors."""


class SaveError(TimmInjectError, OSError):
    """A folder could not be written."""


class HubError(TimmInjectError, OSError):
    """The Hub did not take what was pushed; the text says what is left there. Subclasses tell the reasons apart."""


class HubTokenError(HubError):
    """There is no access token, or the Hub does not know it."""


class HubPermissionError(HubError, PermissionError):
    """The token's owner may not write there."""


class HubConflictError(HubError, FileExistsError):
    """The repository holds something that the push would replace, or was changed meanwhile."""


class HubConnectionError(HubError, ConnectionError):
    """The Hub could not be reached, or the connection was lost."""


class HubServerError(HubError):
    """The Hub had an error of its own (5xx), or takes no more requests for now (429)."""


class ImageError(TimmInjectError, ValueError):
    """An image, or a folder of images, could not be read."""


class InjectionWarning(UserWarning):
    """Something was chosen for the user, or is unlikely to work as the user hopes."""


class WeakClassWarning(InjectionWarning):
    """New classes are unlikely to work, by an estimate that needs no image or as nothing but their name is known."""


def list_some(items: Iterable[object]) -> str:
    """Write at most five items, comma separated, then how many more there are."""
    shown = [str(item) for item in items]
    more = len(shown) - _MAX_LISTED
    text = ", ".join(shown[:_MAX_LISTED])
    return f"{text} and {more} more" if more > 0 else text


def join_problems(problems: Sequence[str]) -> str:
    """Write the first problems, and how many more there are."""
    more = len(problems) - _MAX_LISTED
    text = "; ".join(problems[:_MAX_LISTED])
    return f"{text}; and {more} more" if more > 0 else text
