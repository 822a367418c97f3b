"""The few items of a stream that are largest, in memory for just these."""

import heapq
import zlib
from typing import Generic, TypeVar

T = TypeVar("T")


class Largest(Generic[T]):
    """Keeps up to `most` items. Of equal ones it keeps some by chance, the same ones each time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int, int, T]] = []
        self._seen = 0

    def add(self, size: float, name: str, item: T) -> None:
        """Shows it an item; `name` decides among equal ones."""
        self._seen += 1
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (size, _lot(name), self._seen, item))
        elif size >= self._heap[0][0]:
            heapq.heappushpop(self._heap, (size, _lot(name), self._seen, item))

    @property
    def items(self) -> list[T]:
        """The largest first."""
        return [item for *_, item in sorted(self._heap, key=lambda one: one[:3], reverse=True)]


def _lot(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogateescape"))
