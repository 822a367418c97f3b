"""The life of one version of one model, and the policy that says which one to load or unload next."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Collection, Iterable

from serving.server.models.servable import Servable
from serving.server.rpc.status_error import StatusError


class State(enum.IntEnum):
    """The states of GetModelStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(eq=False)
class Version:
    """A version folder and what became of it. The manager's lock guards the fields."""

    model: str
    number: int
    path: str
    state: State = State.START
    error: StatusError | None = None
    """Why the last attempt to load failed; the version is over when the state is END, too."""
    attempts: int = 0
    retry_at: float = 0.0
    """Monotonic time before which it is not tried again."""
    leased: LeasedServable | None = None

    @property
    def failed_for_good(self) -> bool:
        """Whether it failed to load and won't be tried again."""
        return self.state is State.END and self.error is not None


class LeasedServable:
    """A servable that is closed when the last of those who hold it has let go: at first the manager, then requests."""

    def __init__(self, servable: Servable) -> None:
        """Made with one lease, the manager's own, until it retires the servable."""
        self.servable = servable
        self._lock = threading.Lock()
        self._leases = 1
        self._closed = threading.Event()

    def acquire(self) -> None:
        """Keeps the servable loaded until `release`. The caller must know that it isn't retired yet."""
        with self._lock:
            self._leases += 1

    def release(self) -> None:
        """Gives up one lease."""
        with self._lock:
            self._leases -= 1
            last = self._leases == 0
        if last:
            self.servable.close()
            self._closed.set()

    def wait_closed(self, timeout_s: float | None = None) -> bool:
        """Waits until the last lease has been given up."""
        return self._closed.wait(timeout_s)


@dataclasses.dataclass(frozen=True)
class Action:
    """Load or unload that version now."""

    load: bool
    version: Version


def next_action(known: Iterable[Version], aspired: Collection[int], now: float) -> Action | None:
    """The availability-preserving policy for one model.

    A version that is no longer wanted is unloaded, lowest first, once a wanted one serves, or none is wanted, or
    another unwanted one can serve meanwhile. Otherwise the highest wanted version that is not loaded is loaded.
    """
    serving = [version for version in known if version.state is State.AVAILABLE]
    unwanted = [version for version in serving if version.number not in aspired]
    if unwanted and (not aspired or len(unwanted) > 1 or len(unwanted) < len(serving)):
        return Action(load=False, version=min(unwanted, key=lambda version: version.number))
    waiting = [
        version
        for version in known
        if version.number in aspired and version.state in (State.START, State.LOADING) and version.retry_at <= now
    ]
    return Action(load=True, version=max(waiting, key=lambda version: version.number)) if waiting else None
