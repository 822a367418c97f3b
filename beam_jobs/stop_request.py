"""The request to stop the runs of this process, and the end of the process itself.

Beam pickles what it runs, so a worker in this process can't be given an event or be closed from outside. The request
is therefore the process's own. It does not reach the workers that a runner starts on other machines.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from serving.errors import Resumable

_STDERR = os.dup(2)
"""The terminal, also while TensorFlow's import turns descriptor 2 elsewhere."""


class Interrupted(Resumable):
    """The run was asked to stop; the parts that are written stay."""


class StopRequest:
    """A request to stop some work, which any thread may make."""

    def __init__(self) -> None:
        self.made = threading.Event()
        """Set once it is made: waits end early."""
        self._closers: list[Callable[[], object]] = []

    def make(self) -> None:
        """Makes the request, and closes what the work waits for."""
        self.made.set()
        # Each in a thread of its own, as one that hangs must not keep the others waiting.
        for close in list(self._closers):
            threading.Thread(target=close, daemon=True).start()

    @contextlib.contextmanager
    def closing(self, close: Callable[[], object]) -> Iterator[None]:
        """Calls `close` if the request is made before or inside the block, such as for a channel with calls in flight.

        It may be called twice.
        """
        self._closers.append(close)
        try:
            if self.made.is_set():
                close()
            yield
        finally:
            self._closers.remove(close)


OF_RUNS = StopRequest()
"""Asks the runs of this process to stop."""
STOP = OF_RUNS.made
"""Set while the runs of this process are asked to stop: waits end early, and workers drop their chunks."""
request_stop = OF_RUNS.make
closed_on_stop = OF_RUNS.closing

_lock = threading.Lock()
_runs = 0


def raise_if_stopped() -> None:
    """Raises Interrupted after `request_stop`."""
    if STOP.is_set():
        raise Interrupted("interrupted; the same command continues")


@contextlib.contextmanager
def run_in_progress() -> Iterator[None]:
    """Entered by each run. The last one to end withdraws the request to stop, so that a later run can start."""
    global _runs
    with _lock:
        _runs += 1
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if _runs == 0:
                STOP.clear()


def wait_for_stopped_runs() -> None:
    """Returns when no run is left that was asked to stop, so that a new one isn't taken for one of them."""
    while STOP.is_set() and _runs:
        time.sleep(0.05)


def exit_after(seconds: float, code: int, line: str) -> None:
    """Writes a line to stderr and ends the process after some time, whatever still runs in it.

    Python joins the threads of an executor at exit, so one that hangs in a read or in a name look-up would hold the
    process for as long as that takes. A part is written whole or not at all, so nothing is lost.
    """

    def end() -> None:
        time.sleep(seconds)
        exit_now(code, line)

    threading.Thread(target=end, daemon=True).start()


def exit_now(code: int, line: str) -> None:
    """Writes a line to stderr and ends the process at once, without waiting for its threads."""
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # shows the cursor again, which the progress bar hides
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"{cursor}{line}\n".encode())
    os._exit(code)
