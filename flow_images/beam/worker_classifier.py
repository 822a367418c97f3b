"""Classifies images on one worker: a channel, a decoder and threads. No Beam in here."""

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from beam_jobs.chunk_predictor import ChunkOptions, served_predictor
from beam_jobs.memory import CHUNKS_AT_ONCE, Allowance
from beam_jobs.parts import Outcome
from beam_jobs.read_patience import ReadPatience
from flow_images.classification import Classification, LabelScore
from serving.client.answer_check import check_answers
from serving.client.client_options import Endpoint
from serving.client.discovery import discover
from serving.client.image_calls import ImagePredictor
from serving.client.model_overrides import ModelOverrides
from serving.client.predict_client import PredictClient
from serving.client.wire_choice import choose
from serving.console.option_fields import Options, option, options_class
from serving.contract import ModelContract
from serving.errors import FileError, StorageUnavailable
from serving.images.limits import ImageLimits, bad_name, own_faults
from serving.images.wire import Wire, WireOrAuto
from serving.network.retry import RetryPolicy, transient_in_time
from serving.storage.base import place_of
from serving.storage.local_file import TooLarge
from serving.storage.storage_options import StorageOptions
from serving.storage.stores import Stores
from serving.text.utf8_files import is_utf8


class Image(NamedTuple):
    """An image to classify: the path of its file, or the file's bytes."""

    name: str | int
    """What the result calls it."""
    path: str = ""
    data: bytes | None = None

    @property
    def size(self) -> int | None:
        """Bytes of the file, where they are known before it is opened."""
        return None if self.data is None else len(self.data)


@options_class
class WorkerOptions(Options):
    """All that a worker needs to know: plain values, which can be pickled and compared."""

    endpoint: Endpoint
    retry: RetryPolicy
    wire: WireOrAuto
    overrides: ModelOverrides = option("What a model without a contract can't tell.")
    limits: ImageLimits = option("What an image may cost.")
    chunk: ChunkOptions
    max_memory: int | None = option("Bytes that the process may take; None to find out.", least=1)
    storage: StorageOptions = option("How buckets are reached.")

    def at(self, version: int) -> Self:
        """The same for one version of the model."""
        return dataclasses.replace(self, endpoint=dataclasses.replace(self.endpoint, version=version))


class Worker:
    """Classifies images by one version of a model. Safe to use from several threads; `close` ends its channel."""

    def __init__(self, options: WorkerOptions) -> None:
        """Opens the channel, and replays the model's golden images.

        Args:
          options: with a version.

        Raises:
          ContractError: the server does not keep the model's contract.
          ServingError: the server can't be asked.
          UsageError: options that the model does not fit, or too little memory.
        """
        self._options = options
        self._contract, wire = _checked(options)
        self._stop = threading.Event()
        self._stores = Stores(options.storage, options.retry.by_many(options.chunk.readers), self._stop)
        self._patience = ReadPatience(options.retry.patience_s)
        self._turns = threading.BoundedSemaphore(CHUNKS_AT_ONCE)
        retry = options.retry.by_many(options.chunk.requests_in_flight)
        self._client = PredictClient(options.endpoint, retry=retry, stop=self._stop, retried=transient_in_time)
        self._predictor = served_predictor(
            self._client,
            self._contract,
            wire,
            self._read,
            limits=options.limits,
            options=options.chunk,
            memory=Allowance(options.max_memory),
            retry=retry,
            stop=self._stop,
        )

    def classify(self, images: Sequence[Image]) -> Iterator[Classification]:
        """The result of each image, in their order.

        Raises:
          ServingError: the server can't be asked at all, or refuses what it answered before.
          StorageUnavailable: the same of the images' store.
        """
        with self._turns:  # the memory is divided among so many
            for image, outcome in zip(images, self._predictor.outcomes(enumerate(images)), strict=True):
                yield self._result(image, outcome)

    def close(self) -> None:
        """Ends the threads, after the work under way, and the channel."""
        self._stop.set()
        self._predictor.close()
        self._client.close()

    def _read(self, image: Image, room: int) -> bytes:
        """The bytes of a file; raises as `beam_jobs.image_reader.Read` says."""
        most = self._options.limits.max_image_bytes
        with own_faults(most, room):
            if image.data is not None:
                if len(image.data) > min(room, most):
                    raise TooLarge(len(image.data))
                return image.data
            if not is_utf8(image.path):
                raise bad_name()
            return self._read_file(image.path, min(room, most))

    def _read_file(self, path: str, limit: int) -> bytes:
        """The bytes of a file; raises FileError where its place does not answer, while other files are read."""
        place, since, failed = place_of(path), time.monotonic(), threading.Event()

        def patience() -> float:
            failed.set()
            return self._patience.seconds(place)

        try:
            data = self._stores(path).within(patience).read(path, limit)
        except StorageUnavailable as error:
            if self._stop.is_set() or not self._patience.was_read(since):
                raise
            self._patience.note_failed_alone(place, since)
            raise FileError(f"{error}, while others were read") from error
        self._patience.note_read(place, tried_again=failed.is_set())
        return data

    def _result(self, image: Image, outcome: Outcome) -> Classification:
        labels = self._contract.labels
        return Classification(
            image=image.name,
            verdict=outcome.verdict,
            top=tuple(
                LabelScore(labels[index], score) for index, score in zip(outcome.classes, outcome.scores, strict=True)
            ),
            reason=outcome.reason,
            message=outcome.message,
        )


def _checked(options: WorkerOptions) -> tuple[ModelContract, Wire]:
    """The model's contract, after the server was found to keep it, and the wire form to use."""
    with PredictClient(options.endpoint, retry=options.retry) as client:
        contract = discover(client, options.overrides)
        wire = choose(contract, options.wire, options.endpoint.address, options.limits).wire
        check_answers(ImagePredictor(client, contract, wire), options.overrides)
        return contract, wire
