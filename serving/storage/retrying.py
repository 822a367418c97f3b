"""A store whose calls are repeated while it is away, and which says so while it doesn't answer."""

import contextlib
import functools
import itertools
import shutil
from collections.abc import Callable, Iterator
from typing import IO, TypeVar

from serving.errors import StorageUnavailable
from serving.options import RetryPolicy
from serving.retry import Retrier
from serving.storage.base import FileInfo, Storage, scheme, shown, spooled
from serving.waiting import Waiting

T = TypeVar("T")


class RetryingStorage:
    """A `serving.storage.base.Storage` that asks another again after each StorageUnavailable, as its retrier allows."""

    def __init__(self, storage: Storage, retrier: Retrier, patience_s: float = RetryPolicy().patience_s) -> None:
        """`patience_s` is the retrier's, for those who wait."""
        self._storage = storage
        self._retrier = retrier
        self._waiting = functools.cache(lambda place: Waiting(place, patience_s, lambda: "no answer yet"))

    def read(self, path: str, limit: int | None = None) -> bytes:
        return self._call(path, lambda: self._storage.read(path, limit))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return self._call(path, lambda: self._storage.read_range(path, start, end))

    def create(self, path: str, data: bytes) -> bool:
        return self._call(path, lambda: self._storage.create(path, data))

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        if scheme(path) == "":  # which is not away for a moment, and has no need of a copy
            with self._storage.replacing(path) as file:
                yield file
            return

        def send(file: IO[bytes], _: int) -> None:
            def once() -> None:
                file.seek(0)
                with self._storage.replacing(path) as target:
                    shutil.copyfileobj(file, target)

            self._call(path, once)

        with spooled(send) as file:
            yield file

    def exists(self, path: str) -> bool:
        return self._call(path, lambda: self._storage.exists(path))

    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        """As the other one's; a listing that breaks off is gone on with where it did."""
        files = self._begin(folder, after)
        while True:
            try:
                with self._noticed(folder):
                    info = next(files, None)
            except StorageUnavailable:
                files = self._begin(folder, after)
                continue
            if info is None:
                return
            yield info
            after = info.path

    def _begin(self, folder: str, after: str | None) -> Iterator[FileInfo]:
        """A listing that has had its first answer, so each one begun again gets on."""

        def begin() -> Iterator[FileInfo]:
            files = self._storage.walk(folder, after)
            return itertools.chain(list(itertools.islice(files, 1)), files)

        return self._call(folder, begin)

    def delete(self, path: str) -> None:
        self._call(path, lambda: self._storage.delete(path))

    def _call(self, path: str, call: Callable[[], T]) -> T:
        def once() -> T:
            with self._noticed(path):
                return call()

        return self._retrier(once)

    def _noticed(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Says that a bucket, server or disk does not answer, once for all who ask it."""
        return self._waiting("/".join(shown(path).split("/")[:3])).call()
