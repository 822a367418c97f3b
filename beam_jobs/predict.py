"""One chunk of the manifest: read, preprocess, batch, ask, and a verdict on every row. No Beam in here."""

import dataclasses
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from beam_jobs.ahead import map_ahead
from beam_jobs.manifest import Row
from beam_jobs.parts import Outcome, Verdict
from beam_jobs.storage import StorageError
from serving.errors import FlowImagesError, InvalidRequest, RequestTooLarge, ServerUnavailable
from serving.local_files import TooLarge
from serving.payload import CORRUPT, NOT_DECODED, Payload
from serving.pictures import PictureRejected
from serving.predictor import Scores
from serving.retry import heard_again
from serving.scores import round_scores

Array = np.ndarray[Any, np.dtype[Any]]


class Predictor(Protocol):
    """What a chunk needs of a model; `serving.predictor.ImagePredictor` is one."""

    def predict(self, pictures: Sequence[Payload]) -> Scores:
        """Scores n ≥ 1 pictures in one call; raises ServingError."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChunkOptions:
    """How one chunk is worked through."""

    batch_size: int = 32
    """Pictures a request."""
    top_k: int = 5
    """Classes to keep of each picture; 0 for all of them, in the order of the labels."""
    readers: int = 64
    """Pictures that are read and decoded at once: with 50 ms of latency each, 1,280 a second."""
    requests_in_flight: int = 3
    """One that the server works on, one on the wire, one in its queue."""
    lone_retries: int = 2
    """How often a picture whose request was refused is asked again, alone, before its verdict."""
    doubtful_retries: int = 9
    """The same once a picture was refused that then got its scores: others' bad pictures fail our requests."""
    decoded_by_server: bool = False
    """Pictures are sent as files to a model that fails on a bad one, so a refusal is the picture's own fault."""


_REFUSED = "refused"
_LARGEST_BATCH = re.compile(r"larger than maximum input batch size (\d+)")
"""In the refusal of a request that the server's batches can't hold, which says nothing about a picture."""


class _Prepared(NamedTuple):
    row: int
    payload: Payload | None
    outcome: Outcome | None


