"""Reads a file of this machine whole, for any command that a user gives a path to."""

import errno
import os
import stat


class TooLarge(Exception):
    """The file has more bytes than the caller wants; `args` is (size,), or () if the size is not known."""


def why_unreadable(error: Exception, kind: str = "file") -> str:
    """Why a path that a user gave can't be read, in the words that all commands have for it.

    Args:
      error: of the system, or of a store.
      kind: what was looked for there.
    """
    told = getattr(error, "strerror", None)
    if told and isinstance(error, FileNotFoundError):  # a store's error has none, and names the bucket itself
        return f"no such {kind}"
    return told or str(error)


def read_file(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """All bytes of a regular file; a FIFO or device is not waited for.

    Args:
      path: of the file.
      limit: most bytes to read; None for no limit.

    Raises:
      TooLarge: the file is over the limit; not more than that was read of it.
      IsADirectoryError: a folder, socket, FIFO or device, or a file of the system's that has nothing to read yet.
      FileNotFoundError: no such file, or none can have that name.
      OSError: as `os.open`.
    """
    try:
        # Not blocking, as opening a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        kind = _KINDS.get(error.errno or 0)
        if kind is None:
            raise
        raise kind(error.errno, error.strerror, os.fspath(path)) from error
    with open(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise IsADirectoryError(21, "not a file", os.fspath(path))
        if limit is not None and info.st_size > limit:
            raise TooLarge(info.st_size)
        # A file may grow meanwhile, and one of /proc has 0 bytes by its size, and no end.
        most = -1 if limit is None else limit + 1
        data: bytes | None = file.read(most if most < 0 else min(most, info.st_size + 1))  # room for `most` takes time
        if data is not None and info.st_size < len(data) < most:
            data += file.read(most - len(data)) or b""
    if data is None:
        raise IsADirectoryError(21, "not a file", os.fspath(path))
    if limit is not None and len(data) > limit:
        raise TooLarge
    return data


_KINDS: dict[int, type[OSError]] = {
    errno.ENXIO: IsADirectoryError,  # a socket, or a device that is not there
    errno.ENODEV: IsADirectoryError,
    errno.ENOTDIR: FileNotFoundError,
    errno.ENAMETOOLONG: FileNotFoundError,
    errno.ELOOP: FileNotFoundError,
}
"""What the system calls otherwise, and means the same for who wants a file."""
