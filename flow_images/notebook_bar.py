"""A bar in a notebook: one output of the cell, whose text is replaced; in a notebook that is saved, its last state.

Rich's own bar, and tqdm's, need ipywidgets for that: without it, rich warns and tqdm writes each state into the cell.
"""

import datetime
import threading
import time
from typing import Self
from uuid import uuid4

from IPython.display import display

from flow_images.progress import Progress

_EVERY_S = 0.25
_WIDTH = 30


class NotebookBar:
    """Shows what it is called with while its block runs."""

    def __init__(self) -> None:
        self._now = Progress("starting")
        self._started = self._began = time.monotonic()
        self._before = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="notebook bar", daemon=True)

    def __call__(self, now: Progress) -> None:
        """Is shown within a quarter of a second."""
        if now.step != self._now.step:
            self._began, self._before = time.monotonic(), now.done
        self._now = now

    def __enter__(self) -> Self:
        self._id = uuid4().hex
        self._shown = self._line()
        display(_text(self._shown), raw=True, display_id=self._id)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._show()

    def _repeat(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._show()

    def _show(self) -> None:
        line = self._line()
        if line != self._shown:
            display(_text(line), raw=True, display_id=self._id, update=True)
            self._shown = line

    def _line(self) -> str:
        now, clock = self._now, time.monotonic()
        parts = [now.step]
        if now.total:
            filled = min(_WIDTH, _WIDTH * now.done // now.total)
            parts += ["━" * filled + "╌" * (_WIDTH - filled), f"{now.done:,}/{now.total:,}"]
        parts.append(_time(clock - self._started))
        if now.total and self._before < now.done < now.total:
            left = (clock - self._began) * (now.total - now.done) / (now.done - self._before)
            parts.append(f"about {_time(left)} left")
        return "  ".join([*parts, now.detail] if now.detail else parts)


def _text(line: str) -> dict[str, str]:
    return {"text/plain": line}


def _time(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))
