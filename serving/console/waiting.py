"""Tells the user what is waited for, why and how long: after two seconds, and then every 30."""

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)
_SAY_AFTER_S = 2.0
_SAY_AGAIN_S = 30.0


class Waiting:
    """What the calls to one server or store wait for. Safe to share between threads."""

    def __init__(self, what: str, up_to_s: float, why: Callable[[], str] | None = None, one_try_s: float = 0.0) -> None:
        """Says nothing yet.

        Args:
          what: as a user knows it, such as HOST:PORT; may be empty where the reasons name it.
          up_to_s: how long tries that fail are repeated.
          why: why a call that has not come back may take so long; None to leave such calls alone.
          one_try_s: how long one call may take.
        """
        self._what = f" for {what}" if what else ""
        self._name = what
        self._up_to_s = up_to_s
        self._why = why
        self._one_try_s = one_try_s
        self._lock = threading.Lock()
        self._calls: dict[int, float] = {}
        self._longest = 0.0
        self._since: float | None = None
        """Since when something has been wrong; None while all is well."""
        self._said = float("-inf")

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Around one try of a call: it is watched, and its success ends the wait."""
        started = time.monotonic()
        with self._lock:
            token = max(self._calls, default=0) + 1
            self._calls[token] = started
        if self._why:
            _watch(self)
        try:
            yield
            self._went_well(started)
        finally:
            with self._lock:
                del self._calls[token]

    def refused(self, reason: object, since: float) -> None:
        """A try failed, and another one will be made.

        Args:
          reason: in words.
          since: when the first of the tries began.
        """
        with self._lock:
            self._since = min(since, self._since or since)
        self._say(reason, self._up_to_s)

    def check(self) -> None:
        """Tells the user of a call that takes much longer than those that came back."""
        now = time.monotonic()
        with self._lock:
            oldest = min(self._calls.values(), default=now)
            if now - oldest < _SAY_AFTER_S + 2 * self._longest:
                return
            self._since = min(oldest, self._since or oldest)
            due = now - self._said > _SAY_AGAIN_S
        if due and self._why:
            self._say(self._why(), max(self._up_to_s, self._one_try_s))

    def _went_well(self, started: float) -> None:
        now = time.monotonic()
        with self._lock:
            self._longest = max(self._longest, now - started)
            since, self._since = self._since, None
            if since is None or self._said < since or now - since < _SAY_AFTER_S:
                return  # short waits may follow one another; the user is told of them once
            self._said = float("-inf")
        _LOG.warning("%s answers, after %.0f s", self._name or "it", now - since)

    def _say(self, reason: object, up_to_s: float) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._said < _SAY_AGAIN_S or self._since is None:
                return
            first = self._said < self._since
            self._said, waited = now, now - self._since
        if first:
            _LOG.warning("waiting up to %g s%s: %s", up_to_s, self._what, reason)
        else:
            _LOG.warning("still waiting%s, %.0f s of up to %g s: %s", self._what, waited, up_to_s, reason)


_watched: weakref.WeakSet[Waiting] = weakref.WeakSet()
_watcher: list[threading.Thread] = []
_LOCK = threading.Lock()


def _watch(waiting: Waiting) -> None:
    """Has the one thread of this process check it from now on."""
    if waiting in _watched:
        return
    with _LOCK:
        _watched.add(waiting)
        if not _watcher or not _watcher[0].is_alive():  # which it is not after a fork, either
            _watcher[:] = [threading.Thread(target=_check_all, name="waiting", daemon=True)]
            _watcher[0].start()


def _check_all() -> None:
    while True:
        time.sleep(0.5)
        with _LOCK:
            watched = list(_watched)
        for waiting in watched:
            waiting.check()
