"""Says that there is no place for temporary files, which libraries report as some other failure."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from serving.errors import DiskFull, FlowImagesError, UsageError

_ROOM = 1024 * 1024
"""Bytes: TensorFlow's AutoGraph writes its sources there, a few KB each, and goes wrong on what it can't write."""


def check_temporary_files() -> None:
    """Writes a file of 1 MiB where temporary files go, and removes it.

    Raises:
      UsageError: no folder for temporary files can be written to.
      DiskFull: the disk is full.
    """
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:  # Python has tried to write to each place that there may be
        for place in filter(os.path.isdir, (os.environ.get("TMPDIR", ""), "/tmp")):
            if os.access(place, os.W_OK) and not os.statvfs(place).f_bavail:
                raise _full(place, "No space left on device") from error
        raise UsageError(
            f"no place for temporary files ({error.strerror}): let TMPDIR name a folder that can be written to"
        ) from error
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        raise _full(place, error.strerror or str(error)) from error


@contextlib.contextmanager
def explaining_full_temporary_files() -> Iterator[None]:
    """Where the block fails in a way that is not ours, and there is no room for temporary files, that is the reason.

    Raises:
      UsageError, DiskFull: see `check_temporary_files`.
    """
    try:
        yield
    except FlowImagesError:
        raise
    except Exception:
        check_temporary_files()
        raise


def _full(place: str, why: str) -> DiskFull:
    return DiskFull(
        f"{place}: {why}: there is no room for temporary files; make room, or let TMPDIR name a folder on another "
        "disk, and repeat the command"
    )
