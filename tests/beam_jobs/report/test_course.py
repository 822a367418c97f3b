"""The course of a run, from the times of its chunks."""

import random

import pytest

from beam_jobs.chunk_work import ChunkWork
from beam_jobs.report.course import Course, Span, clock, length

START = 1796000000.0


def test_images_are_spread_over_the_time_that_their_chunk_took() -> None:
    course = Course([ChunkWork(START, 40, 400), ChunkWork(START, 20, 100), ChunkWork(START + 40, 40, 40)])
    assert course.images == 540
    assert course.worked_s == 80
    assert course.pauses == []
    rates = [step.rate for step in course.steps]
    assert len(rates) == 80
    assert rates[:20] == pytest.approx([15] * 20)
    assert rates[20:40] == pytest.approx([10] * 20)
    assert rates[40:] == pytest.approx([1] * 40)


def test_a_pause_is_no_time_of_work_and_takes_little_room() -> None:
    hours = 10 * 3600
    course = Course([ChunkWork(START, 60, 60), ChunkWork(START + 60 + hours, 40, 80)])
    assert course.spans == [Span(0, 60), Span(60 + hours, 100 + hours)]
    assert course.rate == 1.4
    assert course.pauses == [Span(60, 60 + hours)]
    assert course.is_cut(course.pauses[0])
    assert [course.place(span.begin) for span in course.spans] == pytest.approx([0, 64])
    assert course.place(course.spans[1].end) == pytest.approx(104)
    assert course.place(60 + hours / 2) == pytest.approx(62)
    assert not [step for step in course.steps if step.span.begin < 60 + hours and step.span.end > 60.1]


def test_a_short_pause_is_as_long_as_it_was() -> None:
    course = Course([ChunkWork(START, 60, 60), ChunkWork(START + 65, 40, 80)])
    assert course.pauses == [Span(60, 65)]
    assert not course.is_cut(course.pauses[0])
    assert course.place(course.spans[1].end) == pytest.approx(105)


def test_nothing_is_lost_or_counted_twice() -> None:
    chance = random.Random(0)
    works = []
    moment = START
    for number in range(500):
        works.append(
            ChunkWork(moment, chance.choice([0, 1, 30]), chance.randrange(257), chance.randrange(3), number % 7)
        )
        moment += chance.choice([0, 0.5, 20, 4000])
    chance.shuffle(works)
    course = Course(works)
    assert sum(step.images for step in course.steps) == pytest.approx(course.images)
    assert sum(step.repeated for step in course.steps) == pytest.approx(course.requests + course.calls)
    edges = [edge for step in course.steps for edge in step.span]
    assert edges == sorted(edges)
    places = [course.place(edge) for edge in edges]
    assert places == sorted(places)
    assert course.images == sum(work.images for work in works)


@pytest.mark.parametrize(
    "works", [[ChunkWork(START, 0, 5)], [ChunkWork(START, 0, 5)] * 3, [ChunkWork(START, 1, 0)]],
    ids=["no-time", "all-at-once", "no-images"],
)  # fmt: skip
def test_the_shortest_run_has_a_course(works: list[ChunkWork]) -> None:
    course = Course(works)
    assert course
    assert sum(step.images for step in course.steps) == pytest.approx(course.images)


def test_of_no_chunk_nothing_is_known() -> None:
    assert not Course([])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (119.96, "120.0 s"), (125, "2 min"), (7110, "118 min"), (7200, "2 h"), (7260, "2 h 1 min"),
     (172_800, "2 d"), (180_000, "2 d 2 h")],
    ids=range(8),
)  # fmt: skip
def test_a_time_is_told_in_words(seconds: float, words: str) -> None:
    assert length(seconds) == words


def test_a_clock_shows_utc() -> None:
    assert clock(START) == "00:53"
    assert clock(START, with_day=True, with_seconds=True) == "2026-11-30 00:53:20"
