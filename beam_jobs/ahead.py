"""Map with threads, in order and with bounded look-ahead: how reads, decoding and requests overlap."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def map_ahead(executor: Executor, function: Callable[[T], U], items: Iterable[T], window: int) -> Iterator[U]:
    """`map(function, items)` with up to `window` items under way at once.

    Items are taken as places in the window fall free, so memory is bounded whatever the number of items. An error
    is raised in its place in the order, and ends the rest.
    """
    under_way: deque[Future[U]] = deque()
    try:
        for item in items:
            under_way.append(executor.submit(function, item))
            if len(under_way) >= window:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
