"""The model store: `<store>/<name>/<version>/`, where a version appears whole or not at all.

A server loads whatever it finds in a folder named by an integer, at once. So a version is written aside; on a disk it
appears by one rename, in a bucket file by file with `saved_model.pb`, which a server looks for, as the last.
"""

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from serving.console.terminal import printable
from serving.errors import UsageError
from trainer.options import HIGHEST_VERSION
from trainer.outages import check_path, explained, explaining

_MODEL_FILE = "saved_model.pb"
_ASIDE = ".publishing-"
"""A folder that no server takes for a version, as its name is no integer."""
_SCHEMES = ("gs", "ram")
"""What TensorFlow writes besides disks; ram:// is its file system in memory, which is gone with the process."""


class Version:
    """A version that is to be published: asked for before training, so that no hours are spent for nothing."""

    def __init__(self, store: str, name: str, number: int | None = None) -> None:
        """Takes a number that is free.

        Args:
          store: a folder on a disk, or gs://.
          name: of the model.
          number: of the version; None for the seconds since 1970, or one above the highest if that is more.

        Raises:
          UsageError: the version exists, the name or number can't be served, or the store can't be written.
          MayPass: the store is full, or can't be reached.
        """
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
            raise UsageError(
                f"`name` {printable(name)}: expected letters, digits, '.', '-' and '_', as it becomes part of URLs"
            )
        scheme = store.partition("://")[0] if "://" in store else ""
        if scheme and scheme not in _SCHEMES:
            raise UsageError(
                f"`model_store` {printable(store)}: TensorFlow can't write {scheme}://; export to a folder, and copy "
                f"it there with {_MODEL_FILE} last"
            )
        if not store:
            raise UsageError("`model_store` is empty: name a folder, or gs://")
        check_path("model_store", store)
        if number is not None and not 0 <= number <= HIGHEST_VERSION:
            raise UsageError(f"`version` {number}: servers take integers from 0 to {HIGHEST_VERSION}")
        self.model_path = f"{store.rstrip('/')}/{name}"
        self._is_remote = bool(scheme)
        self._may_rise = number is None
        self._staging: str | None = None
        self._staged: int | None = None
        self._is_uploaded = False
        with self._writing():
            if not self._is_remote:
                Path(self.model_path).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryDirectory(prefix=_ASIDE, dir=self._aside).cleanup()  # can it be written?
            self.number = self._next() if number is None else number
            if not self._may_rise and self._is_taken():
                raise UsageError(self._exists())

    @property
    def path(self) -> str:
        """The version's folder."""
        return f"{self.model_path}/{self.number}"

    @property
    def is_published(self) -> bool:
        """Is it in its place?"""
        if self._is_remote:
            return self._is_uploaded
        try:
            return os.stat(self.path).st_ino == self._staged
        except OSError:
            return False

    def higher(self) -> int | None:
        """The highest version beside it, if that is above it, so that servers would take that one."""
        with self._writing():
            highest = max(self._versions(), default=-1)
        return highest if highest > self.number else None

    @contextlib.contextmanager
    def staging(self) -> Iterator[str]:
        """A folder that doesn't exist yet, on this machine's disk, removed in the end if it was not published."""
        with self._writing():
            self._staging = tempfile.mkdtemp(prefix=f"{_ASIDE}{self.number}-", dir=self._aside)
        try:
            yield f"{self._staging}/{self.number}"
        finally:
            self.discard()

    def discard(self) -> None:
        """Removes what is staged, even while it is written by another thread, which can't publish it any more."""
        if self._staging is not None:
            gone = f"{self._staging}.gone"
            with contextlib.suppress(OSError):  # it is removed already
                os.rename(self._staging, gone)
            shutil.rmtree(gone, ignore_errors=True)

    def publish(self, folder: str) -> None:
        """Makes a staged folder the version.

        Raises:
          UsageError: somebody else published it meanwhile, or the store can't be written any more.
          MayPass: the store is full, or can't be reached.
        """
        with self._writing():
            if self._may_rise:  # others may have published in the hours of training
                self.number = self._next()
            self._staged = os.stat(folder).st_ino
            if self._is_remote:
                self._upload(folder)
                return
        while True:
            try:
                os.rename(folder, self.path)
                return
            except OSError as error:
                if not os.path.lexists(self.path):
                    raise explained(self._unwritable, error) from error
                if not self._may_rise:
                    raise UsageError(self._exists()) from error
                self.number += 1

    @property
    def _aside(self) -> str | None:
        """Where it is staged: beside its place, so that a rename is enough; for a bucket, among temporary files."""
        return None if self._is_remote else self.model_path

    def _upload(self, folder: str) -> None:
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        if tf.io.gfile.exists(self.path):  # what is left of an upload that died
            tf.io.gfile.rmtree(self.path)
        try:
            for path in sorted(files, key=lambda path: (path.name == _MODEL_FILE, path)):
                target = f"{self.path}/{path.relative_to(folder)}"
                tf.io.gfile.makedirs(target.rpartition("/")[0])
                tf.io.gfile.copy(str(path), target, overwrite=True)
            self._is_uploaded = True
        except BaseException:
            self._is_uploaded = bool(tf.io.gfile.exists(f"{self.path}/{_MODEL_FILE}"))
            if not self._is_uploaded:
                tf.io.gfile.rmtree(self.path)
            raise

    def _next(self) -> int:
        highest = max(self._versions(), default=-1)
        if highest == HIGHEST_VERSION:
            raise UsageError(f"{printable(self.model_path)} has a version {highest}, and none can be higher: remove it")
        return max(int(time.time()), highest + 1)

    def _versions(self) -> set[int]:
        """What a server takes for versions: names that are integers, with zeros before or not."""
        try:
            names = tf.io.gfile.listdir(self.model_path) if self._is_remote else os.listdir(self.model_path)
        except tf.errors.NotFoundError:  # a bucket has no folder before its first object
            return set()
        numbers = {int(name) for name in (name.rstrip("/") for name in names) if name.isascii() and name.isdigit()}
        return {number for number in numbers if number <= HIGHEST_VERSION}

    def _is_taken(self) -> bool:
        if self._is_remote:  # files without the last one are left from a run that died: nobody has loaded them
            return bool(tf.io.gfile.exists(f"{self.path}/{_MODEL_FILE}"))
        return self.number in self._versions()

    def _exists(self) -> str:
        return f"{printable(self.path)} exists already, and a version is never overwritten: choose another `version`"

    @property
    def _unwritable(self) -> str:
        return f"`model_store`: {printable(self.model_path)} can't be written"

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return explaining(self._unwritable)
