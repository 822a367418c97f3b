"""A progress bar with rate and time left, on a terminal; elsewhere nothing is shown."""

import contextlib
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from serving.console.terminal import console


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


class ProgressBar:
    """The bar of one run."""

    def __init__(self, progress: Progress) -> None:
        """Shows that the run is starting."""
        self._progress = progress
        self._task = progress.add_task("starting", total=None)

    def start(self, to_do: int, done: int) -> None:
        """Sets the numbers of rows that are still to do and that were done before."""
        self._progress.update(self._task, description="predicting", total=to_do + done, completed=done)

    def advance(self, rows: int) -> None:
        """Counts rows that have just been done; safe to call from several threads."""
        self._progress.advance(self._task, rows)


@contextlib.contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """A bar on stderr while the block runs, if that is a terminal."""
    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as progress:
        yield ProgressBar(progress)
