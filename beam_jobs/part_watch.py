"""The progress of a run whose workers are on other machines, by the parts that appear in its folder."""

import contextlib
import logging
import threading
import time
from collections.abc import Collection, Iterator

from beam_jobs import progress
from beam_jobs.parts import Parts
from serving.errors import FlowImagesError
from serving.storage.transfer import together

_LOG = logging.getLogger(__name__)
_EVERY_S = 2.0
_SHARE = 20
"""A look is followed by a pause of so many times what it took: the folder of a long run may take seconds to list."""


@contextlib.contextmanager
def watching_parts(run_id: str, parts: Parts, generation: int, chunks: Collection[int]) -> Iterator[None]:
    """Reports the outcomes of some chunks as their parts appear, while the block runs, and of all at its end.

    A folder that can't be read for a while delays the report and is no error here.
    """
    if not chunks:
        yield
        return
    seen: set[int] = set()
    ended = threading.Event()

    def look() -> None:
        try:
            new = (parts.done(generation) & set(chunks)) - seen
            for chunk, outcomes in zip(new, together(lambda chunk: parts.read(generation, chunk), new), strict=True):
                seen.add(chunk)
                for outcome in outcomes:
                    progress.report(run_id, outcome.verdict)
        except (OSError, FlowImagesError) as error:
            _LOG.debug("the progress can't be told: %s", error)

    def watch() -> None:
        pause = _EVERY_S
        while not ended.wait(pause):
            began = time.monotonic()
            look()
            pause = max(_EVERY_S, _SHARE * (time.monotonic() - began))

    watcher = threading.Thread(target=watch, name="watch-parts", daemon=True)
    watcher.start()
    try:
        yield
        ended.set()
        watcher.join()
        look()
    finally:
        ended.set()
