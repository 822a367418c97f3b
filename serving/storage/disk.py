"""Files of this machine's disks, and of those that are mounted."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from typing_extensions import override

from serving.errors import DiskFull, FileError, StorageUnavailable, UsageError
from serving.storage.base import DISK_FULL, Fetched, FileInfo, Stamp, Storage
from serving.storage.local_file import read_file


def check_can_write(folder: str, field: str) -> None:
    """Refuses a folder of this machine that can't be made or written to, before hours are spent on what goes there.

    Raises:
      UsageError: with the field that names it.
    """
    absolute = Path(os.path.abspath(folder))
    there = next(one for one in (absolute, *absolute.parents) if os.path.exists(one))
    if not there.is_dir():
        raise UsageError(f"`{field}` {folder} can't be used: {there}: Not a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"`{field}` {folder} can't be used: {there} may not be written to")


class Disk(Storage):
    """A file system of this machine, or one that is mounted."""

    @override
    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        with disk_errors(path):
            # Before it is read: of a file that is just being written, the next stamp is another one.
            about = os.stat(path)
            data = read_file(path, limit)
            return Fetched(data, {"size": str(len(data)), "time": str(about.st_mtime_ns)})

    @override
    def stamp(self, path: str) -> Stamp:
        with disk_errors(path):
            about = os.stat(path)
            return {"size": str(about.st_size), "time": str(about.st_mtime_ns)}

    @override
    def read_range(self, path: str, start: int, end: int) -> bytes:
        with disk_errors(path), open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start)

    @override
    def create(self, path: str, data: bytes) -> bool:
        with disk_errors(path):
            aside = _aside(path)
            try:
                _write(aside, data)
                give_name(aside, path)
            except FileExistsError:
                return False
            finally:
                aside.unlink(missing_ok=True)
            return True

    @override
    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        with disk_errors(path):
            aside = _aside(path)
            try:
                with open(aside, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(aside, path)
            finally:
                aside.unlink(missing_ok=True)

    @override
    def exists(self, path: str) -> bool:
        return os.path.isfile(path)

    @override
    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        for where, _, names in os.walk(folder):
            for name in names:
                if not name.startswith(_ASIDE):
                    yield FileInfo(os.path.join(where, name), None)

    @override
    def delete(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)


_ASIDE = ".aside-"


def _aside(path: str) -> Path:
    """A name for writing aside, in the same folder, which is made."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{_ASIDE}{uuid.uuid4().hex}"


def give_name(aside: Path, path: str) -> None:
    """Gives a file that was written aside its name; raises FileExistsError if another file has it.

    The name that it had may be there still, or not.
    """
    try:
        os.link(aside, path)  # unlike a rename, it never replaces
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Of two that come at the same moment the second wins, whole; either part is right.
        if os.path.exists(path):
            raise FileExistsError(path) from error
        os.rename(aside, path)


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer: FAT, and buckets that are mounted."""


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Turns the system's errors into those that `serving.storage.base.Storage` names.

    A name that can't exist is FileNotFoundError; what a network file system may recover from is StorageUnavailable.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, IsADirectoryError, PermissionError):
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise FileNotFoundError(f"{path}: {error}") from error
    except OSError as error:
        if error.errno in _NO_FILE:
            raise IsADirectoryError(path) from error
        if error.errno in _NO_SUCH_NAME:
            raise FileNotFoundError(f"{path}: {error.strerror}") from error
        if error.errno in DISK_FULL:
            raise DiskFull(f"{path}: {error.strerror}; make room, and the same command continues") from error
        kind = StorageUnavailable if error.errno in _MAY_PASS else FileError
        raise kind(f"{path}: {error.strerror or error}") from error


_NO_FILE = {errno.ENXIO, errno.ENODEV}
"""Opening a socket, or a device that is not there."""
_NO_SUCH_NAME = {errno.ENAMETOOLONG, errno.ELOOP}
_MAY_PASS = {errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
             errno.ECONNRESET, errno.ENOTCONN, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR}  # fmt: skip
