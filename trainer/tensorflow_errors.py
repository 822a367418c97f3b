"""Explains errors of TensorFlow and of the system: a run ends with 75 where they may pass, else with 2.

No TensorFlow in here.
"""

import contextlib
from collections.abc import Iterator

from serving.console.terminal import printable
from serving.errors import DiskFull, FlowImagesError, Resumable, UsageError
from serving.storage.explained_errors import explained as explained_storage_error


class MayPass(Resumable):
    """What is missing may be there later: a name server, a web server, what TensorFlow reads through them."""


_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")
"""TensorFlow keeps of the system's error only its text."""
_PASSING_CODES = {1, 2, 4, 8, 10, 13, 14}
"""TensorFlow's: cancelled, unknown, deadline exceeded, resource exhausted, aborted, internal, unavailable."""
_UNRESOLVED = "libcurl code 6 "
"""Part of the message for a bucket's host name that can't be resolved; TensorFlow calls it a failed precondition."""


def explained(what: str, error: Exception) -> FlowImagesError:
    """The error for a user.

    Args:
      what: what failed, with its flag: "`hub_model` x can't be unpacked".
      error: the system's or TensorFlow's.

    Returns:
      DiskFull, MayPass or StorageUnavailable where it may pass, UsageError where it stays so.
    """
    if isinstance(error, OSError):
        return explained_storage_error(what, error)
    why = str(getattr(error, "message", None) or error).strip().partition("\n")[0]
    full = next((words for words in _FULL_WORDS if words in why), None)
    if full:
        return DiskFull(f"{what}: {full}; make room, and repeat the command")
    if getattr(error, "error_code", None) in _PASSING_CODES or _UNRESOLVED in why:
        return MayPass(f"{what}: {printable(why)}; this may be temporary: repeat the command")
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
