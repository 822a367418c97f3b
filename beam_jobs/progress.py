"""Progress of the runs in this process: workers report rows that have their outcome, and callers listen.

Beam pickles what it runs, so a worker in this process can't be given a callback: it reports here, by the id of its run.
The progress of workers that a runner starts on other machines is not reported.
"""

import contextlib
from collections.abc import Callable, Iterator

Listener = Callable[[int], None]
"""Called with the number of rows that have just got their outcome, from several threads."""

_listeners: list[tuple[str, Listener]] = []


@contextlib.contextmanager
def listening(run_id: str, listener: Listener) -> Iterator[None]:
    """Tells the listener of the progress of one run while the block runs."""
    entry = (run_id, listener)
    _listeners.append(entry)
    try:
        yield
    finally:
        _listeners.remove(entry)


def report(run_id: str, rows: int) -> None:
    """Tells those who listen to the run that so many more rows have their outcome."""
    for listened_to, listener in list(_listeners):
        if listened_to == run_id:
            listener(rows)
