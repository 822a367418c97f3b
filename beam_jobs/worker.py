"""One worker of a run: it holds a channel, a decoder and threads, and writes one part for each chunk."""

import contextlib
import dataclasses
import functools
import threading
import time
from collections import Counter
from typing import Self

from beam_jobs import progress, stop_request
from beam_jobs.chunk_predictor import ChunkOptions, served_predictor
from beam_jobs.chunk_work import ChunkWork
from beam_jobs.fresh_links import Links
from beam_jobs.image_reader import read_row
from beam_jobs.manifest import Row
from beam_jobs.memory import Allowance
from beam_jobs.parts import Outcome
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.rate_limit import rate_limit
from beam_jobs.source_outage import SourceCheck
from serving.client.client_options import Endpoint
from serving.client.predict_client import PredictClient
from serving.errors import FileError, ModelNotFound, Resumable, StorageUnavailable
from serving.images.limits import ImageLimits
from serving.network.retry import RetryPolicy, transient_in_time
from serving.storage.base import Fetched, Stamp, output_errors
from serving.storage.local_file import TooLarge
from serving.storage.storage_options import StorageOptions
from serving.storage.stores import Stores


class VersionGone(Resumable):
    """The run's model version is no longer served, or not by all servers; the run can go on once it is."""


def version_gone(endpoint: Endpoint, error: ModelNotFound) -> VersionGone:
    """The error for a run whose version a server does not know, although it was there."""
    return VersionGone(
        f"version {endpoint.version} of {endpoint.model_name} is no longer served, or not by all servers ({error}). "
        "Load it and repeat the command, or start over with another version: `fresh`"
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """All that a worker needs, on this machine or another. Its repr shows no secrets."""

    output: str
    plan: Plan
    endpoint: Endpoint
    """The server and model to ask, with the plan's version pinned."""
    retry: RetryPolicy
    chunk: ChunkOptions
    memory: Allowance = Allowance()
    """What the worker's process may take."""
    generation: int = 0
    max_rate: float | None = None
    """Requests a second that all workers of the run may make together."""
    storage: StorageOptions = StorageOptions()
    links: Links | None = None
    """New links to the images."""


class ChunkWorker:
    """Works through chunks, also a few at once in several threads. A context manager."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Opens a channel and starts threads.

        Raises:
          UsageError: there is too little memory for any image.
        """
        options = spec.plan.options
        limits = ImageLimits(max_image_bytes=options.max_image_bytes, max_image_pixels=options.max_image_pixels)
        self._spec = spec
        self._stores = Stores(spec.storage, spec.retry.by_many(spec.chunk.readers), stop_request.STOP)
        self._folder = RunFolder(self._stores.writable(spec.output), spec.output)
        self._folder.links = spec.links
        self._parts = self._folder.parts(spec.plan)
        self._sources = SourceCheck(spec.plan, self._folder, self._parts, self._stores, spec.retry.patience_s)
        self._under_way: set[int] = set()
        self._stamps: dict[str, Stamp] = {}
        """The stamps of files that were read and have no outcome yet, by the paths of their rows."""
        self._failure: Exception | None = None
        self._told, self._telling = (0, 0), threading.Lock()
        retry = spec.retry.by_many(spec.chunk.requests_in_flight)
        with contextlib.ExitStack() as opened:
            turn = None
            if spec.max_rate is not None:
                workers = self._folder.workers_folder(spec.plan)
                limit = opened.enter_context(rate_limit(spec.max_rate, self._folder.storage, workers))
                turn = functools.partial(limit.turn, stop_request.STOP)
            client = PredictClient(
                spec.endpoint, retry=retry, stop=stop_request.STOP, retried=transient_in_time, turn=turn
            )
            opened.callback(client.close)
            opened.enter_context(stop_request.closed_on_stop(client.close))
            self._client = client
            self._predictor = opened.enter_context(
                served_predictor(
                    client,
                    spec.plan.model.contract,
                    options.wire,
                    read_row(self._read, limits.max_image_bytes),
                    limits=limits,
                    options=spec.chunk,
                    memory=spec.memory,
                    retry=retry,
                    stop=stop_request.STOP,
                )
            )
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends threads and channel."""
        self._opened.close()

    def work(self, chunk: int) -> Counter[str]:
        """Writes the part of a chunk, unless it has one, and returns the number of its rows by verdict.

        Raises:
          ServingError, StorageUnavailable: the run has to stop; the chunk has no part.
          SourceGone: the place that its images were in is gone.
          VersionGone: the pinned version is not served any more.
          Interrupted: a stop was requested.
        """
        self._under_way.add(chunk)
        try:
            with output_errors(self._spec.output):
                return self._work(chunk)
        except Exception as error:
            self._failure = self._failure or error
            raise
        finally:
            self._under_way.discard(chunk)

    def forget_failure(self) -> None:
        """Makes the worker usable after a failure, which ended all the chunks under way."""
        self._failure = None
        self._sources.forget()

    def _work(self, chunk: int) -> Counter[str]:
        spec = self._spec
        if self._parts.exists(spec.generation, chunk):
            return Counter()
        began, started = time.time(), time.monotonic()
        try:
            outcomes = self._predict(self._rows(chunk))
        except ModelNotFound as error:
            raise version_gone(spec.endpoint, error) from error
        except Exception:
            stop_request.raise_if_stopped()  # a stop closes the channel, which is not an error of the server's
            raise
        work = ChunkWork(round(began, 3), round(time.monotonic() - started, 3), len(outcomes), *self._repeated())
        self._parts.write(spec.generation, chunk, outcomes, work)
        return Counter(outcome.verdict for outcome in outcomes)

    def _repeated(self) -> tuple[int, int]:
        """Requests and calls to stores that were repeated since this was asked before; chunks share the client."""
        with self._telling:
            now = self._client.retries + self._predictor.retries, self._stores.retries
            before, self._told = self._told, now
        return now[0] - before[0], now[1] - before[1]

    def _predict(self, rows: list[tuple[int, Row]]) -> list[Outcome]:
        outcomes, paths = [], {number: row.path for number, row in rows}
        for outcome in self._predictor.outcomes(rows):
            stamp = self._stamps.pop(paths[outcome.row], None)
            outcomes.append(outcome._replace(stamp=stamp) if outcome.verdict == "rejected" else outcome)
            progress.report(self._spec.plan.id, outcome.verdict)
            stop_request.raise_if_stopped()
            if self._failure:  # of another chunk, which ends the run
                raise self._failure
        return outcomes

    def _rows(self, chunk: int) -> list[tuple[int, Row]]:
        """The rows of this generation, where their files are now, with their places in the chunk."""
        rows = self._folder.read_places(self._spec.plan, chunk)
        if self._spec.generation == 0:
            return list(enumerate(rows))
        return [(row, rows[row]) for row in self._coverage[chunk]]

    @functools.cached_property
    def _coverage(self) -> dict[int, list[int]]:
        return self._parts.coverage(self._spec.generation)

    def _read(self, path: str, limit: int) -> bytes:
        """The bytes of an image; where they can't be read, its whole source is checked first."""
        try:
            found = self._try_to_read(path, limit)
        except FileNotFoundError:
            self._sources.after_missing(path, list(self._under_way))
            found = self._try_to_read(path, limit)  # its source is there, and may have been away for a moment
        except TooLarge as error:
            if error.args:
                self._stamps[path] = {"size": str(error.args[0])}
            raise
        self._stamps[path] = found.stamp
        return found.data

    def _try_to_read(self, path: str, limit: int) -> Fetched:
        """The file of an image whose place may be away for a while.

        Raises:
          FileError: it can't be read; others can.
          StorageUnavailable, SourceGone: nothing of its source answers.
        """
        since, failed = time.monotonic(), threading.Event()

        def patience() -> float:
            failed.set()
            return self._sources.patience_s(path)

        try:
            found = self._stores(path).within(patience).fetch(path, limit)
        except StorageUnavailable as error:
            stop_request.raise_if_stopped()  # a stop ends the tries, too
            if not self._sources.fails_alone(path, list(self._under_way), since):
                raise
            raise FileError(f"{error}, while others were read") from error
        except FileError:
            self._sources.after_unreadable(path, list(self._under_way))
            raise
        self._sources.note_read(path, tried_again=failed.is_set())
        return found
