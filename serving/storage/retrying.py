"""A store whose calls are repeated while it is away, and which says so while it doesn't answer."""

import contextlib
import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TypeVar

from serving.errors import StorageUnavailable
from serving.options import RetryPolicy
from serving.retry import Retrier
from serving.storage.base import MOST_WAIT_S, FileInfo, Storage, scheme, spooled, storage_for
from serving.waiting import Waiting

T = TypeVar("T")
_LEAST_WAIT_S = 2.0


def retrying_storage(path: str, beam_flags: Sequence[str], policy: RetryPolicy, retrier: Retrier) -> "RetryingStorage":
    """The storage that holds a path; no single try of it takes longer than all are meant to."""
    wait_s = min(MOST_WAIT_S, max(_LEAST_WAIT_S, policy.patience_s))
    return RetryingStorage(storage_for(path, beam_flags, wait_s), retrier, policy.patience_s)


class RetryingStorage:
    """A `serving.storage.base.Storage` that asks another again after each StorageUnavailable, as its retrier allows."""

    def __init__(self, storage: Storage, retrier: Retrier, patience_s: float = RetryPolicy().patience_s) -> None:
        """`patience_s` is the retrier's, for those who wait."""
        self._storage = storage
        self._retrier = retrier
        self._patience_s = patience_s

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
        return _waiting("/".join(path.split("/")[:3]), self._patience_s).call()


@functools.cache
def _waiting(place: str, patience_s: float) -> Waiting:
    """Says that a bucket or a disk does not answer; one for all who ask it."""
    return Waiting(place, patience_s, lambda: "no answer yet")
