"""The course of a run as a page shows it: a chart, and the same in words and numbers."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from beam_jobs.report.course import Course, Step, clock, length
from serving.page.charts import FIRST, INK, SECOND, svg

_NAMED = 5
"""Pauses that are named, the longest ones."""
_MINUTES_S = 600
"""A run that took less is told by the second."""


class CourseOnPage(NamedTuple):
    """What the page's section is made of."""

    images: int
    worked: str
    rate: str
    repeated: str
    """What was repeated, in a sentence."""
    chart: str
    """It is SVG."""
    pauses: Sequence[str]
    steps: Sequence[tuple[str, str, str, str]]
    """Rows of the table."""


def course_on_page(course: Course) -> CourseOnPage | None:
    """What there is to show; None where nothing is known."""
    if not course:
        return None
    end = course.spans[-1].end
    of_days = _day(course, 0) != _day(course, end)

    def at(moment: float) -> str:
        return clock(course.start + moment, with_day=of_days, with_seconds=end < _MINUTES_S)

    pauses = sorted(course.pauses, key=lambda pause: -pause.seconds)
    named = [f"{at(one.begin)} to {at(one.end)} ({length(one.seconds)})" for one in sorted(pauses[:_NAMED])]
    return CourseOnPage(
        course.images,
        length(course.worked_s),
        _number(course.rate),
        _repeated(course),
        svg(
            lambda axes: _draw(course, axes),
            "Images a second over time, and what was repeated",
            (5.4, 3.8 if course.requests + course.calls else 2.3),
        ),
        named + [f"{len(pauses) - _NAMED:,} shorter pauses"] * (len(pauses) > _NAMED),
        [(at(one.span.begin), at(one.span.end), _number(one.rate), _number(one.repeated)) for one in course.steps],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _repeated(course: Course) -> str:
    said = [
        f"{number:,} {one if number == 1 else many}"
        for number, one, many in (
            (course.requests, "request to the server", "requests to the server"),
            (course.calls, "call to a store", "calls to stores"),
        )
        if number
    ]
    if not said:
        return "No request had to be repeated."
    return f"{' and '.join(said)} {'was' if course.requests + course.calls == 1 else 'were'} repeated."


def _draw(course: Course, axes: Any) -> None:
    """Images a second; below them, if anything was repeated, how much."""
    for steps in _unbroken(course):
        edges, rates = _edges(course, steps), [one.rate for one in steps]
        axes.stairs(rates, edges, fill=True, color=FIRST, alpha=0.25)
        axes.stairs(rates, edges, color=FIRST)
    axes.set_ylabel("images a second")
    for pause in course.pauses:
        if course.is_cut(pause):
            middle = (course.place(pause.begin) + course.place(pause.end)) / 2
            axes.text(middle, 1.02, length(pause.seconds), transform=axes.get_xaxis_transform(), ha="center",
                      va="bottom", fontsize=8)  # fmt: skip
    _draw_time(course, axes)
    if course.requests + course.calls:
        grid = axes.figure.add_gridspec(2, 1, height_ratios=[3, 2])
        axes.set_subplotspec(grid[0])
        below = axes.figure.add_subplot(grid[1])
        below.patch.set_visible(False)
        below.spines[["top", "right"]].set_visible(False)
        for steps in _unbroken(course):
            below.stairs([one.repeated for one in steps], _edges(course, steps), fill=True, color=SECOND)
        below.set_ylabel("repeated")
        _draw_time(course, below)


def _edges(course: Course, steps: Sequence[Step]) -> list[float]:
    return [course.place(one.span.begin) for one in steps] + [course.place(steps[-1].span.end)]


def _unbroken(course: Course) -> Iterator[list[Step]]:
    """The steps, cut where nobody worked."""
    begins = {pause.end for pause in course.pauses}
    steps: list[Step] = []
    for one in course.steps:
        if steps and one.span.begin in begins:
            yield steps
            steps = []
        steps.append(one)
    yield steps


def _draw_time(course: Course, axes: Any) -> None:
    axes.set_xlim(0, course.place(course.spans[-1].end))
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.locator_params(axis="y", nbins=4)
    for pause in course.pauses:
        axes.axvspan(course.place(pause.begin), course.place(pause.end), color=INK, alpha=0.12, linewidth=0)
    ticks = list(_ticks(course))
    axes.set_xticks([course.place(moment) for moment, _ in ticks], [text for _, text in ticks])


def _ticks(course: Course) -> Iterator[tuple[float, str]]:
    """Moments and their labels: about five, also behind a pause that is cut."""
    cuts = [pause for pause in course.pauses if course.is_cut(pause)]
    begins = [0.0, *(cut.end for cut in cuts)]
    ends = [*(cut.begin for cut in cuts), course.spans[-1].end]
    width = course.place(course.spans[-1].end)
    moments = [
        begin + (end - begin) * number / count
        for begin, end in zip(begins, ends, strict=True)
        for count in [max(1, round(4 * (end - begin) / width))]
        for number in range(count)
    ]
    day, last = _day(course, 0), -width
    for moment in moments:
        if course.place(moment) - last < 0.16 * width:
            continue
        last = course.place(moment)
        text = clock(course.start + moment, with_seconds=ends[-1] < _MINUTES_S)
        before, day = day, _day(course, moment)
        yield moment, text if day == before else f"{text}\n{day[5:]}"


def _day(course: Course, moment: float) -> str:
    return clock(course.start + moment, with_day=True).partition(" ")[0]
