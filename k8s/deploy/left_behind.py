"""What remains in the cluster when the command is interrupted or loses it: one line, and exit code 130, 143 or 75."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import click

from k8s.deploy.cluster_errors import DeployError, StillThere, Unreachable


class Remains:
    """What the command leaves in the cluster if it ends just now, in words."""

    def __init__(self) -> None:
        self.words = "nothing was changed in the cluster"


def current_remains() -> Remains:
    """That of the command that runs."""
    remains = click.get_current_context().find_object(Remains)
    assert remains is not None, "the command's group sets it"
    return remains


class _Stopped(KeyboardInterrupt):
    """A signal that ends the command; `args` is (its number,)."""


@contextlib.contextmanager
def explaining_remains(remains: Remains) -> Iterator[None]:
    """Adds what remains to a signal, a cluster that gives no answer, and the end of waiting for what goes on.

    To be entered in the main thread.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Ignored under `nohup`, and so it stays.
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, _stop)
    try:
        yield
    except KeyboardInterrupt as stopped:
        for number in ours:
            signal.signal(number, signal.SIG_IGN)  # So that a second signal can't suppress the message.
        number = stopped.args[0] if stopped.args else signal.SIGINT
        raise DeployError(f"interrupted: {remains.words}", 128 + number) from stopped
    except (StillThere, Unreachable) as error:
        raise type(error)(f"{error}; {remains.words}") from error
    finally:
        for number in ours:
            signal.signal(number, before[number])


def leave_signals_to_main_thread() -> None:
    """Is called first in every other thread: a signal that such a thread takes waits until the main one wakes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


def _stop(number: int, _: FrameType | None) -> None:
    raise _Stopped(number)
