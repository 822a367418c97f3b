"""When the outcomes of a chunk were found, and what had to be repeated for them: a line of its part, told on the page.

Nothing in the results depends on it.
"""

import json
from typing import NamedTuple, Self


class ChunkWork(NamedTuple):
    """How a chunk was worked through."""

    began: float
    """Seconds since 1970, UTC, by the worker's clock."""
    seconds: float
    images: int
    requests: int = 0
    """Requests to the server that its worker repeated since it wrote its part before."""
    calls: int = 0
    """Calls to stores, to read images or write results, that its worker repeated since then."""

    @property
    def ended(self) -> float:
        """Seconds since 1970, UTC."""
        return self.began + self.seconds

    def line(self) -> bytes:
        """The line of the part; an object, where an outcome is an array."""
        return json.dumps(self._asdict()).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Self | None:
        """What a line says; None if it is another kind of line."""
        try:
            found = cls(**json.loads(line))
            return found if found.seconds >= 0 and found.images >= 0 else None
        except (ValueError, TypeError):
            return None
