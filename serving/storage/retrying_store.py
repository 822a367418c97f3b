"""A store whose calls are repeated while it is away, and which says so while it doesn't answer."""

import contextlib
import copy
import functools
import itertools
import shutil
from collections.abc import Callable, Iterator
from typing import IO, Self, TypeVar

from typing_extensions import override

from serving.console.waiting import Waiting
from serving.errors import StorageUnavailable
from serving.network.retry import Retrier
from serving.storage.base import Fetched, FileInfo, Stamp, Storage, scheme, shown, spooled

T = TypeVar("T")


class RetryingStorage(Storage):
    """A `serving.storage.base.Storage` that asks another again after each StorageUnavailable, as its retrier allows."""

    def __init__(self, storage: Storage, retrier: Retrier, patience_s: float | None = None) -> None:
        """`patience_s` is what the user is told; None for the retrier's."""
        up_to_s = retrier.patience_s if patience_s is None else patience_s
        self._storage = storage
        self._retrier = retrier
        self._patience: Callable[[], float] | None = None
        self._waiting = functools.cache(lambda place: Waiting(place, up_to_s, lambda: "no answer yet"))

    def within(self, patience: Callable[[], float]) -> Self:
        """The same store with another patience: seconds, asked for after each failed try; 0 for a single try."""
        other = copy.copy(self)
        other._patience = patience
        return other

    @override
    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        return self._call(path, lambda: self._storage.fetch(path, limit))

    @override
    def stamp(self, path: str) -> Stamp:
        return self._call(path, lambda: self._storage.stamp(path))

    @override
    def read(self, path: str, limit: int | None = None) -> bytes:
        return self._call(path, lambda: self._storage.read(path, limit))

    @override
    def read_range(self, path: str, start: int, end: int) -> bytes:
        return self._call(path, lambda: self._storage.read_range(path, start, end))

    @override
    def create(self, path: str, data: bytes) -> bool:
        return self._call(path, lambda: self._storage.create(path, data))

    @override
    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        if scheme(path) == "":  # a disk is not away for a moment, so no copy is needed
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

    @override
    def exists(self, path: str) -> bool:
        return self._call(path, lambda: self._storage.exists(path))

    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        """Lists as the wrapped store does; a listing that breaks off is continued from there."""
        files = self._begin(folder, after)
        while True:
            try:
                with self._watched(folder):
                    info = next(files, None)
            except StorageUnavailable:
                files = self._begin(folder, after)
                continue
            if info is None:
                return
            yield info
            after = info.path

    def _begin(self, folder: str, after: str | None) -> Iterator[FileInfo]:
        """A listing whose first answer has come, so that each attempt makes progress."""

        def begin() -> Iterator[FileInfo]:
            files = self._storage.walk(folder, after)
            return itertools.chain(list(itertools.islice(files, 1)), files)

        return self._call(folder, begin)

    @override
    def delete(self, path: str) -> None:
        self._call(path, lambda: self._storage.delete(path))

    def _call(self, path: str, call: Callable[[], T]) -> T:
        return self._retrier(call, self._patience, self._waiting(_place(path)))

    def _watched(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Has the user told, once for all callers, that a bucket, server or disk does not answer."""
        return self._waiting(_place(path)).call()


def _place(path: str) -> str:
    return "/".join(shown(path).split("/")[:3])
