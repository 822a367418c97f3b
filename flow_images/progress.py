"""How far `fi.predict`, `fi.train` or `fi.evaluate` is, as a function of the caller's is told it."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """How far a call is: what a function that is given as `progress` is told."""

    step: str
    """What is done now, such as `predicting` or `training the head`."""
    done: int = 0
    """How much of the step is done: images, or whatever it counts."""
    total: int | None = None
    """How much there is to do; None where a step doesn't count."""
    detail: str = ""
    """What else is known, such as `2 rejected` or `validation accuracy 0.920`."""


Listener = Callable[[Progress], object]
