"""Ctrl-C and SIGTERM: a run cleans up, prints its outcome in one line, and ends with 130 or 143."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from serving.process.signals import handling_signals


class Stopped(BaseException):
    """Raised in the main thread by the first signal; not an Exception, so that no handler of errors catches it."""


class Stopping:
    """The signals that came."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._is_held = False

    def stop(self, number: int) -> None:
        """Raises Stopped at the first signal; to be called in the main thread."""
        if self.number is None:
            self.number = number
            if not self._is_held:
                raise Stopped

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Lets a signal wait until the block, a short one, is done."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self.number is not None:
            raise Stopped


def _remove_generated() -> None:
    """Removes the source files that TensorFlow's AutoGraph has written, as it would itself at a usual end."""
    for name, module in list(sys.modules.items()):
        if name.startswith("__autograph_generated_file") and module.__file__:
            with contextlib.suppress(OSError):
                os.unlink(module.__file__)


@contextlib.contextmanager
def stoppable(
    ending: Callable[[], str], clean_up: Callable[[], None] = lambda: None, within_s: float = 5.0
) -> Iterator[Stopping]:
    """Ends the process, by its exit code, when a signal comes while the block runs; a second one does so at once.

    To be entered in the main thread.

    Args:
      ending: gives the outcome of the run as a line, when the block was left. Nothing is printed if it is empty.
      clean_up: does what the block's own `finally` would, if the block is not left in time, or not at all.
      within_s: time to leave the block. TensorFlow can't be interrupted inside a step, and a step may take longer.
    """
    stderr = os.dup(2)  # which is turned elsewhere while TensorFlow is imported
    has_ended = threading.Lock()
    is_stopping = False

    def end(number: int) -> None:
        if has_ended.acquire(blocking=False):
            cursor = b"\x1b[?25h" if os.isatty(stderr) else b""  # the progress bar hides it
            line = ending()
            with contextlib.suppress(OSError):
                os.write(stderr, cursor + (f"{line}\n".encode(errors="backslashreplace") if line else b""))
            _remove_generated()
            os._exit(128 + number)

    def end_now(number: int) -> None:
        try:
            clean_up()
        finally:
            end(number)

    def end_in_time(number: int) -> None:
        time.sleep(within_s)
        end_now(number)

    def on_signal(number: int) -> None:
        nonlocal is_stopping
        if is_stopping:
            end_now(number)
        is_stopping = True
        threading.Thread(target=end_in_time, args=(number,), daemon=True).start()

    def unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, Stopped):  # a Stopped raised in a destructor: `end_in_time` ends the process
            show(lost)

    stopping = Stopping()
    show, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        with handling_signals(on_signal, stopping.stop):
            yield stopping
    except BaseException:
        # Work that a stop breaks off may fail in any way; without a stop the error counts.
        if stopping.number is None:
            raise
    finally:
        if stopping.number is not None:
            end(stopping.number)
            threading.Event().wait()  # another thread is ending the process
        sys.unraisablehook = show
        os.close(stderr)
