"""Files on a disk, in gs:// and in s3:// by one small interface, with what a ledger needs: create-if-absent.

Buckets are reached with the clients that Beam would use, set up by Beam's own flags (`--s3_endpoint_url`, …).
"""

import contextlib
import errno
import functools
import os
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from serving.errors import DiskFull, FileError, StorageUnavailable, UsageError
from serving.storage.local_file import read_file


class FileInfo(NamedTuple):
    """A file as a listing shows it."""

    path: str
    size: int | None


class Storage(Protocol):
    """Whole files by path.

    Errors are FileNotFoundError, IsADirectoryError (also for a socket or device), PermissionError, and those of
    `serving.errors.StorageError`: FileError for this one file, StorageDenied and StorageUnavailable for all of them.
    """

    def read(self, path: str, limit: int | None = None) -> bytes:
        """All bytes of a file; raises TooLarge over the limit, before reading more than that."""

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes start..end of a file, the end excluded."""

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file whole if there is none of that name yet; False, and no change, if there is."""

    def replacing(self, path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A file to write to; it takes the place of any other of that name when the block ends without error."""

    def exists(self, path: str) -> bool:
        """Is there a file of that name?"""

    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        """Every file in and below a folder; nothing if there is no such folder.

        In a bucket they come in the order of their paths, and only those behind `after`, where a listing that broke off
        is gone on with; on a disk in no order, and all. FileNotFoundError if there is no such bucket.
        """

    def delete(self, path: str) -> None:
        """Removes a file, if it is there."""


def scheme(path: str) -> str:
    """`gs` or `s3`, and "" for a path on a disk."""
    return path.split("://", 1)[0] if "://" in path else ""


def join(folder: str, *names: str) -> str:
    """A path below a folder, on a disk or in a bucket."""
    return "/".join([folder.rstrip("/") or "/", *names]) if folder != "" else "/".join(names)


def absolute(path: str) -> str:
    """The path from the root of the disk; one in a bucket stays as it is.

    Raises:
      UsageError: it is relative, and the working directory is gone.
    """
    try:
        return path if scheme(path) else os.path.abspath(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: the working directory is gone; go to another, or give absolute paths") from error


def within(path: str, folder: str) -> bool:
    """Is an absolute path that folder, or below it?"""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


MOST_WAIT_S = 20.0
"""Seconds without a byte after which a try of a bucket counts as failed."""


def storage_for(path: str, beam_flags: Sequence[str] = (), wait_s: float = MOST_WAIT_S) -> Storage:
    """The storage that holds a path.

    Args:
      path: of a file or folder.
      beam_flags: Beam's own, which set up buckets.
      wait_s: seconds without a byte after which a try of a bucket fails.
    Raises:
      UsageError: an unknown scheme, flags that can't be used, or the bucket's extra is not installed.
    """
    return _storage(scheme(path), tuple(beam_flags), wait_s)


@functools.cache
def _storage(kind: str, beam_flags: tuple[str, ...], wait_s: float) -> Storage:
    if kind == "":
        return Disk()
    if kind == "file":
        raise UsageError("file:// is not supported; give the path on the disk itself, which begins with /")
    if kind not in ("gs", "s3"):
        raise UsageError(f"{kind}:// is not supported; give a path on a disk, gs:// or s3://")
    try:
        if kind == "gs":
            from serving.storage.gcs import Gcs

            return Gcs(beam_flags, wait_s)
        from serving.storage.s3 import S3

        return S3(beam_flags, wait_s)
    except ImportError as error:
        extra = "gcs" if kind == "gs" else "s3"
        raise UsageError(f"{kind}:// needs the extra: pip install 'flow-images[{extra}]' ({error})") from error


class Disk:
    """A file system of this machine, or one that is mounted."""

    def read(self, path: str, limit: int | None = None) -> bytes:
        with plain_errors(path):
            return read_file(path, limit)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        with plain_errors(path), open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start)

    def create(self, path: str, data: bytes) -> bool:
        with plain_errors(path):
            aside = _aside(path)
            try:
                _write(aside, data)
                _link(aside, path)
            except FileExistsError:
                return False
            finally:
                aside.unlink(missing_ok=True)
            return True

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        with plain_errors(path):
            aside = _aside(path)
            try:
                with open(aside, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(aside, path)
            finally:
                aside.unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        return os.path.isfile(path)

    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        for where, _, names in os.walk(folder):
            for name in names:
                if not name.startswith(_ASIDE):
                    yield FileInfo(os.path.join(where, name), None)

    def delete(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)


_ASIDE = ".aside-"


def _aside(path: str) -> Path:
    """A name for writing aside, in the same folder, which is made."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{_ASIDE}{uuid.uuid4().hex}"


def _link(aside: Path, path: str) -> None:
    """Gives a file its name, unless another has it."""
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
def plain_errors(path: str) -> Iterator[None]:
    """Names that can't be are files that aren't there; what a network file system may mend is a StorageUnavailable."""
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
        if error.errno in _FULL:
            raise DiskFull(f"{path}: {error.strerror}; make room, and the same command continues") from error
        kind = StorageUnavailable if error.errno in _MAY_PASS else FileError
        raise kind(f"{path}: {error.strerror or error}") from error


_NO_FILE = {errno.ENXIO, errno.ENODEV}
"""Opening a socket, or a device that is not there."""
_NO_SUCH_NAME = {errno.ENAMETOOLONG, errno.ELOOP}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MAY_PASS = {errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
             errno.ECONNRESET, errno.ENOTCONN, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR}  # fmt: skip


@contextlib.contextmanager
def output_errors(output: str) -> Iterator[None]:
    """For a run's own files, where no error is a picture's fault: each becomes one that is meant for a user."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            where = error.filename or tempfile.gettempdir()
            raise DiskFull(f"{where}: {error.strerror}; make room, and the same command continues") from error
        reason = f"{error.filename}: {error.strerror}" if error.filename else error
        no_bucket = isinstance(error, FileNotFoundError) and scheme(output)
        raise (UsageError if no_bucket else FileError)(f"`output` {output} can't be used: {reason}") from error
    except sqlite3.OperationalError as error:  # the manifest's table, in the place for temporary files
        raise DiskFull(f"{tempfile.gettempdir()}: {error}; make room, or set TMPDIR to another disk") from error


@contextlib.contextmanager
def spooled(upload: "Upload") -> Iterator[IO[bytes]]:
    """A temporary file that is handed to `upload` when the block ends without error."""
    with tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024) as file:
        yield file
        size = file.tell()
        file.seek(0)
        upload(file, size)


class Upload(Protocol):
    """Sends a whole file to a bucket."""

    def __call__(self, file: IO[bytes], size: int, /) -> object: ...