class ChunkPredictor:
    """Gives each row of a chunk its outcome; one bad picture costs only itself. A context manager."""

    def __init__(
        self,
        read: Callable[[Row], bytes],
        encode: Callable[[bytes], Payload],
        predictor: Predictor,
        options: ChunkOptions,
        stop: threading.Event | None = None,
    ) -> None:
        """Starts threads that wait for work.

        Args:
          read: the bytes of a row's file; see `beam_jobs.storage` for its errors.
          encode: bytes to payload, raising PictureRejected.
          predictor: scores payloads.
          options: sizes and windows.
          stop: when set, ends waits before lone retries.
        """
        self._read = read
        self._encode = encode
        self._predictor = predictor
        self._options = options
        self._stop = stop or threading.Event()
        self._doubt = threading.Event()
        self._largest = options.batch_size
        self._witness: _Prepared | None = None
        self._readers = ThreadPoolExecutor(options.readers, thread_name_prefix="read")
        self._requests = ThreadPoolExecutor(options.requests_in_flight, thread_name_prefix="ask")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads, after the work under way."""
        self._readers.shutdown(cancel_futures=True)
        self._requests.shutdown(cancel_futures=True)

    def outcomes(self, rows: Iterable[tuple[int, Row]]) -> Iterator[Outcome]:
        """One outcome for each (place in the chunk, row), in their order.

        Reads, decoding and requests overlap: while a request is under way the next batches are prepared.

        Raises:
          ServingError: the server can't be asked at all, or refuses what it answered before; no outcome after the last
            one yielded is known.
          StorageUnavailable: the same of the pictures' store.
        """
        options = self._options
        prepared = map_ahead(self._readers, self._prepare, rows, window=options.readers + 2 * options.batch_size)
        batches = _batches(prepared, options.batch_size)
        for answered in map_ahead(self._requests, self._answer, batches, window=options.requests_in_flight):
            yield from answered

    def _prepare(self, numbered: tuple[int, Row]) -> _Prepared:
        number, row = numbered
        try:
            return _Prepared(number, self._encode(self._read(row)), None)
        except PictureRejected as error:
            stage = "decode" if error.reason == CORRUPT else "read"
            return _Prepared(number, None, Outcome(number, "rejected", stage=stage, reason=error.reason,
                                                   message=error.message))  # fmt: skip
        except (StorageError, PermissionError) as error:
            return _failed(number, error)
        except FlowImagesError:  # no row's fault: the run has to stop
            raise
        except Exception as error:  # a slip of a library over one hostile row must not end the run of all others
            return _failed(number, error)

    def _answer(self, batch: list[_Prepared]) -> list[Outcome]:
        pictures = [one for one in batch if one.payload is not None]
        known = {one.row: one.outcome for one in batch if one.outcome}
        doubted = self._doubt.is_set()
        known |= {outcome.row: outcome for outcome in (self._score(pictures) if pictures else ())}
        if self._doubt.is_set() and not doubted:  # who was heard before there was reason to doubt is heard again
            again = [one for one in pictures if known[one.row].reason == _REFUSED]
            known |= {one.row: self._score_alone(one, None) for one in again}
        return [known[one.row] for one in batch]

    def _score(self, pictures: Sequence[_Prepared]) -> list[Outcome]:
        """Asks once; a refused request is halved, as any of its pictures may be to blame, or none."""
        if len(pictures) > self._largest:
            return self._score_halves(pictures)
        try:
            scores = self._predictor.predict([one.payload for one in pictures])  # type: ignore[misc]
        except InvalidRequest as error:
            if len(pictures) == 1:
                return [self._score_alone(pictures[0], error)]
            if largest := _LARGEST_BATCH.search(str(error)):
                self._largest = max(1, int(largest[1]))  # learned once, not by a refusal of each batch
                return self._score_halves(pictures)
            halves = self._score_halves(pictures)
            if not isinstance(error, RequestTooLarge):
                self._note_innocence(halves)
            return halves
        self._witness = pictures[0]
        return [
            self._outcome(one.row, probabilities, bool(ok))
            for one, probabilities, ok in zip(pictures, scores.probabilities, scores.ok, strict=True)
        ]

    def _score_halves(self, pictures: Sequence[_Prepared]) -> list[Outcome]:
        half = len(pictures) // 2
        return self._score(pictures[:half]) + self._score(pictures[half:])

    def _note_innocence(self, outcomes: Sequence[Outcome]) -> None:
        """A refused request of which no picture was to blame: somebody else's was, in the server's batch."""
        if not any(outcome.reason == _REFUSED for outcome in outcomes):
            self._doubt.set()

    def _score_alone(self, picture: _Prepared, error: InvalidRequest | None) -> Outcome:
        """A last hearing: with server-side batching the refusal may be another client's picture's fault."""
        try:
            scores = self._hear(picture, error, self._retries)
        except RequestTooLarge as refusal:
            return Outcome(picture.row, "rejected", stage="predict", reason="too_large", message=_first_line(refusal))
        except InvalidRequest as refusal:
            self._confront(refusal)
            verdict: Verdict = "rejected" if self._options.decoded_by_server else "failed"
            return Outcome(picture.row, verdict, stage="predict", reason=_REFUSED, message=_first_line(refusal))
        self._doubt.set()
        return self._outcome(picture.row, scores.probabilities[0], bool(scores.ok[0]))

    def _hear(self, picture: _Prepared, refusal: InvalidRequest | None, retries: Callable[[], int]) -> Scores:
        """Asks about a picture alone, after the refusal of its request if there was one; raises the last refusal."""
        before = [refusal] if refusal else []

        def ask() -> Scores:
            if before:
                raise before.pop()
            return self._predictor.predict([picture.payload])  # type: ignore[list-item]

        heard = len(before)
        return heard_again(ask, lambda: heard + retries(), self._stop)

    def _retries(self) -> int:
        return self._options.doubtful_retries if self._doubt.is_set() else self._options.lone_retries

    def _confront(self, refusal: InvalidRequest) -> None:
        """No picture is condemned by a server that refuses what it answered before: it is sick itself."""
        if self._witness is not None:
            try:
                self._hear(self._witness, None, lambda: self._options.doubtful_retries)
            except InvalidRequest as error:
                raise ServerUnavailable(f"the server refuses what it has answered before: {error}") from refusal

    def _outcome(self, row: int, probabilities: Array, ok: bool) -> Outcome:
        if not ok:
            return Outcome(row, "rejected", stage="decode", reason=CORRUPT, message=NOT_DECODED)
        if not np.isfinite(probabilities).all():
            return Outcome(row, "failed", stage="predict", reason="not_finite", message="the model answered NaN")
        classes, scores = rank(probabilities, self._options.top_k)
        return Outcome(row, "predicted", classes, scores)


def _failed(row: int, error: Exception) -> _Prepared:
    message = _first_line(error)
    return _Prepared(row, None, Outcome(row, "failed", stage="read", reason="unreadable", message=message))


def rank(probabilities: Array, top_k: int) -> tuple[list[int], list[float]]:
    """The best classes and their scores, to six significant digits; ties by label order.

    Args:
      probabilities: floats [classes].
      top_k: how many; 0 for all, in label order.
    """
    rounded = round_scores(probabilities)
    order = np.argsort(-rounded, kind="stable")[:top_k] if top_k else np.arange(len(rounded))
    return order.tolist(), rounded[order].tolist()


def read_row(read: Callable[[str, int], bytes], max_bytes: int) -> Callable[[Row], bytes]:
    """A reader of manifest rows that turns what is the picture's own fault into PictureRejected."""

    def reader(row: Row) -> bytes:
        if row.unnameable:
            raise PictureRejected("bad_name", "the file's name is not UTF-8: rename it")
        try:
            return read(row.path, max_bytes)
        except FileNotFoundError as error:
            raise PictureRejected("missing", "there is no such file any more, or never was") from error
        except IsADirectoryError as error:
            raise PictureRejected("not_a_file", "a folder or a device, not a file") from error
        except TooLarge as error:
            size = f"{error.args[0]:,} bytes, " if error.args else ""
            raise PictureRejected(
                "too_large", f"{size}over the limit of {max_bytes:,} bytes (--max-image-bytes)"
            ) from error

    return reader


def _batches(prepared: Iterable[_Prepared], size: int) -> Iterator[list[_Prepared]]:
    """Groups of `size` payloads, with the rows between them that have their verdict already."""
    batch: list[_Prepared] = []
    pictures = 0
    for one in prepared:
        batch.append(one)
        pictures += one.payload is not None
        if pictures == size:
            yield batch
            batch, pictures = [], 0
    if batch:
        yield batch


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
