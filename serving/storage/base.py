"""What a store is: whole files by path, and create-if-absent, on a disk, in a bucket or on a web server.

`serving.storage.stores` gives the store of a path.
"""

import contextlib
import errno
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple, Protocol

from serving.errors import DiskFull, FileError, UsageError


class FileInfo(NamedTuple):
    """A file as a listing shows it."""

    path: str
    size: int | None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rsplit("/", 1)[-1]


Stamp = Mapping[str, str]
"""What changes when a file does: its `size`, `time` and `etag`, as far as its store tells."""


def differ(one: Stamp, other: Stamp) -> bool:
    """Are two stamps of a file of different contents, as far as both tell the same?"""
    return any(one[name] != other[name] for name in one.keys() & other.keys())


class Fetched(NamedTuple):
    """A file that was read, and its stamp at that time."""

    data: bytes
    stamp: Stamp


class Storage(Protocol):
    """Whole files by path.

    Errors are FileNotFoundError, IsADirectoryError (also for a socket or device), PermissionError, and those of
    `serving.errors.StorageError`: FileError for this one file, StorageDenied and StorageUnavailable for all of them.
    """

    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        """All bytes of a file and its stamp; raises TooLarge over the limit, before reading more than that."""

    def read(self, path: str, limit: int | None = None) -> bytes:
        """All bytes of a file; as `fetch`."""
        return self.fetch(path, limit).data

    def stamp(self, path: str) -> Stamp:
        """The stamp of a file, which is not read."""

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
        is continued; on a disk in no order, and all. FileNotFoundError if there is no such bucket.
        """

    def delete(self, path: str) -> None:
        """Removes a file, if it is there."""


WEB = ("http", "https")
"""Schemes of web servers, which are only read from."""


def scheme(path: str) -> str:
    """`gs`, `s3`, `az`, `http` or `https`, and "" for a path on a disk."""
    return path.split("://", 1)[0] if "://" in path else ""


def is_web(path: str) -> bool:
    """Is it the URL of a file on a web server?"""
    return scheme(path) in WEB


def place_of(path: str) -> str:
    """The web server or bucket that a file is in; "" for the disks of this machine."""
    return "/".join(path.split("/")[:3]) if scheme(path) else ""


def without_query(path: str) -> str:
    """A URL of a web server up to its query and fragment; any other path as it is."""
    return re.split("[?#]", path, maxsplit=1)[0] if is_web(path) else path


def shown(path: str) -> str:
    """A path for messages: a URL's query and password may be secrets, and are left out."""
    plain = re.sub(r"^(https?://)[^/?#]*@", r"\1…@", without_query(path)) if is_web(path) else path
    return plain if len(without_query(path)) == len(path) else f"{plain}?…"


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


DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system answers where there is no room."""


@contextlib.contextmanager
def output_errors(output: str) -> Iterator[None]:
    """Turns errors of a run's own files, which are never an image's fault, into errors that are meant for a user."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
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

    def __call__(self, file: IO[bytes], size: int, /) -> object:
        """Sends `size` bytes, all that `file` has from its start on."""
