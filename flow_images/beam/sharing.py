"""Values that the threads of a worker's process share."""

import threading
from collections.abc import Callable, Hashable
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
        self._values: dict[K, V] = {}
        self._users: dict[K, int] = {}

    def acquire(self, key: K) -> V:
        """The value of a key, to be released once; others wait while one is made."""
        with self._lock:
            if key not in self._values:
                self._values[key] = self._make(key)
            self._users[key] = self._users.get(key, 0) + 1
            return self._values[key]

    def release(self, key: K) -> None:
        """Closes the value after its last user."""
        with self._lock:
            self._users[key] -= 1
            if self._users[key] == 0:
                del self._users[key]
                self._values.pop(key).close()
