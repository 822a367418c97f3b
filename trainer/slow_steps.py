"""Tells the user what a run is doing while a step takes long."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_FIRST_S, _LONGEST_S = 5.0, 60.0


@contextlib.contextmanager
def reporting(what: str, note: Callable[[str], None]) -> Iterator[None]:
    """Notes after some seconds, and then again and again, that the block is not done yet.

    Args:
      what: `checking 5 images`.
      note: is told, in a thread of its own.
    """
    done = threading.Event()
    started = time.monotonic()

    def say() -> None:
        pause = _FIRST_S
        while not done.wait(pause):
            note(f"still {what}, for {time.monotonic() - started:.0f} s now")
            pause = min(2 * pause, _LONGEST_S)

    threading.Thread(target=say, name="reporting", daemon=True).start()
    try:
        yield
    finally:
        done.set()
