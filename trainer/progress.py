"""What a training tells of itself while it runs: its steps, its epochs, and notes."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

_LOG = logging.getLogger(__name__)
_FIRST_S, _LONGEST_S = 5.0, 60.0
"""Seconds until a slow step is told of, and between two times at most."""


class Epoch(NamedTuple):
    """The results of one pass over the training images."""

    number: int
    """The number of the epoch, counted from 1."""
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


class Progress:
    """Is told how a training goes on. This one logs notes and ignores the rest; a command shows all of it."""

    def begin(self, step: str, total: int | None = None) -> None:
        """A step begins, and the one before is over.

        Args:
          step: `running 125 images through the hub module`.
          total: how many times `advance` will count, if that is known.
        """

    def advance(self, count: int = 1) -> None:
        """Says that more of the step is done."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """An epoch is over.

        Args:
          epoch: its results.
          epochs: how many there will be at most.
        """

    def note(self, text: str) -> None:
        """Says, in a sentence, something that a user should know."""
        _LOG.warning(text.removeprefix("WARNING: "))


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
