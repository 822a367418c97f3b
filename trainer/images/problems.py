"""What is wrong with labelled images, collected so that a user sees all of it at once."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from serving.errors import UsageError

Kind = Literal[
    "missing", "no label", "labelled twice", "not an image", "unreadable", "damaged", "two labels", "small class"
]
_SHOWN = 20


class Problem(NamedTuple):
    """Something that keeps images from being used."""

    kind: Kind
    paths: tuple[str, ...]
    """The images that `skip_bad` leaves out for this problem."""
    message: str
    """What is wrong with which file, and what to do: a sentence without its full stop."""


OnProblem = Callable[[Problem], None]


def refuse(problem: Problem) -> None:
    """Stops at the first problem.

    Raises:
      UsageError: always.
    """
    raise UsageError(problem.message)


def refuse_all(problems: list[Problem]) -> None:
    """Stops, with all problems or the first twenty, if there are any.

    Raises:
      UsageError: there are.
    """
    if problems:
        raise UsageError(listed([problem.message for problem in problems], "`skip_bad` leaves such images out"))


def listed(messages: Sequence[str], hint: str = "", *, what: str = "images") -> str:
    """One message for all: itself if it is the only one, else the first twenty, each on its line, and a count.

    Args:
      messages: at least one.
      hint: what helps against all of them.
      what: they are wrong with.
    """
    if len(messages) == 1:
        return messages[0] + (f"; {hint}" if hint else "")
    lines = [f"\n- {message}" for message in messages[:_SHOWN]]
    more = f"\n- and {len(messages) - _SHOWN:,} more" if len(messages) > _SHOWN else ""
    return f"{len(messages):,} problems with the {what}{f' ({hint})' if hint else ''}:{''.join(lines)}{more}"
