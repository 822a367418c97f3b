"""How Ctrl-C and SIGTERM end a command that may be repeated."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from beam_jobs import stop_request
from serving.console.terminal import say
from serving.errors import Transient
from serving.process.signals import handling_signals

_STOP_WITHIN_S = 2.5


@contextlib.contextmanager
def stoppable(command: str, kept: Callable[[], str], then: str = "the same command continues") -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the block within seconds; a second one ends the process at once.

    Args:
      command: its name.
      kept: says how many images are done, if that is known.
      then: says what the same command does next.
    """
    received: list[int] = []
    interrupted = f"flow-images {command}: interrupted; {then}"

    def handle(number: int) -> None:
        if received:
            stop_request.exit_now(128 + number, interrupted)
        received.append(number)
        stop_request.exit_after(_STOP_WITHIN_S, 128 + number, interrupted)
        print("\nstopping; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)
        stop_request.request_stop()

    try:
        with handling_signals(handle):
            yield
    except Exception as error:
        # Work that a stop breaks off may fail in any way; without a stop the error counts.
        if not received:
            if isinstance(error, Transient):
                error.add(f"; {kept() or 'what is done is kept'}: {then}")
            raise
        say(interrupted + (f" ({kept()})" if kept() else ""), err=True)
        sys.exit(128 + received[0])
