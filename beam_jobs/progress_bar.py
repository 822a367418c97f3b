"""The progress of a prediction on stderr: a bar with rate and time left on a terminal, elsewhere a line a minute."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from typing_extensions import override

from beam_jobs.parts import Verdict
from beam_jobs.progress_log import Counted, ProgressLines, Shown, per_second, say_news, started_line
from serving.console.terminal import console, fitted, printable, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from beam_jobs.finished import News
    from beam_jobs.plan import Plan


class ProgressBar(Counted):
    """A bar on a terminal."""

    def __init__(self, bar: "Bar", news: Callable[[str], object]) -> None:
        super().__init__(news=news)
        self._bar = bar
        self._task = bar.add_task("starting", total=None, rate="", faults="")

    @override
    def begin(self, step: str) -> None:
        self._replace(step, None, 0)

    @override
    def start(self, plan: "Plan", to_do: int, done: int) -> None:
        super().start(plan, to_do, done)
        self._replace("continuing" if done else "predicting", to_do + done, done)
        if done:
            screen = self._bar.console
            screen.print(fitted(f"flow-images: {started_line(plan, to_do, done)}", screen.file), soft_wrap=True)

    @override
    def done(self, verdict: Verdict) -> None:
        super().done(verdict)
        rate = self.rate
        self._bar.update(self._task, advance=1, rate=per_second(rate) if rate else "", faults=self.faults)

    @override
    def complete(self, news: "News") -> None:
        self._bar.stop()
        super().complete(news)

    def _replace(self, description: str, total: int | None, done: int) -> None:
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(printable(description), total=total, completed=done, rate="", faults="")


def _columns() -> "list[ProgressColumn]":
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from serving.console.known_count import KnownCount

    return [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        KnownCount(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[faults]}", markup=False),
    ]


@contextlib.contextmanager
def shown_progress(*, quiet: bool = False, news: Callable[[str], object] = say_news) -> Iterator[Shown]:
    """Shows the progress of a run while the block runs: a bar on a terminal, lines elsewhere, nothing if `quiet`.

    Args:
      quiet: show nothing.
      news: is told, in lines, what is new since the run was complete.
    """
    from rich.progress import Progress as Bar

    screen = console(stderr=True)
    if quiet:
        yield Shown(news)
    elif screen.is_terminal:
        with Bar(*_columns(), console=screen, transient=True) as bar:
            yield ProgressBar(bar, news)
    else:
        lines = ProgressLines(lambda line: say(f"flow-images: {printable(line)}", err=True), news=news)
        with lines.repeating():
            yield lines
