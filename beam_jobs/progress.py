"""What a run tells of itself while it goes on: its steps, its start, and the verdict of each image.

Beam pickles what it runs, so a worker in this process can't be given a callback: it reports here, by the id of its run.
For workers on other machines, `beam_jobs.part_watch` does.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from beam_jobs.parts import Verdict

if TYPE_CHECKING:
    from beam_jobs.finished import News
    from beam_jobs.plan import Plan


class Progress:
    """Is told how a run goes on. This one ignores it; a command shows it."""

    def begin(self, step: str) -> None:
        """A step begins in which no image gets its outcome, such as `listing the images`."""

    def start(self, plan: "Plan", to_do: int, done: int) -> None:
        """The first image is about to be read.

        Args:
          plan: of the run.
          to_do: images that this process is to do.
          done: images that have had their outcome before; 0 where other shards do some.
        """

    def done(self, verdict: Verdict) -> None:
        """An image has got its outcome; from several threads."""

    def complete(self, news: "News") -> None:
        """The run was complete before: nothing is read, asked or written."""

    def stopped(self, done: int, listed: int) -> None:
        """The run ends before it is complete: so many of its images have an outcome that is kept."""

    def finished(self, run: Mapping[str, Any]) -> None:
        """The run is complete; `run` is what run.json says."""


_listeners: list[tuple[str, Callable[[Verdict], object]]] = []


@contextlib.contextmanager
def listening(run_id: str, listener: Callable[[Verdict], object]) -> Iterator[None]:
    """Tells the listener of each outcome of one run while the block runs, from several threads."""
    entry = (run_id, listener)
    _listeners.append(entry)
    try:
        yield
    finally:
        _listeners.remove(entry)


def report(run_id: str, verdict: Verdict) -> None:
    """Tells those who listen to the run of an image that has got its outcome."""
    for listened_to, listener in list(_listeners):
        if listened_to == run_id:
            listener(verdict)
