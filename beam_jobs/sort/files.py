"""One file of a sorted folder: a link to an image, or a copy of it. None ever takes the place of another file."""

import errno
import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from beam_jobs.sort.record import Made
from serving.errors import UsageError
from serving.storage.disk import give_name

ASIDE = ".flow-images-aside"
"""Where a copy is written before it gets its name: one at a time, and the next one replaces what a kill left."""
_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_TIME_S = 2
"""How exactly every file system keeps the time of a file."""


class _Folder(NamedTuple):
    """A folder as it is, whatever links lead to it."""

    path: str
    device: int


def _real(folder: str) -> _Folder:
    return _Folder(os.path.realpath(folder), os.stat(folder).st_dev)


class LinkTargets:
    """What symbolic links say. It remembers folders, so it is for one call."""

    def __init__(self) -> None:
        self._real = functools.lru_cache(maxsize=1024)(_real)

    def find(self, image: str, file: Path) -> str:
        """What a link says to lead to an image.

        It is relative on one file system, which may be mounted elsewhere or moved as a whole, and absolute to another.

        Raises:
          OSError, ValueError: the image's folder is gone.
        """
        folder, name = os.path.split(image)
        there, here = self._real(folder), self._real(str(file.parent))
        path = os.path.join(there.path, name)
        return os.path.relpath(path, here.path) if there.device == here.device else path


def make_symlink(target: str, file: Path, note: Callable[[str], None]) -> None:
    """Makes a symbolic link.

    Args:
      target: what it says.
      file: the link.
      note: is told its proof (see `Made`) just before it appears.

    Raises:
      FileExistsError: there is a file.
      UsageError: the file system has no such links.
    """
    note(target)
    try:
        os.symlink(target, file)
    except OSError as error:
        raise _refused(error, f"`into` {file.parent.parent} can't hold symbolic links: give `link` copy") from error


def make_hard_link(image: str, file: Path, note: Callable[[str], None]) -> None:
    """Makes another name of an image's file; as `make_symlink`."""
    real = os.path.realpath(image)  # where the image is a link itself, the file that it leads to
    note(str(os.stat(real).st_ino))
    try:
        os.link(real, file)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise UsageError(
                f"`link` hard: {image} is on another file system than `into` {file.parent.parent}: give symlink or copy"
            ) from error
        raise _refused(error, f"`link` hard: {image} may not be linked to: give symlink or copy") from error


def _refused(error: OSError, message: str) -> Exception:
    return UsageError(f"{message} ({error.strerror})") if error.errno in _NO_LINK else error


def make_copy(data: bytes, time_ns: int | None, file: Path, note: Callable[[str], None]) -> None:
    """Makes a file of an image's bytes, with the image's time where it is known; as `make_symlink`."""
    aside = file.parent.parent / ASIDE
    aside.write_bytes(data)
    if time_ns is not None:
        os.utime(aside, ns=(time_ns, time_ns))
    try:
        note(_proof_of_copy(os.stat(aside)))
        give_name(aside, str(file))
    finally:
        aside.unlink(missing_ok=True)


def _proof_of_copy(about: os.stat_result) -> str:
    return f"{about.st_size} {int(about.st_mtime)}"


def is_as_made(made: Made, file: Path) -> bool:
    """Is a file that is there the one that was made, and as it was then?"""
    try:
        about = os.lstat(file)
        if made.form == "symlink":
            return stat.S_ISLNK(about.st_mode) and os.readlink(file) == made.proof
        if not stat.S_ISREG(about.st_mode):
            return False
        if made.form == "hard":
            return str(about.st_ino) == made.proof
        size, time_s = map(int, made.proof.split())
        return about.st_size == size and abs(int(about.st_mtime) - time_s) <= _TIME_S
    except (OSError, ValueError):
        return False


def leads_to(file: Path, image: str) -> bool:
    """Is it the image itself, by whichever link?"""
    try:
        return os.path.samefile(file, image)
    except (OSError, ValueError):
        return False
