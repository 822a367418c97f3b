"""What is wrong with labelled images, collected so that a user sees all of it at once."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from serving.errors import UsageError

Kind = Literal["missing", "no label", "labelled twice", "not an image", "damaged", "two labels", "small class"]
_SHOWN = 20


class Problem(NamedTuple):
    """Something that keeps images from being used."""

    kind: Kind
    paths: tuple[str, ...]
    """Of the images that are left out if it is skipped."""
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
    skip = "`skip_bad` leaves such images out"
    if len(problems) == 1:
        raise UsageError(f"{problems[0].message}; {skip}")
    if problems:
        lines = [f"\n- {problem.message}" for problem in problems[:_SHOWN]]
        more = f"\n- and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        raise UsageError(f"{len(problems):,} problems with the images ({skip}):{''.join(lines)}{more}")
