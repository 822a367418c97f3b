"""Errors of disks, buckets and networks: what may pass ends a run with 75, what can't become right with 2.

No TensorFlow in here.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from serving.console.terminal import printable
from serving.errors import FlowImagesError, Resumable, UsageError


class MayPass(Resumable):
    """What is missing may be there later: space on a disk, a name server, a bucket, a web server."""


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "No usable temporary directory found",
)
"""TensorFlow keeps of the system's error only its text, and Python has no number for the last one."""
_PASSING = {errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH,
            errno.ENETDOWN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ENOTCONN, errno.EMFILE, errno.ENFILE,
            errno.EAGAIN, errno.EINTR}  # fmt: skip
_PASSING_CODES = {1, 2, 4, 8, 10, 13, 14}
"""TensorFlow's: cancelled, unknown, deadline exceeded, resource exhausted, aborted, internal, unavailable."""
_UNRESOLVED = "libcurl code 6 "
"""Of a bucket's host name that can't be resolved, which TensorFlow calls a failed precondition."""


def check_path(field: str, path: str) -> None:
    """Refuses a path that TensorFlow can't load a SavedModel from.

    Raises:
      UsageError: it is not UTF-8, or has characters that TensorFlow reads as a pattern.
    """
    name = f"`{field}` {printable(path)}"
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name}: the name is not UTF-8: rename it") from error
    if pattern := set(path if "://" in path else os.path.abspath(path)) & set("*?[\\"):
        raise UsageError(
            f"{name}: TensorFlow loads no model from a path with {' '.join(sorted(pattern))} in it, which it reads as "
            "a pattern: take another folder"
        )


def explained(what: str, error: Exception) -> FlowImagesError:
    """The error for a user.

    Args:
      what: what failed, with its field: "`model_store` models: models/dogs can't be written".
      error: the system's or TensorFlow's.

    Returns:
      MayPass or UsageError.
    """
    why = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error).strip()
    why = why.partition("\n")[0]
    full = next((words for words in _FULL_WORDS if words in why), None)
    if full or getattr(error, "errno", None) in _FULL:
        return MayPass(f"{what}: {full or printable(why)}; make room, and repeat the command")
    if (
        getattr(error, "errno", None) in _PASSING
        or getattr(error, "error_code", None) in _PASSING_CODES
        or _UNRESOLVED in why
    ):
        return MayPass(f"{what}: {printable(why)}; this may pass: repeat the command")
    return UsageError(f"{what}: {printable(why)}")


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Turns the system's and TensorFlow's errors in the block into those of `explained`."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not hasattr(error, "error_code"):  # which TensorFlow's errors have
            raise
        raise explained(what, error) from error
