"""Explains errors of disks and buckets to a user who gave a path: exit code 75 where they may pass, else 2."""

import contextlib
import errno
from collections.abc import Iterator

from serving.console.terminal import printable
from serving.errors import DiskFull, FlowImagesError, StorageError, StorageUnavailable, UsageError
from serving.storage.disk import disk_errors

_NO_TEMPORARY = "No usable temporary directory found"
"""Python's words, without a number: it tried to write a file to each place, and a full disk is the usual reason."""
_ALSO_PASSING = {errno.EIO, errno.ECONNREFUSED}
"""Where a command is repeated as a whole, these are worth another try, too."""


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Turns errors of storages, and of the system, in the block into ones for a user.

    Args:
      what: what failed, with its field: "`model_store`: models/dogs can't be written".

    Raises:
      UsageError: it stays so until somebody changes something.
      DiskFull, StorageUnavailable: it may pass.
    """
    try:
        yield
    except (OSError, StorageError) as error:
        raise explained(what, error) from error


def explained(what: str, error: Exception) -> FlowImagesError:
    """The error for a user: UsageError, DiskFull or StorageUnavailable; see `explaining`."""
    reason = getattr(error, "strerror", None) or (error.args[0] if error.args else error)
    reason = str(reason).strip().partition("\n")[0].removeprefix(f"{what}: ")
    told = f"{what}: {printable(reason)}"
    kind = _kind(error)
    if kind is DiskFull:
        return DiskFull(f"{told}; make room, and repeat the command")
    if kind is StorageUnavailable:
        return StorageUnavailable(f"{told}; this may be temporary: repeat the command")
    return UsageError(told)


def _kind(error: Exception) -> type[Exception]:
    if _NO_TEMPORARY in str(error):
        return DiskFull
    if getattr(error, "errno", None) in _ALSO_PASSING:
        return StorageUnavailable
    try:
        with disk_errors(""):
            raise error
    except Exception as found:
        return type(found)
