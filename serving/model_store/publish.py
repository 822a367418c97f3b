"""Puts a new version of a model into a store, where it appears whole or not at all.

A server loads whatever it finds in a folder named by an integer, at once. So on a disk a version is written aside and
renamed; in a bucket, `saved_model.pb`, which a server looks for, is uploaded as the last file.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from serving.console.terminal import printable
from serving.errors import FlowImagesError, Resumable, Transient, UsageError
from serving.model_store.versions import (
    HIGHEST_VERSION,
    MODEL_FILE,
    PUBLISHING,
    check_model_name,
    check_model_path,
    versions,
)
from serving.storage.base import Storage, scheme
from serving.storage.explained_errors import explaining
from serving.storage.transfer import together

_ASIDE = ".publishing-"
"""Begins the name of what is not a version yet: no server takes it for one, as it is not an integer."""
_ABANDONED_S = 24 * 3600
"""Age of what is not a version yet, at which its publisher was killed: the steps until it is one take minutes."""
_LOCK = "publisher"
"""File beside what is not a version yet: its publisher holds a lock on it, and its text names that machine."""


class PublishedElsewhere(Resumable):
    """Two publish one version at the same moment, and this one gave way."""


class VersionExists(UsageError):
    """The version is there; none is overwritten."""


class Publication:
    """A version that is to be published: asked for before training, so that no hours are spent for nothing."""

    def __init__(self, store: str, name: str, number: int | None, storage: Storage) -> None:
        """Takes a number that is free.

        Args:
          store: the folder of all models, on a disk or in a bucket.
          name: of the model.
          number: of the version; None for the seconds since 1970, or one above the highest if that is more.
          storage: the one that holds the store.

        Raises:
          VersionExists: it is there already.
          UsageError: the name or number can't be served, or the store can't be written.
          DiskFull, StorageUnavailable: the store is full, or can't be reached.
        """
        check_publication(store, name)
        if number is not None and not 0 <= number <= HIGHEST_VERSION:
            raise UsageError(f"`version` {number}: servers take integers from 0 to {HIGHEST_VERSION}")
        self.model_path = f"{store.rstrip('/')}/{name}"
        self._may_rise = number is None
        self._place = _Bucket(self.model_path, storage) if scheme(store) else _Disk(self.model_path, storage)
        self._staging: str | None = None
        self._lock: IO[str] | None = None
        with self._writing():
            self._place.check_writable()
            self.number = self._next() if number is None else number
            if not self._may_rise and self._place.is_taken(self.number):
                raise VersionExists(self._exists())

    @property
    def path(self) -> str:
        """The version's folder."""
        return f"{self.model_path}/{self.number}"

    @property
    def is_published(self) -> bool:
        """Is it in its place?"""
        return self._place.has_mine(self.number)

    def higher(self) -> int | None:
        """The highest version beside it, if that is above it, so that servers would take that one."""
        with self._writing():
            highest = max(self._place.numbers(), default=-1)
        return highest if highest > self.number else None

    @contextlib.contextmanager
    def staging(self) -> Iterator[str]:
        """A folder that doesn't exist yet, on this machine's disk, removed in the end if it was not published."""
        with self._writing():
            if self._place.staging_parent:  # which another training that was refused may have removed
                Path(self._place.staging_parent).mkdir(parents=True, exist_ok=True)
            self._staging = tempfile.mkdtemp(prefix=f"{_ASIDE}{self.number}-", dir=self._place.staging_parent)
            self._lock = _lock(Path(self._staging))
        try:
            yield f"{self._staging}/{self.number}"
        finally:
            self.discard()

    def discard(self) -> None:
        """Removes what is staged, even while it is written by another thread, which can't publish it any more.

        And the folders that were made for a version, if there is none in them now.
        """
        if self._staging is not None:
            gone = f"{self._staging}.gone"
            with contextlib.suppress(OSError):  # it is removed already
                os.rename(self._staging, gone)
            shutil.rmtree(gone, ignore_errors=True)
            if self._lock is not None:
                self._lock.close()
        self._place.remove_empty()

    def publish(self, folder: str) -> None:
        """Makes a staged folder the version.

        Raises:
          UsageError: somebody else published it meanwhile, or the store can't be written any more.
          PublishedElsewhere: somebody else is about to.
          DiskFull, StorageUnavailable: the store is full, or can't be reached.
        """
        with self._writing():
            if self._may_rise:  # others may have published in the hours of training
                self.number = self._next()
            while not self._place.put(folder, self.number, keep_started=self._may_rise):
                if self._may_rise:
                    self.number += 1
                elif self._place.is_taken(self.number):
                    raise VersionExists(self._exists())
                else:
                    raise PublishedElsewhere(
                        f"{printable(self.path)}: somebody else began to publish this version at the same time; repeat "
                        "the command, or choose another `version`"
                    )

    def _next(self) -> int:
        highest = max(self._place.numbers(), default=-1)
        if highest == HIGHEST_VERSION:
            raise UsageError(f"{printable(self.model_path)} has a version {highest}, and none can be higher: remove it")
        return max(int(time.time()), highest + 1)

    def _exists(self) -> str:
        return f"{printable(self.path)} exists already, and a version is never overwritten: choose another `version`"

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return explaining(f"`model_store`: {printable(self.model_path)} can't be written")


