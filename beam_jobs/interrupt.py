"""What the process of a local run shares with the workers inside it: a wish to stop, and progress.

Beam pickles what it runs, so a worker can't be handed these; on another machine nobody sets or hears them.
"""

import os
import sys
import threading
import time
from collections.abc import Callable

STOP = threading.Event()
"""Set by the first Ctrl-C or SIGTERM; a worker then drops its chunk."""

_at_stop: list[Callable[[], None]] = []
_at_progress: list[Callable[[int], None]] = []


def request_stop() -> None:
    """Asks all workers of this process to stop, and ends what they wait for."""
    STOP.set()
    # Each in a thread of its own, as one that hangs must not keep the others.
    for close in list(_at_stop):
        threading.Thread(target=close, daemon=True).start()


def exit_after(seconds: float, code: int) -> None:
    """Ends the process, whatever still runs in it, unless it ends before.

    Python joins the threads of an executor at exit, so one that hangs in a read or in a name look-up would hold the
    process for as long as that takes. A part is written whole or not at all, so nothing is lost.
    """

    def end() -> None:
        time.sleep(seconds)
        exit_now(code)

    threading.Thread(target=end, daemon=True).start()


def exit_now(code: int) -> None:
    """Ends the process at once, without a word to its threads."""
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")  # the cursor, which the progress bar hides
    os._exit(code)


def at_stop(close: Callable[[], None]) -> None:
    """Registers something that a stop has to end, such as a channel with calls in flight."""
    _at_stop.append(close)


def at_progress(listener: Callable[[int], None]) -> None:
    """Registers a listener of rows that got their outcome."""
    _at_progress.append(listener)


def report_progress(rows: int) -> None:
    """Tells the listeners."""
    for listener in _at_progress:
        listener(rows)


def reset() -> None:
    """Forgets everything, before another run in the same process."""
    STOP.clear()
    _at_stop.clear()
    _at_progress.clear()
