"""Handles SIGINT and SIGTERM at once, whichever thread the system gives them to.

Python runs its own signal handlers in the main thread, between two bytecodes. A main thread that waits for a lock is
woken only by a signal that it takes itself; where another thread of the process takes it, as happens under load, the
handler runs when the wait is over, which may be never. So the numbers go through a socket to a thread that reads them
(`signal.set_wakeup_fd` of Python's library reference).
"""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handling_signals(
    handle: Callable[[int], None], in_main: Callable[[int], None] = lambda number: None
) -> Iterator[None]:
    """Calls `handle` with the number of each SIGINT and SIGTERM, in a thread of its own, while the block runs.

    To be entered in the main thread.

    Args:
      handle: is called with every signal, at once.
      in_main: is called in the main thread, as soon as that runs Python again; what it raises is raised in the block.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    def read() -> None:
        while numbers := reading.recv(64):
            for number in numbers:
                if number in ENDING:
                    handle(number)

    threading.Thread(target=read, name="signals", daemon=True).start()
    descriptor = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda number, _: in_main(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        writing.close()  # which ends the thread