def check_publication(store: str, name: str) -> None:
    """Checks what can be checked of a store's path and a model's name without asking the store.

    Raises:
      UsageError: no model can be published there, or none of that name.
    """
    check_model_name(name)
    if not store:
        raise UsageError("`model_store` is empty: name a folder, on a disk or in a bucket")
    check_model_path("model_store", store)


def _lock(staging: Path) -> IO[str] | None:
    """Marks a folder as this process's, for as long as it lives and the file is open."""
    lock = (staging / _LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks: its age has to tell
        lock.close()
        return None
    lock.write(_machine())  # after the lock, so that nobody takes the folder for an abandoned one
    lock.flush()
    return lock


def _machine() -> str:
    """Names the running system: only there a lock that nobody holds proves that its holder is gone."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return socket.gethostname()


def _remove_abandoned(folder: Path) -> None:
    """Removes what publishers have left that were killed."""
    for aside in folder.glob(f"{_ASIDE}*"):
        with contextlib.suppress(OSError):  # its publisher is done
            if _is_abandoned(aside):
                shutil.rmtree(aside, ignore_errors=True)


def _is_abandoned(aside: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), (aside / _LOCK).open("r+") as lock:
        if lock.read() == _machine():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
    return time.time() - aside.stat().st_mtime > _ABANDONED_S


class _Disk:
    """A model's folder on a disk, as a place to publish to."""

    def __init__(self, model: str, storage: Storage) -> None:
        self._model, self._storage = model, storage
        self._mine: int | None = None
        self._made: list[Path] = []
        """Folders that were not there, the innermost first."""

    @property
    def staging_parent(self) -> str | None:
        """A place beside the version's, so that a rename is enough."""
        return self._model

    def check_writable(self) -> None:
        model = Path(self._model)
        self._made = [folder for folder in (model, *model.parents) if not folder.exists()]
        model.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=_ASIDE, dir=self._model).cleanup()
        _remove_abandoned(model)

    def remove_empty(self) -> None:
        """Removes the folders that `check_writable` made and that are empty."""
        with contextlib.suppress(OSError):  # there is something in them
            for folder in self._made:
                folder.rmdir()

    def numbers(self) -> set[int]:
        return set(versions(self._model, self._storage))

    def is_taken(self, number: int) -> bool:
        return number in self.numbers()

    def has_mine(self, number: int) -> bool:
        try:
            return os.stat(f"{self._model}/{number}").st_ino == self._mine
        except OSError:
            return False

    def put(self, folder: str, number: int, keep_started: bool) -> bool:
        """Publishes a folder; False if there is a version of that number."""
        target = f"{self._model}/{number}"
        self._mine = os.stat(folder).st_ino
        try:
            os.rename(folder, target)
        except OSError:
            if not os.path.lexists(target):
                raise
            return False
        return True


