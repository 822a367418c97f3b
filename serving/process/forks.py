"""gRPC in a forked process: where an event loop or a server of its own ran before the fork, a call may never end.

Their threads don't come along, and what they held stays held. Blocking calls before the fork do no harm.
"""

import os

from serving.errors import UsageError

_running = 0
_threads_are_lost = False


def threads_start() -> None:
    """Threads of gRPC start that a fork would lose."""
    global _running
    _running += 1


def threads_end() -> None:
    """Says that the threads of one `threads_start` have ended."""
    global _running
    _running -= 1


def check_not_forked() -> None:
    """Refuses a process in which a call may hang.

    Raises:
      UsageError: it was forked while threads of gRPC ran that it lacks.
    """
    if _threads_are_lost:
        raise UsageError(
            "this process was forked from one in which an AsyncClient or an EmbeddedServer ran, and its calls may hang "
            'here: start it with `spawn`, as multiprocessing.get_context("spawn") does, or fork before they run'
        )


def _note_fork() -> None:
    global _running, _threads_are_lost
    _threads_are_lost = _threads_are_lost or _running > 0
    _running = 0


os.register_at_fork(after_in_child=_note_fork)
