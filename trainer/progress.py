"""What a training tells of itself while it runs: its steps, its epochs, and notes."""

import logging
from typing import NamedTuple

_LOG = logging.getLogger(__name__)


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
