"""Map with threads, in order and with bounded look-ahead: how reads, decoding and requests overlap."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


def _nothing(_: Any) -> int:
    return 0


def bounded_map(
    submit: Callable[[T], Future[U]],
    items: Iterable[T],
    window: int,
    *,
    room: float = math.inf,
    cost: Callable[[T], int] = _nothing,
    held: Callable[[U], int] = _nothing,
    promptly: bool = False,
) -> Iterator[U]:
    """The results of submitted items, in order, with up to `window` items and `room` bytes under way at once.

    Items are taken as places in the window fall free, so memory is bounded whatever their number and size. One that
    is larger than the room waits until it is alone. An error is raised in its place in the order, and ends the rest.

    Args:
      submit: starts the work on an item.
      items: what is worked on.
      window: most items under way, results that wait for their turn included.
      room: most bytes under way.
      cost: bytes that the work on an item may take.
      held: bytes that its result takes.
      promptly: a result that is ready is given before the next item is asked for, be the window full or not.
    """
    load = _Load[U](held)
    under_way: deque[Future[U]] = deque()
    try:
        for item in items:
            amount = cost(item)
            while under_way and (len(under_way) >= window or load.bytes + amount > room):
                yield load.take(under_way.popleft())
            under_way.append(load.add(submit(item), amount))
            while promptly and under_way and under_way[0].done():
                yield load.take(under_way.popleft())
        while under_way:
            yield load.take(under_way.popleft())
    finally:
        for future in under_way:
            future.cancel()


class _Load(Generic[U]):
    """Bytes of what is under way: of an item its cost, and once it is done those of its result."""

    def __init__(self, held: Callable[[U], int]) -> None:
        self.bytes = 0
        self._held = held
        self._of: dict[Future[U], int] = {}
        self._lock = threading.Lock()

    def add(self, future: Future[U], amount: int) -> Future[U]:
        with self._lock:
            self._of[future] = amount
            self.bytes += amount
        future.add_done_callback(self._settle)
        return future

    def _settle(self, future: Future[U]) -> None:
        failed = future.cancelled() or future.exception() is not None
        held = 0 if failed else self._held(future.result())
        with self._lock:
            if future in self._of:  # else it was taken before
                self.bytes += held - self._of[future]
                self._of[future] = held

    def take(self, future: Future[U]) -> U:
        try:
            return future.result()
        finally:
            with self._lock:
                self.bytes -= self._of.pop(future)
