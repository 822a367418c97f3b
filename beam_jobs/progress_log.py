"""The progress of a prediction as lines for a log: at the start, and every minute."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

from beam_jobs.parts import Verdict
from beam_jobs.progress import Progress
from serving.console.flags_in_messages import with_flags
from serving.console.terminal import say
from serving.storage.base import shown

if TYPE_CHECKING:
    from beam_jobs.finished import News
    from beam_jobs.plan import Plan

_EVERY_S = 60.0
_LEAST_S = 1.0
"""Seconds that a rate needs to say anything."""


def say_news(line: str) -> None:
    """Prints to stdout what is new since the run was complete."""
    say(with_flags(line))


class Work(NamedTuple):
    """What one process did of a run."""

    images: int
    seconds: float
    """From the first image to the results."""
    before: int
    """Images that had their outcome before."""


class Shown(Progress):
    """Tells what is said of a run that was complete before; keeps what is known at a run's end."""

    run: Mapping[str, Any] | None = None
    """What run.json says."""
    work: Work | None = None
    """What this process did; None where the run was complete before."""
    kept = ""
    """How many images are done, in words, where the run was stopped."""

    def __init__(
        self, news: Callable[[str], object] = say_news, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = news
        self._clock = clock
        self._began = clock()

    @override
    def start(self, plan: "Plan", to_do: int, done: int) -> None:
        if self.work is None:
            self._began = self._clock()
            self.work = Work(0, 0.0, done)
        # A run may start twice: `retry_failed` follows what was left.
        self.work = self.work._replace(images=self.work.images + to_do)

    @override
    def stopped(self, done: int, listed: int) -> None:
        self.kept = f"{done:,} of {listed:,} images are done"

    @override
    def complete(self, news: "News") -> None:
        for line in news.lines():
            self._tell(line)

    @override
    def finished(self, run: Mapping[str, Any]) -> None:
        self.run = run
        if self.work:
            self.work = self.work._replace(seconds=self._clock() - self._began)


class Counted(Shown):
    """Counts the outcomes of the images that this process does."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, news: Callable[[str], object] = say_news
    ) -> None:
        super().__init__(news, clock=clock)
        self._lock = threading.Lock()
        self._counts: Counter[Verdict] = Counter()
        self._before = 0
        self.total = 0
        """Images of the run."""
        self._started = clock()

    @override
    def start(self, plan: "Plan", to_do: int, done: int) -> None:
        super().start(plan, to_do, done)
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
        news: Callable[[str], object] = say_news,
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
        self._say(started_line(plan, to_do, done))

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
            parts += [per_second(rate), f"about {_minutes(left)} left"]
        return ", ".join([*parts, self.faults] if self.faults else parts)


def faults(counts: Mapping[Any, int]) -> str:
    """How many images were rejected and failed, in words; "" if none were."""
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in ("rejected", "failed") if counts[kind])


def started_line(plan: "Plan", to_do: int, done: int) -> str:
    """What is about to be done, and how much was done before."""
    model, inputs = plan.model, plan.options.inputs
    more = f" and {len(inputs) - 1} more" if inputs[1:] else ""
    begun = f"continuing: {done:,} of {to_do + done:,} done; " if done else ""
    return (
        f"{begun}predicting {to_do:,} images of {shown(inputs[0])}{more} with version {model.version} of {model.name}, "
        f"as {plan.options.wire}"
    )


def per_second(rate: float) -> str:
    """A rate in words."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
