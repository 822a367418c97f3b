"""A progress bar with rate and time left, on a terminal; silence elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from beam_jobs import interrupt
from serving.console.terminal import console


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Follows `beam_jobs.interrupt`; gives a function that is told (rows to do, rows done before)."""
    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        interrupt.at_progress(lambda rows: progress.advance(task, rows))
        yield lambda todo, done: progress.update(task, description="predicting", total=todo + done, completed=done)
