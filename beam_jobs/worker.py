"""What one worker of the job holds: a channel, a decoder, threads; and what it does: one chunk, one part."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Self

from beam_jobs import interrupt
from beam_jobs.chunk_predictor import ChunkOptions, ChunkPredictor
from beam_jobs.image_reader import read_row
from beam_jobs.manifest import Row
from beam_jobs.memory import Allowance, divide, give_back_large_blocks, resident
from beam_jobs.parts import Outcome
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.source_check import SourceCheck
from serving.client import PredictClient
from serving.contract import ModelContract, Wire
from serving.errors import EXIT_RESUMABLE, FlowImagesError, ModelNotFound
from serving.images.encoder import Payload, make_encoder
from serving.images.limits import PictureLimits, PictureRejected
from serving.images.sample_images import draw_pictures
from serving.options import Endpoint, RetryPolicy
from serving.predictor import ImagePredictor
from serving.retry import Retrier, transient_in_time
from serving.storage.base import output_errors
from serving.storage.retrying import RetryingStorage, retrying_storage
from serving.tensorflow_import import import_tensorflow


class Interrupted(FlowImagesError):
    """A stop was asked for; parts that are written stay."""

    exit_code = EXIT_RESUMABLE


class VersionGone(FlowImagesError):
    """The run's model version is not served any more, or not by all servers; the run can go on once it is."""

    exit_code = EXIT_RESUMABLE


def version_gone(endpoint: Endpoint, error: ModelNotFound) -> VersionGone:
    """The error for a run whose version a server does not know, although it was there."""
    return VersionGone(
        f"version {endpoint.version} of {endpoint.model_name} is not served any more, or not by all servers ({error}). "
        "Load it and repeat the command, or start over with another version: --fresh"
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """All that a worker needs, on this machine or another; no secrets."""

    output: str
    plan: Plan
    endpoint: Endpoint
    """With the plan's version pinned."""
    retry: RetryPolicy
    chunk: ChunkOptions
    memory: Allowance = Allowance()
    """What the worker's process may take."""
    generation: int = 0
    beam_flags: tuple[str, ...] = dataclasses.field(default=(), repr=False)


class ChunkWorker:
    """Works through chunks, also a few at once in several threads. A context manager."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Opens a channel and loads the decoder; TensorFlow only if the wire form needs it.

        Raises:
          UsageError: there is too little memory for any picture.
        """
        options, contract = spec.plan.options, spec.plan.model.contract
        limits = PictureLimits(max_image_bytes=options.max_image_bytes, max_image_pixels=options.max_image_pixels)
        self._spec = spec
        self._retrier = Retrier(_shared(spec.retry, spec.chunk.readers), interrupt.STOP)
        self._folder = RunFolder(self._storage(spec.output), spec.output)
        self._parts = self._folder.parts(spec.plan)
        self._sources = SourceCheck(spec.plan, self._folder, self._parts, self._storage)
        self._under_way: set[int] = set()
        retry = _shared(spec.retry, spec.chunk.requests_in_flight)
        self._client = PredictClient(spec.endpoint, retry=retry, stop=interrupt.STOP, retried=transient_in_time)
        interrupt.at_stop(self._client.close)
        self._failure: Exception | None = None
        decoded_bytes = _decoded_bytes(contract, options.wire)
        room = divide(
            spec.memory, _taken(options.wire != "encoded"), readers=spec.chunk.readers, decoded_bytes=decoded_bytes,
        )  # fmt: skip
        encode = make_encoder(contract.preprocessing, options.wire, limits, memory=room.decoding)
        self._predictor = ChunkPredictor(
            read_row(self._read, limits.max_image_bytes),
            encode,
            ImagePredictor(self._client, contract, options.wire),
            spec.chunk,
            room,
            decoded_bytes=decoded_bytes,
            answer_bytes=_ANSWER_BYTES * len(contract.labels),
            retry=retry,
            known_good=_known_good(encode, contract),
            stop=interrupt.STOP,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends threads and channel."""
        self._predictor.close()
        self._client.close()

    def work(self, chunk: int) -> Counter[str]:
        """Gives the chunk its part, unless it has one; counts of the outcomes by verdict.

        Raises:
          ServingError, StorageUnavailable: the run has to stop; the chunk has no part.
          SourceGone: the place that its pictures were in is gone.
          VersionGone: the pinned version is not served any more.
          Interrupted: a stop was asked for.
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
        outcomes = []
        try:
            for outcome in self._predictor.outcomes(self._rows(chunk)):
                outcomes.append(outcome)
                interrupt.report_progress(1)
                _raise_if_stopped()
                if self._failure:
                    raise self._failure  # of another chunk: the run is over, and that is why
        except ModelNotFound as error:
            raise version_gone(spec.endpoint, error) from error
        except Exception:
            _raise_if_stopped()  # a stop closes the channel, which is no error of the server's
            raise
        self._parts.write(spec.generation, chunk, outcomes)
        return Counter(outcome.verdict for outcome in outcomes)

    def _rows(self, chunk: int) -> list[tuple[int, Row]]:
        rows = self._folder.read_chunk(self._spec.plan, chunk)
        if self._spec.generation == 0:
            return list(enumerate(rows))
        return [(outcome.row, rows[outcome.row]) for outcome in self._to_retry(chunk, len(rows))]

    def _to_retry(self, chunk: int, rows: int) -> list[Outcome]:
        latest = self._parts.latest(chunk, rows, self._spec.generation - 1)
        return [outcome for outcome in latest if outcome.may_change]

    def _read(self, path: str, limit: int) -> bytes:
        where = self._spec.plan.locate(path)
        storage = self._storage(where)
        try:
            data = storage.read(where, limit)
        except FileNotFoundError:
            self._sources.after_missing(where, list(self._under_way))
            data = storage.read(where, limit)  # its source is there, and may have been away for a moment
        self._sources.saw(where)
        return data

    def _storage(self, path: str) -> RetryingStorage:
        return retrying_storage(path, self._spec.beam_flags, self._spec.retry, self._retrier)


def _known_good(encode: Callable[[bytes], Payload], contract: ModelContract) -> Payload | None:
    """A picture that the model is sure to take; None where the run's limits are below its size."""
    try:
        return encode(draw_pictures(contract.preprocessing.width, contract.preprocessing.height)[0])
    except PictureRejected:
        return None


_ANSWER_BYTES = 16
"""A score in an answer, in a third of the copies that it goes through."""


def _decoded_bytes(contract: ModelContract, wire: Wire) -> int | None:
    """Bytes of a picture as it is sent; None where that is its file."""
    if wire == "encoded":
        return None
    return contract.preprocessing.height * contract.preprocessing.width * 3 * (4 if wire == "float32" else 1)


@functools.cache
def _taken(with_tensorflow: bool) -> int:
    """Bytes that this process takes before its first picture."""
    give_back_large_blocks()
    if with_tensorflow:
        import_tensorflow()
    return resident()


def _shared(policy: RetryPolicy, callers: int) -> RetryPolicy:
    """The policy for several callers at once: while a server is away each of them spends retries of its own."""
    return dataclasses.replace(policy, budget=policy.budget * callers)


def _raise_if_stopped() -> None:
    if interrupt.STOP.is_set():
        raise Interrupted("interrupted; the same command continues")
