"""Which processes work on a run just now, wherever they are: each keeps a file of its own in the run's folder alive.

A file's name is `WORKER.BEAT`, and its beat is counted up every few seconds. A process whose beat stands still is gone.
Each judges that by its own clock alone, so clocks need not agree. One listing tells all, and no file is read.
"""

import re
import time
import uuid
from collections.abc import Callable

from serving.storage.base import Storage, join

PERIOD_S = 5.0
"""Seconds from beat to beat."""
GONE_AFTER_S = 4 * PERIOD_S
_NAME = re.compile(r"(?P<worker>[0-9a-f]{32})\.(?P<beat>\d+)")


class LiveWorkers:
    """The processes that work on a run, as one of them sees them. For one thread."""

    def __init__(self, storage: Storage, folder: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Announces nothing yet.

        Args:
          storage: holds the folder.
          folder: has the files of this run's processes, and nothing else.
          clock: gives seconds.
        """
        self._storage = storage
        self._folder = folder
        self._clock = clock
        self._me = uuid.uuid4().hex
        self._beat = 0
        self._seen: dict[str, tuple[int, float]] = {}
        """The last beat of each other process, and when it was first seen."""

    def beat(self) -> int:
        """Says that this process is alive, and counts those that are, itself included.

        Raises:
          StorageError: the folder can't be written to or listed.
        """
        self._storage.create(self._path(self._me, self._beat + 1), b"")
        self._storage.delete(self._path(self._me, self._beat))
        self._beat += 1
        now = self._clock()
        found = self._others()
        self._seen = {
            worker: self._seen[worker] if worker in self._seen and self._seen[worker][0] == beat else (beat, now)
            for worker, beat in found.items()
        }
        gone = [worker for worker, (_, since) in self._seen.items() if now - since >= GONE_AFTER_S]
        for worker in gone:
            self._storage.delete(self._path(worker, found[worker]))
        return 1 + len(found) - len(gone)

    def leave(self) -> None:
        """Says that this process is no longer one of them."""
        self._storage.delete(self._path(self._me, self._beat))

    def _others(self) -> dict[str, int]:
        """The newest beat of each other process."""
        found: dict[str, int] = {}
        for info in self._storage.walk(self._folder):
            name = _NAME.fullmatch(info.name)
            if name and name["worker"] != self._me:
                found[name["worker"]] = max(int(name["beat"]), found.get(name["worker"], 0))
        return found

    def _path(self, worker: str, beat: int) -> str:
        return join(self._folder, f"{worker}.{beat}")
