"""Values that the threads of a worker's process share."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar


class Closeable(Protocol):
    """A value that has to be closed after its last use."""

    def close(self) -> None:
        """Ends it."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Closeable)


class SharedInProcess(Generic[K, V]):
    """Values by key, each made for its first user and closed after its last. Safe to use from several threads."""

    def __init__(self, make: Callable[[K], V]) -> None:
        """`make` gives the value of a key."""
        self._make = make
        self._lock = threading.Lock()
        self._values: dict[K, Future[V]] = {}
        self._users: dict[K, int] = {}

    def acquire(self, key: K) -> V:
        """The value of a key, to be released once.

        Who comes while it is made waits for it, and shares the error if it can't be: making it may take a server's
        whole patience, which threads must not wait for one after the other.
        """
        with self._lock:
            mine: Future[V] | None = None
            if key not in self._values:
                mine = self._values[key] = Future()
            value = self._values[key]
            self._users[key] = self._users.get(key, 0) + 1
        if mine is not None:
            try:
                mine.set_result(self._make(key))
            except BaseException as error:
                with self._lock:
                    del self._values[key]
                mine.set_exception(error)
        try:
            return value.result()
        except BaseException:
            self._leave(key)
            raise

    def release(self, key: K) -> None:
        """Closes the value after its last user."""
        self._leave(key)

    def users(self, key: K) -> int:
        """How many have the value, or wait for it."""
        with self._lock:
            return self._users.get(key, 0)

    def _leave(self, key: K) -> None:
        with self._lock:
            self._users[key] -= 1
            if self._users[key] == 0:
                del self._users[key]
                if key in self._values:  # it could be made
                    self._values.pop(key).result().close()
