"""Files and the network: paths as people write them, files that appear whole, and what HTTP errors mean."""

from timm_inject.io.files import expand_user, is_folder, written_aside, written_beside
from timm_inject.io.http_errors import innermost, is_connection_error, said, status_of

__all__ = [
    "expand_user",
    "innermost",
    "is_connection_error",
    "is_folder",
    "said",
    "status_of",
    "written_aside",
    "written_beside",
]
