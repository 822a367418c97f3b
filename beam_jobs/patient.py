"""A store whose calls are repeated while it is away, and which says so while it doesn't answer."""

import contextlib
import itertools
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TypeVar

from beam_jobs.storage import MOST_WAIT_S, FileInfo, Storage, StorageUnavailable, scheme, spooled, storage_for
from serving.options import RetryPolicy
from serving.retry import Retrier

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_SILENCE_S = 4.0
"""Seconds without an answer after which who waits hears of it."""
_QUIET_S = 30.0
"""Seconds between two such warnings about a bucket or disk."""
_LEAST_WAIT_S = 2.0


def patient_storage(path: str, beam_flags: Sequence[str], policy: RetryPolicy, retrier: Retrier) -> "Patient":
    """The storage that holds a path; no single try of it takes longer than all are meant to."""
    wait_s = min(MOST_WAIT_S, max(_LEAST_WAIT_S, policy.patience_s))
    return Patient(storage_for(path, beam_flags, wait_s), retrier, policy.patience_s)


class Patient:
    """A `beam_jobs.storage.Storage` that asks another again after each StorageUnavailable, as its retrier allows."""

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
                with _SILENCES.noticed(folder, self._patience_s):
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
            with _SILENCES.noticed(path, self._patience_s):
                return call()

        return self._retrier(once)


class _Silences:
    """Warns of calls that are long without an answer: one thread looks at those that are under way."""

    def __init__(self) -> None:
        self._under_way: dict[int, tuple[str, float, float]] = {}
        self._numbers = itertools.count()
        self._watching = threading.Lock()

    @contextlib.contextmanager
    def noticed(self, path: str, patience_s: float) -> Iterator[None]:
        """Warns if the block is not over in a few seconds."""
        number = next(self._numbers)
        self._under_way[number] = path, patience_s, time.monotonic()
        if self._watching.acquire(blocking=False):
            threading.Thread(target=self._watch, name="silence", daemon=True).start()
        try:
            yield
        finally:
            del self._under_way[number]

    def _watch(self) -> None:
        quiet_until: dict[str, float] = {}
        while True:
            time.sleep(_SILENCE_S / 4)
            now = time.monotonic()
            for path, patience_s, since in list(self._under_way.values()):
                place = "/".join(path.split("/")[:3])
                if now - since < _SILENCE_S or now < quiet_until.get(place, 0):
                    continue
                quiet_until[place] = now + _QUIET_S
                _LOG.warning("no answer for %g s about %s; waiting on, and trying again for up to %g s (--patience)",
                             _SILENCE_S, path, patience_s)  # fmt: skip


_SILENCES = _Silences()
