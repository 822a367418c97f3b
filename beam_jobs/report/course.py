"""How a run went over time: images a second, what was repeated, and when nobody worked."""

import datetime
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from beam_jobs.chunk_work import ChunkWork

_STEPS = 80
"""How many steps the time has in which somebody worked, about."""
_LEAST_STEP_S = 1.0
_CUT = 0.1
"""A pause that takes longer than this share of the time in which somebody worked is drawn shorter."""
_WIDTH_OF_CUT = 0.04
_LEAST_S = 0.001
"""For a chunk that took no time by its clock."""


class Span(NamedTuple):
    """A time, from one second of the run to another."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.begin

    def overlap(self, work: ChunkWork) -> float:
        """The share of a chunk's time that is in it."""
        return max(0.0, min(self.end, work.ended) - max(self.begin, work.began)) / work.seconds


class Step(NamedTuple):
    """What was done in a time; a chunk's images and retries are spread evenly over its time."""

    span: Span
    images: float
    repeated: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.span.seconds


class Course:
    """The course of a run."""

    def __init__(self, works: Iterable[ChunkWork]) -> None:
        """`works` are of all parts that tell."""
        in_order = sorted(works)
        self.start = in_order[0].began if in_order else 0.0
        """When it began, in seconds since 1970, UTC; all other moments are counted from then."""
        self._works = [
            work._replace(began=work.began - self.start, seconds=max(work.seconds, _LEAST_S)) for work in in_order
        ]
        self.images = sum(work.images for work in self._works)
        """All of them; those that were asked about again count again."""
        self.requests = sum(work.requests for work in self._works)
        """Requests to the server that were repeated."""
        self.calls = sum(work.calls for work in self._works)
        """Calls to stores that were repeated."""

    def __bool__(self) -> bool:
        """Is anything known of it?"""
        return bool(self._works)

    @functools.cached_property
    def spans(self) -> Sequence[Span]:
        """When somebody worked, in order."""
        found: list[Span] = []
        for work in self._works:
            if found and work.began <= found[-1].end:
                found[-1] = Span(found[-1].begin, max(found[-1].end, work.ended))
            else:
                found.append(Span(work.began, work.ended))
        return found

    @property
    def worked_s(self) -> float:
        """For how many seconds somebody worked."""
        return sum(span.seconds for span in self.spans)

    @property
    def rate(self) -> float:
        """Images a second while somebody worked."""
        return self.images / self.worked_s

    @property
    def pauses(self) -> Sequence[Span]:
        """When nobody worked, longer than for a step."""
        pauses = (Span(one.end, other.begin) for one, other in itertools.pairwise(self.spans))
        return [pause for pause in pauses if pause.seconds > self._step_s]

    @functools.cached_property
    def steps(self) -> Sequence[Step]:
        """Steps of one length but for the last ones before a pause, in order; none in a pause."""
        begins = [0.0, *(pause.end for pause in self.pauses)]
        ends = [*(pause.begin for pause in self.pauses), self.spans[-1].end]
        steps: list[Step] = []
        works, under_way = list(reversed(self._works)), list[ChunkWork]()
        for begin, end in zip(begins, ends, strict=True):
            count = max(1, round((end - begin) / self._step_s))
            edges = [begin + (end - begin) * number / count for number in range(count + 1)]
            for span in itertools.starmap(Span, itertools.pairwise(edges)):
                while works and works[-1].began < span.end:
                    under_way.append(works.pop())
                shares = [(work, span.overlap(work)) for work in under_way]
                steps.append(
                    Step(
                        span,
                        sum(work.images * share for work, share in shares),
                        sum((work.requests + work.calls) * share for work, share in shares),
                    )
                )
                under_way = [work for work in under_way if work.ended > span.end]
        return steps

    def place(self, moment: float) -> float:
        """Where a moment is in a drawing: seconds from the left, of which long pauses take few."""
        cut = sum(
            (pause.seconds - _WIDTH_OF_CUT * self.worked_s) * min(1.0, max(0.0, (moment - pause.begin) / pause.seconds))
            for pause in self.pauses
            if self.is_cut(pause)
        )
        return moment - cut

    def is_cut(self, pause: Span) -> bool:
        """Is it drawn shorter than it was?"""
        return pause.seconds > _CUT * self.worked_s

    @property
    def _step_s(self) -> float:
        return max(_LEAST_STEP_S, self.worked_s / _STEPS)


def clock(time: float, *, with_day: bool = False, with_seconds: bool = False) -> str:
    """Seconds since 1970 as a clock shows them, UTC."""
    form = ("%Y-%m-%d " if with_day else "") + ("%H:%M:%S" if with_seconds else "%H:%M")
    return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime(form)


def length(seconds: float) -> str:
    """A time in words: `12.5 s`, `12 min`, `3 h 5 min`, `2 d 3 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
