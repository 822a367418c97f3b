"""The progress of a training or an evaluation on a terminal: a bar for the step, lines for epochs and notes."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from serving.console.flags_in_messages import with_flags
from serving.console.terminal import console, fitted
from trainer.progress import Epoch, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_LINES = 10
"""About so many lines are printed for all epochs: those of a head take milliseconds each."""


@contextlib.contextmanager
def progress_bar(*, words: Callable[[str], str] = with_flags) -> Iterator["ProgressBar"]:
    """Shows a bar while the block runs, where stderr is a terminal; lines in any case.

    Args:
      words: gives a note as the user should read it; by default with flags in place of fields.
    """
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from serving.console.known_count import KnownCount

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), KnownCount(), TimeRemainingColumn())
    with Bar(*columns, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        yield ProgressBar(bar, words)


class ProgressBar(Progress):
    """A bar that is shown."""

    def __init__(self, bar: "Bar", words: Callable[[str], str]) -> None:
        self._bar = bar
        self._words = words
        self._task = bar.add_task("reading the images", total=None)

    def begin(self, step: str, total: int | None = None) -> None:
        """Shows the step as a new bar, or, where none is shown, as a line."""
        if self._bar.disable:
            self._print(f"flow-images: {step}")
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(step, total=total)

    def advance(self, count: int = 1) -> None:
        """Moves the bar."""
        self._bar.advance(self._task, count)

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Prints a line for about ten of the epochs."""
        every = max(1, epochs // _LINES)
        if epoch.number == 1 or epoch.number % every == 0:
            self._print(
                f"epoch {epoch.number:3}/{epochs}  loss {epoch.loss:.3f}, validation {epoch.validation_loss:.3f}  "
                f"accuracy {epoch.accuracy:.3f}, validation {epoch.validation_accuracy:.3f}"
            )

    def note(self, text: str) -> None:
        """Prints a note above the bar."""
        self._print(f"flow-images: {self._words(text)}")

    def close(self) -> None:
        """Removes the bar, before results are printed."""
        self._bar.stop()

    def _print(self, line: str) -> None:
        screen = self._bar.console
        screen.print(fitted(line, screen.file), soft_wrap=True, markup=False, highlight=False)
