"""A store whose calls are repeated while it is away."""

import contextlib
from collections.abc import Iterator
from typing import IO

from beam_jobs.storage import FileInfo, Storage
from serving.retry import Retrier


class Patient:
    """A `beam_jobs.storage.Storage` that asks another one again after each StorageUnavailable, as its retrier allows.

    But for `replacing`, which can't be begun again once the caller has written: its step has to be repeated.
    """

    def __init__(self, storage: Storage, retrier: Retrier) -> None:
        self._storage = storage
        self._retrier = retrier

    def read(self, path: str, limit: int | None = None) -> bytes:
        return self._retrier(lambda: self._storage.read(path, limit))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return self._retrier(lambda: self._storage.read_range(path, start, end))

    def create(self, path: str, data: bytes) -> bool:
        return self._retrier(lambda: self._storage.create(path, data))

    def replacing(self, path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self._storage.replacing(path)

    def exists(self, path: str) -> bool:
        return self._retrier(lambda: self._storage.exists(path))

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Whole before its first file, so for a run's own folder and not for pictures."""
        yield from self._retrier(lambda: list(self._storage.walk(folder)))

    def delete(self, path: str) -> None:
        self._retrier(lambda: self._storage.delete(path))