class _Bucket:
    """A model's folder in a bucket, as a place to publish to.

    Whoever publishes first creates the object `.publishing` in the version's folder, with a random token in it; of two
    who do so at once, one is refused. Files without `saved_model.pb` were left by a publisher that was killed: no
    server has loaded them, and the next publisher of the same number removes them.
    """

    staging_parent = None

    def __init__(self, model: str, storage: Storage) -> None:
        self._model, self._storage = model, storage
        self._token = uuid.uuid4().hex.encode()
        self._is_published = False

    def check_writable(self) -> None:
        tempfile.TemporaryDirectory(prefix=_ASIDE).cleanup()
        _remove_abandoned(Path(tempfile.gettempdir()))
        probe = f"{self._model}/{_ASIDE}{self._token.decode()}"
        self._storage.create(probe, b"")
        self._storage.delete(probe)

    def remove_empty(self) -> None:
        """Nothing: a bucket has no folders."""

    def numbers(self) -> set[int]:
        return set(versions(self._model, self._storage))

    def is_taken(self, number: int) -> bool:
        found = versions(self._model, self._storage).get(number)
        return found is not None and found.is_whole

    def has_mine(self, number: int) -> bool:
        return self._is_published

    def put(self, folder: str, number: int, keep_started: bool) -> bool:
        """Uploads a folder; False if somebody else has published that number, or is about to.

        Args:
          folder: on this machine's disk.
          number: of the version.
          keep_started: whether another's files that are not whole are left alone, and count as a version.
        """
        target = f"{self._model}/{number}"
        found = versions(self._model, self._storage).get(number)
        if found is not None:
            if found.is_whole or keep_started:
                return False
            # First its mark: if its publisher still runs, it stops before it publishes.
            self._remove(sorted(found.files, key=lambda name: name != PUBLISHING), found.path)
        if not self._create(f"{target}/{PUBLISHING}", self._token):
            return False
        try:
            self._is_published = self._upload(Path(folder), target)
        except Transient:  # the bucket is away: the next publisher removes what is there
            raise
        except BaseException:
            self._is_published = self._storage.exists(f"{target}/{MODEL_FILE}") and self._is_mine(target)
            self._tidy(target)
            raise
        self._tidy(target)
        return self._is_published

    def _upload(self, folder: Path, target: str) -> bool:
        """Creates every object, the model file last; False as soon as somebody else has created one of them."""
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        created = together(
            lambda name: self._create(f"{target}/{name}", (folder / name).read_bytes()),
            (name for name in names if name != MODEL_FILE),
        )
        is_alone = all(created) and self._is_mine(target)
        return is_alone and self._create(f"{target}/{MODEL_FILE}", (folder / MODEL_FILE).read_bytes())

    def _create(self, path: str, data: bytes) -> bool:
        """Creates an object; a try whose answer was lost has created it as well."""
        return self._storage.create(path, data) or self._holds(path, data)

    def _is_mine(self, target: str) -> bool:
        """Is the mark there still ours?"""
        return self._holds(f"{target}/{PUBLISHING}", self._token)

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self._storage.read(path) == data
        except FileNotFoundError:
            return False

    def _tidy(self, target: str) -> None:
        """Removes our mark, and what else is there if it was not published."""
        with contextlib.suppress(OSError, FlowImagesError):  # what stays does no harm: the next publisher removes it
            if self._is_published:
                self._storage.delete(f"{target}/{PUBLISHING}")
            elif self._is_mine(target):
                self._remove([info.path.removeprefix(f"{target}/") for info in self._storage.walk(target)], target)

    def _remove(self, names: Iterable[str], folder: str) -> None:
        for name in names:
            self._storage.delete(f"{folder}/{name}")
