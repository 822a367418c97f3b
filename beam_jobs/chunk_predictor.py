"""One chunk of the manifest: read, preprocess, batch and ask, until every row has its outcome. No Beam in here."""

import dataclasses
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self

from beam_jobs.batch_requests import ChunkOptions as ChunkOptions
from beam_jobs.batch_requests import Predictor, Scorer
from beam_jobs.bounded_map import bounded_map
from beam_jobs.image_reader import ImageReader, Prepared, Read, Source
from beam_jobs.memory import Allowance, Room, divide, resident, tame_allocator
from beam_jobs.parts import Outcome
from serving.client.answer_check import draw_images
from serving.client.image_calls import ImagePredictor
from serving.client.predict_client import PredictClient
from serving.client.scores import Groups
from serving.contract import ModelContract
from serving.images.encoder import Payload, make_encoder
from serving.images.limits import ImageLimits, ImageRejected
from serving.images.wire import Wire
from serving.network.retry import RetryPolicy
from serving.process.tensorflow_import import TENSORFLOW_BYTES


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
          answer_bytes: bytes of one image's scores and embedding.
          retry: how long to go on with a server that misses all deadlines.
          known_good: an image that the model is sure to take.
          stop: when set, ends waits.
        """
        self._options = options
        self._room = room
        self._answer_bytes = answer_bytes
        self._reader = ImageReader(read, encode, options.readers, room, decoded_bytes, options.facts)
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

    @property
    def retries(self) -> int:
        """Requests that were repeated after a missed deadline."""
        return self._scorer.retries

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


def served_predictor(
    client: PredictClient,
    contract: ModelContract,
    wire: Wire,
    read: Read[Source],
    *,
    limits: ImageLimits,
    options: ChunkOptions,
    memory: Allowance,
    retry: RetryPolicy,
    stop: threading.Event,
) -> ChunkPredictor[Source]:
    """A chunk predictor that asks a served model.

    Args:
      client: with the version pinned, and with `retried=transient_in_time`; the caller closes it.
      contract: of that version.
      wire: how images travel.
      read: reads a source's file.
      limits: what an image may cost.
      options: sizes and windows; `decoded_by_server` and `groups` are found out here.
      memory: what the process may take.
      retry: the client's.
      stop: when set, ends waits.

    Raises:
      UsageError: there is too little memory for any image, or the model gives no embeddings.
      ContractError: the model has no signature for the wire form.
    """
    decoded_bytes = _decoded_bytes(contract, wire)
    room = divide(memory, _taken(contract, wire), readers=options.readers, decoded_bytes=decoded_bytes)
    encode = make_encoder(
        contract.preprocessing, wire, limits, memory=room.decoding, sends_doubtful=contract.takes_any_file
    )
    decoded_by_server = wire == "encoded" and contract.signature(wire).ok is None
    return ChunkPredictor(
        read,
        encode,
        ImagePredictor(client, contract, wire, embeddings=options.embeddings),
        dataclasses.replace(
            options,
            decoded_by_server=decoded_by_server,
            groups=Groups(contract.labels, contract.groups) if contract.groups else None,
        ),
        room,
        decoded_bytes=decoded_bytes,
        answer_bytes=_ANSWER_BYTES * _numbers(contract, options),
        retry=retry,
        known_good=_known_good(encode, contract),
        stop=stop,
    )


def _known_good(encode: Callable[[bytes], Payload], contract: ModelContract) -> Payload | None:
    """An image that the model is sure to take; None where the run's limits are below its size."""
    try:
        return encode(draw_images(contract.preprocessing.width, contract.preprocessing.height)[0])
    except ImageRejected:
        return None


_ANSWER_BYTES = 16
"""A number in an answer, in a third of the copies that it goes through."""


def _numbers(contract: ModelContract, options: ChunkOptions) -> int:
    """How many there are in the answer about an image."""
    return len(contract.labels) + (contract.embeddings.width if options.embeddings and contract.embeddings else 0)


def _decoded_bytes(contract: ModelContract, wire: Wire) -> int | None:
    """Bytes of an image as it is sent; None where that is its file."""
    if wire == "encoded":
        return None
    return contract.preprocessing.height * contract.preprocessing.width * 3 * (4 if wire == "float32" else 1)


def _taken(contract: ModelContract, wire: Wire) -> int:
    """Bytes that this process takes before its first image, with TensorFlow if a doubtful image may need it."""
    tame_allocator()
    may_load = wire != "encoded" and not contract.takes_any_file and "tensorflow" not in sys.modules
    return resident() + (TENSORFLOW_BYTES if may_load and importlib.util.find_spec("tensorflow") else 0)
