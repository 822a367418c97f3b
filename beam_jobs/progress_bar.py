"""The progress of a prediction on stderr: a bar with rate and time left on a terminal, elsewhere a line a minute."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from beam_jobs.parts import Verdict
from beam_jobs.progress import Progress
from serving.console.flags_in_messages import with_flags
from serving.console.terminal import console, printable, say
from serving.storage.base import shown

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from beam_jobs.finished import News
    from beam_jobs.plan import Plan

_EVERY_S = 60.0
_LEAST_S = 1.0
"""Seconds that a rate needs to say anything."""


def _say_news(line: str) -> None:
    say(with_flags(line))


class Shown(Progress):
    """Tells what is said of a run that was complete before; keeps what run.json says."""

    run: Mapping[str, Any] | None = None

    def __init__(self, news: Callable[[str], object] = _say_news) -> None:
        self._tell = news

    @override
    def complete(self, news: "News") -> None:
        for line in news.lines():
            self._tell(line)

    @override
    def finished(self, run: Mapping[str, Any]) -> None:
        self.run = run


class Counted(Shown):
    """Counts the outcomes of the images that this process does."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, news: Callable[[str], object] = _say_news
    ) -> None:
        super().__init__(news)
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[Verdict] = Counter()
        self._before = 0
        self.total = 0
        """Images of the run."""
        self._started = clock()

    @override
    def start(self, plan: "Plan", to_do: int, done: int) -> None:
        self._counts.clear()
        self._before, self.total = done, to_do + done
        self._started = self._clock()

    @override
    def done(self, verdict: Verdict) -> None:
        with self._lock:
            self._counts[verdict] += 1

    @property
    def seen(self) -> int:
        """Images of the run that have their outcome."""
        return self._before + self._counts.total()

    @property
    def faults(self) -> str:
        """The numbers of rejected and failed images in words, "" if there are none."""
        return faults(self._counts)

    @property
    def rate(self) -> float | None:
        """Images a second; None where too little time has passed for one."""
        seconds, done = self._clock() - self._started, self._counts.total()
        return done / seconds if seconds >= _LEAST_S and done else None


class ProgressLines(Counted):
    """Lines for a log: at the start, and every minute."""

    def __init__(
        self,
        say: Callable[[str], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        news: Callable[[str], object] = _say_news,
    ) -> None:
        super().__init__(clock=clock, news=news)
        self._say = say
        self._stop = threading.Event()

    @override
    def begin(self, step: str) -> None:
        self._say(step)

    @override
    def start(self, plan: "Plan", to_do: int, done: int) -> None:
        super().start(plan, to_do, done)
        self._say(_started(plan, to_do, done))

    @contextlib.contextmanager
    def repeating(self) -> Iterator[None]:
        """Says every minute how far it is, while the block runs."""

        def repeat() -> None:
            while not self._stop.wait(_EVERY_S):
                if self.total:
                    self._say(self.line())

        threading.Thread(target=repeat, name="progress", daemon=True).start()
        try:
            yield
        finally:
            self._stop.set()

    def line(self) -> str:
        """How far it is now."""
        parts = [f"{self.seen:,} of {self.total:,} images"]
        if rate := self.rate:
            left = (self.total - self.seen) / rate
            parts += [_per_second(rate), f"about {_minutes(left)} left"]
        return ", ".join([*parts, self.faults] if self.faults else parts)


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
            self._bar.console.print(f"flow-images: {_started(plan, to_do, done)}", soft_wrap=True)

    @override
    def done(self, verdict: Verdict) -> None:
        super().done(verdict)
        rate = self.rate
        self._bar.update(self._task, advance=1, rate=_per_second(rate) if rate else "", faults=self.faults)

    @override
    def complete(self, news: "News") -> None:
        self._bar.stop()
        super().complete(news)

    def _replace(self, description: str, total: int | None, done: int) -> None:
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(printable(description), total=total, completed=done, rate="", faults="")


def faults(counts: Mapping[Any, int]) -> str:
    """How many images were rejected and failed, in words; "" if none were."""
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in ("rejected", "failed") if counts[kind])


def _started(plan: "Plan", to_do: int, done: int) -> str:
    model, inputs = plan.model, plan.options.inputs
    more = f" and {len(inputs) - 1} more" if inputs[1:] else ""
    begun = f"continuing: {done:,} of {to_do + done:,} done; " if done else ""
    return (
        f"{begun}predicting {to_do:,} images of {shown(inputs[0])}{more} with version {model.version} of {model.name}, "
        f"as {plan.options.wire}"
    )


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _columns() -> "list[ProgressColumn]":
    from rich.progress import BarColumn, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import MofNCompleteColumn as Count
    from rich.text import Text

    class Known(Count):
        """The count, where there is one."""

        @override
        def render(self, task: Task) -> Text:
            return super().render(task) if task.total is not None else Text("")

    return [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        Known(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[faults]}", markup=False),
    ]


@contextlib.contextmanager
def shown_progress(*, quiet: bool = False, news: Callable[[str], object] = _say_news) -> Iterator[Shown]:
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
