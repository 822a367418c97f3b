"""One chunk of the manifest: read, preprocess, batch and ask, until every row has its outcome. No Beam in here."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self

from beam_jobs.bounded_map import bounded_map
from beam_jobs.image_reader import ImageReader, Prepared, Read, Source
from beam_jobs.memory import Room
from beam_jobs.parts import Outcome
from beam_jobs.scoring import ChunkOptions as ChunkOptions
from beam_jobs.scoring import Predictor, Scorer
from serving.images.encoder import Payload
from serving.options import RetryPolicy


class ChunkPredictor(Generic[Source]):
    """Gives each row of a chunk its outcome; one bad image costs only itself. A context manager."""

    def __init__(
        self,
        read: Read[Source],
        encode: Callable[[bytes], Payload],
        predictor: Predictor,
        options: ChunkOptions,
        room: Room,
        *,
        decoded_bytes: int | None = None,
        answer_bytes: int = 0,
        retry: RetryPolicy | None = None,
        known_good: Payload | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Starts threads that wait for work.

        Args:
          read: reads a source's file.
          encode: bytes to payload, raising ImageRejected.
          predictor: scores payloads.
          options: sizes and windows.
          room: bytes that the steps may take.
          decoded_bytes: bytes of a payload; None where it is the file.
          answer_bytes: bytes of one image's scores.
          retry: how long to go on with a server that misses all deadlines.
          known_good: an image that the model is sure to take.
          stop: when set, ends waits.
        """
        self._options = options
        self._room = room
        self._answer_bytes = answer_bytes
        self._reader = ImageReader(read, encode, options.readers, room, decoded_bytes)
        self._scorer = Scorer(predictor, options, retry or RetryPolicy(), known_good, stop or threading.Event())
        self._requests = ThreadPoolExecutor(options.requests_in_flight, thread_name_prefix="ask")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads, after the work under way."""
        self._reader.close()
        self._requests.shutdown(cancel_futures=True)

    def outcomes(self, sources: Iterable[tuple[int, Source]]) -> Iterator[Outcome]:
        """One outcome for each (place in the chunk, source), in their order.

        Reads, decoding and requests overlap: while a request is under way the next batches are prepared.

        Raises:
          ServingError: the server can't be asked at all, or refuses what it answered before; no outcome after the last
            one yielded is known.
          StorageUnavailable: the same of the images' store.
        """
        options = self._options
        prepared = self._reader.prepare(sources, window=options.readers + 2 * options.batch_size)
        batches = _batches(prepared, options.batch_size, self._room.batch, self._weight)
        for answered in bounded_map(
            lambda batch: self._requests.submit(self._scorer.answer, batch),
            batches,
            options.requests_in_flight,
            room=self._room.asking,
            cost=self._asking_cost,
        ):
            yield from answered

    def _weight(self, one: Prepared) -> int:
        return one.bytes + self._answer_bytes if one.payload is not None else 0

    def _asking_cost(self, batch: list[Prepared]) -> int:
        """How many bytes a request takes: images, message and gRPC's copy of it, and the same again for the answer."""
        return 3 * sum(map(self._weight, batch))


def _batches(
    prepared: Iterable[Prepared], size: int, room: int, weight: Callable[[Prepared], int]
) -> Iterator[list[Prepared]]:
    """Groups of up to `size` payloads and `room` bytes, with the rows between them that have their outcome already."""
    batch: list[Prepared] = []
    images = amount = 0
    for one in prepared:
        if images and amount + weight(one) > room:
            yield batch
            batch, images, amount = [], 0, 0
        batch.append(one)
        images += one.payload is not None
        amount += weight(one)
        if images == size:
            yield batch
            batch, images, amount = [], 0, 0
    if batch:
        yield batch
