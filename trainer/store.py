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

from serving.errors import UsageError

_MODEL_FILE = "saved_model.pb"
_SCHEMES = ("gs", "ram")
"""What TensorFlow writes besides disks; ram:// is its file system in memory, which is gone with the process."""


class Version:
    """A version that is to be published: asked for before training, so that no hours are spent for nothing."""

    def __init__(self, store: str, name: str, number: int | None = None) -> None:
        """Takes a number that is free.

        Args:
          store: a folder on a disk, or gs://.
          name: of the model.
          number: of the version; None for the seconds since 1970.
        Raises:
          UsageError: the version exists, the name can't be served, or the store can't be written.
        """
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
            raise UsageError(f"--name {name}: expected letters, digits, '.', '-' and '_', as it becomes part of URLs")
        scheme = store.partition("://")[0] if "://" in store else ""
        if scheme and scheme not in _SCHEMES:
            raise UsageError(
                f"--model-store {store}: TensorFlow can't write {scheme}://; export to a folder, and copy it there "
                f"with {_MODEL_FILE} last"
            )
        self.number = int(time.time()) if number is None else number
        self.model_path = f"{store.rstrip('/')}/{name}"
        self.path = f"{self.model_path}/{self.number}"
        self._is_remote = bool(scheme)
        with self._refusals():
            if not self._is_remote:
                Path(self.model_path).mkdir(parents=True, exist_ok=True)
                if not os.access(self.model_path, os.W_OK):
                    raise PermissionError(13, "no permission to write")
            # In a bucket, files without the last one are left from a run that died: nobody has loaded them.
            if tf.io.gfile.exists(f"{self.path}/{_MODEL_FILE}" if self._is_remote else self.path):
                raise UsageError(self._exists())

    @contextlib.contextmanager
    def staging(self) -> Iterator[str]:
        """A folder that doesn't exist yet, on this machine's disk, removed in the end if it was not published."""
        # Beside its place, so that a rename is enough; no server takes a name that is no integer for a version.
        parent = None if self._is_remote else self.model_path
        with self._refusals():
            aside = tempfile.mkdtemp(prefix=f".publishing-{self.number}-", dir=parent)
        try:
            yield f"{aside}/{self.number}"
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def publish(self, folder: str) -> None:
        """Makes a staged folder the version.

        Raises:
          UsageError: somebody else published it meanwhile, or the store can't be written any more.
        """
        if not self._is_remote:
            try:
                os.rename(folder, self.path)
            except OSError as error:
                raise UsageError(self._exists() if os.path.exists(self.path) else self._refused(error)) from error
            return
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        with self._refusals():
            if tf.io.gfile.exists(self.path):  # what is left of an upload that died
                tf.io.gfile.rmtree(self.path)
            for path in sorted(files, key=lambda path: (path.name == _MODEL_FILE, path)):
                target = f"{self.path}/{path.relative_to(folder)}"
                tf.io.gfile.makedirs(target.rpartition("/")[0])
                tf.io.gfile.copy(str(path), target, overwrite=True)

    def _exists(self) -> str:
        return f"{self.path} exists already, and a version is never overwritten: choose another --version"

    def _refused(self, error: Exception) -> str:
        why = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        return f"--model-store: {self.model_path} can't be written: {why}"

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise UsageError(self._refused(error)) from error
