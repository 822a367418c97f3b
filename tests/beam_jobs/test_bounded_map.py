"""Windows of items and bytes: in order, never over the bound, and never stuck."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.bounded_map import bounded_map


class Meter:
    """The most bytes that were there at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, bytes_: int) -> None:
        with self._lock:
            self.now += bytes_
            self.most = max(self.most, self.now)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 9), st.integers(1, 40), st.booleans())
def test_items_keep_their_order_and_the_room(sizes: list[int], window: int, room: int, promptly: bool) -> None:
    meter = Meter()

    def work(size: int) -> int:
        meter.add(size)
        return size

    with ThreadPoolExecutor(4) as threads:
        found = []
        for size in bounded_map(
            lambda size: threads.submit(work, size), sizes, window, room=room, cost=lambda size: size,
            held=lambda size: size, promptly=promptly,
        ):  # fmt: skip
            meter.add(-size)
            found.append(size)
    assert found == sizes
    assert meter.most <= max([room, *sizes])  # one that is over the room is there alone


def test_results_that_take_less_than_the_work_make_room_for_more() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        return number

    with ThreadPoolExecutor(1) as threads:
        results = bounded_map(lambda n: threads.submit(work, n), range(20), 20, room=10, cost=lambda _: 10)
        assert list(results) == list(range(20))
    assert started == list(range(20))


def test_a_ready_result_does_not_wait_for_the_next_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise AssertionError("the next item was asked for first")

    with ThreadPoolExecutor(1) as threads:

        def finished(number: int) -> "object":
            future = threads.submit(int, number)
            future.result()
            return future

        results = bounded_map(finished, items(), 8, promptly=True)  # type: ignore[arg-type, var-annotated]
        assert next(results) == 1


def test_an_error_is_raised_in_its_place() -> None:
    def work(number: int) -> int:
        return 1 // number

    with ThreadPoolExecutor(2) as threads:
        results = bounded_map(lambda n: threads.submit(work, n), [1, 0, 1], 3)
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
