"""`progress=` of `fi.predict`, `fi.train` and `fi.evaluate`: a bar, silence, or a function of the caller's own."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from typing_extensions import override

from flow_images.progress import Listener, Progress
from serving.console.option_fields import Options, options_class
from serving.errors import Resumable, UsageError
from trainer import progress as training

P = TypeVar("P")


@options_class
class Watched(Options):
    """How the caller watches a call."""

    progress: Listener | bool | None = None
    """True: a bar, as the command shows it. None: a bar in a notebook, and silence elsewhere. False: silence. Or a
    function, which is called with each `Progress`, one call at a time, in threads of the job's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.progress is None or isinstance(self.progress, bool) or callable(self.progress)):
            raise UsageError(f"`progress` must be True, False, None or a function, not {self.progress!r}")

    @contextlib.contextmanager
    def shown(
        self, silent: P, told: Callable[[Listener], P], bar: Callable[[], AbstractContextManager[P]]
    ) -> Iterator[P]:
        """What a job is to report to while the block runs.

        An error of the caller's function ends the job and leaves the block as it is; the function isn't called again.

        Args:
          silent: shows nothing.
          told: makes what tells a function.
          bar: shows what the command shows.
        """
        if callable(self.progress):
            with _ending_the_job(self.progress) as listener:
                yield told(listener)
        elif self.progress is not False and _in_notebook():
            from flow_images.notebook_bar import NotebookBar

            with NotebookBar() as notebook:
                yield told(notebook)
        elif self.progress:
            with bar() as shown:
                yield shown
        else:
            yield silent


class TrainingSteps(training.Progress):
    """Tells a function of a training or an evaluation. Notes are logged."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._now = Progress("starting")

    @override
    def begin(self, step: str, total: int | None = None) -> None:
        self._tell(lambda now: Progress(step, total=total))

    @override
    def advance(self, count: int = 1) -> None:
        self._tell(lambda now: now._replace(done=now.done + count))

    @override
    def epoch(self, epoch: training.Epoch, epochs: int) -> None:
        self._tell(lambda now: now._replace(detail=f"validation accuracy {epoch.validation_accuracy:.3f}"))

    def _tell(self, change: Callable[[Progress], Progress]) -> None:
        with self._lock:  # images are read in several threads
            self._now = change(self._now)
            self._listener(self._now)


@contextlib.contextmanager
def _ending_the_job(listener: Listener) -> Iterator[Listener]:
    """Raises an error of the listener from the block, whatever the job, or Beam, makes of it on its way."""
    errors: list[BaseException] = []
    lock = threading.Lock()

    def tell(now: Progress) -> None:
        with lock:
            if not errors:
                try:
                    listener(now)
                except BaseException as error:
                    errors.append(error)
            if errors:
                raise Resumable("`progress` raised an error") from errors[0]

    try:
        yield tell
    except Exception:
        if not errors:
            raise
    if errors:
        raise errors[0]


def _in_notebook() -> bool:
    """Does this program run in the kernel of a notebook?"""
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console().is_jupyter
