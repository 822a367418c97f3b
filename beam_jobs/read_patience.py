"""How long an image that can't be read is tried: shorter in a place where images fail while others are read."""

import threading
import time
from collections import Counter

_LEAST_S = 5.0


class ReadPatience:
    """Seconds for one image, by the place that it is in: a web server, bucket or folder. Safe to share by threads.

    The first image of a place gets the whole patience, as the place may be away for a while. Each one that fails
    although others are read halves it, or a thousand dead links would take days. One that is read after some tries
    restores it. Where a place answered nothing at all meanwhile, its images are tried once, until one is read.
    """

    def __init__(self, most_s: float) -> None:
        """`most_s` is what the user allows."""
        self._most_s = most_s
        self._lock = threading.Lock()
        self._alone: Counter[str] = Counter()
        self._read_at: dict[str, float] = {}
        self._silent: set[str] = set()

    def seconds(self, place: str) -> float:
        """How long to go on with an image of a place."""
        with self._lock:
            if place in self._silent:
                return 0.0
            return max(self._most_s / 2 ** min(self._alone[place], 64), min(self._most_s, _LEAST_S))

    def was_read(self, since: float) -> bool:
        """Was any image read since a time of `time.monotonic`, wherever it was?"""
        with self._lock:
            return max(self._read_at.values(), default=float("-inf")) >= since

    def note_read(self, place: str, *, tried_again: bool) -> None:
        """Takes note of an image that was read."""
        with self._lock:
            self._read_at[place] = time.monotonic()
            self._silent.discard(place)
            if tried_again:
                del self._alone[place]

    def note_failed_alone(self, place: str, since: float) -> None:
        """Takes note of an image that could not be read, tried since a time of `time.monotonic`, while others were."""
        with self._lock:
            self._alone[place] += 1
            if self._read_at.get(place, float("-inf")) < since:
                self._silent.add(place)
