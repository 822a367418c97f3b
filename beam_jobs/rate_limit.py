"""One limit of requests a second for all workers of a run, on any number of machines.

Each process takes an equal share of the rate, by the number of those that are alive (see `beam_jobs.live_workers`), and
spaces its requests evenly. The shares never add up to more than the rate: a process waits until all others must have
noticed it before its first request, and makes none without a count that is new enough. So in any time t the server gets
at most rate × t requests, and one more from each process.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from beam_jobs.live_workers import GONE_AFTER_S, PERIOD_S, LiveWorkers
from serving.storage.base import Storage

_VALID_S = 2 * PERIOD_S
"""How long a count may be used, and so how long a new process waits for the others."""
_LINGER_S = 4 * PERIOD_S
"""How long a limit lives after its last user."""


class Share:
    """The share of one process: when it may make its next request. Knows no clock and no storage."""

    def __init__(self, rate: float) -> None:
        """`rate` is that of all processes together, in requests a second."""
        self._rate = rate
        self._live = 0
        self._counted = self._free_from = self._next = float("-inf")

    def count(self, live: int, began: float, ended: float) -> None:
        """Notes how many processes are alive, this one included, by a count that took from `began` to `ended`."""
        is_new = began - self._counted >= GONE_AFTER_S - PERIOD_S  # or so late that others may think it gone
        if is_new and live > 1:
            self._free_from = ended + _VALID_S
        if self._live:  # what is waited for is spaced anew
            self._next += (live - self._live) / self._rate
        self._live, self._counted = live, began

    def wait(self, now: float) -> float:
        """Seconds until the next request; 0 if it may be made now, and then it counts as made."""
        if now - self._counted >= _VALID_S:
            return PERIOD_S / 10
        left = max(self._free_from, self._next) - now
        if left > 0:
            return left
        self._next = now + self._live / self._rate
        return 0.0


class RateLimit:
    """The share of this process, kept up to date by a thread. Safe to use from several threads."""

    def __init__(self, rate: float, workers: LiveWorkers) -> None:
        """Starts the thread.

        Args:
          rate: requests a second of all processes together.
          workers: those processes.
        """
        self.users = 0
        self.left = time.monotonic()
        """When the last user left."""
        self._share = Share(rate)
        self._workers = workers
        self._turns, self._lock = threading.Lock(), threading.Lock()
        self._failure: Exception | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_counting, name="rate-limit", daemon=True)
        self._thread.start()

    def turn(self, stop: threading.Event) -> None:
        """Returns when a request may be made, or when `stop` is set.

        Raises:
          StorageError: the other processes can't be counted.
        """
        with self._turns:
            while not stop.is_set():
                with self._lock:
                    if self._failure:
                        raise self._failure
                    left = self._share.wait(time.monotonic())
                if not left:
                    return
                stop.wait(min(left, PERIOD_S / 10))

    @property
    def failed(self) -> bool:
        """Can the other processes no longer be counted?"""
        return self._failure is not None

    def close(self) -> None:
        """Leaves the rate to the other processes."""
        self._closed.set()
        self._thread.join(PERIOD_S)

    def _keep_counting(self) -> None:
        try:
            while not self._closed.is_set():
                began = time.monotonic()
                live = self._workers.beat()
                with self._lock:
                    self._share.count(live, began, time.monotonic())
                self._closed.wait(PERIOD_S)
            self._workers.leave()
        except Exception as error:
            with self._lock:
                self._failure = error


_limits: dict[str, RateLimit] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def rate_limit(rate: float, storage: Storage, folder: str) -> Iterator[RateLimit]:
    """The limit of this process for the run whose processes announce themselves in a folder; all its workers share it.

    It lives on for a while after its last user, as a runner may make a new worker for each chunk.
    """
    with _lock:
        limit = _limits.get(folder)
        if limit is None or limit.failed:
            limit = _limits[folder] = RateLimit(rate, LiveWorkers(storage, folder))
        limit.users += 1
    try:
        yield limit
    finally:
        with _lock:
            limit.users -= 1
            limit.left = time.monotonic()
        later = threading.Timer(_LINGER_S, close_unused)
        later.daemon = True
        later.start()


def close_unused(folder: str | None = None) -> None:
    """Closes limits that nobody has used for a while; that of a folder now, at the end of a run in this process."""
    with _lock:
        long_ago = time.monotonic() - _LINGER_S
        unused = [
            name for name, limit in _limits.items() if not limit.users and (name == folder or limit.left <= long_ago)
        ]
        closing = [_limits.pop(name) for name in unused]
    for limit in closing:
        limit.close()
