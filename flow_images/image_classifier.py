"""Classifies images with a served model, as operations: what `Client` and `AsyncClient` have in common."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from flow_images.classification import Classification, LabelScore, Verdict
from flow_images.image_inputs import Image, Read, file_of, is_path
from serving.client.answer_check import check_by_samples
from serving.client.discovery import choose_wire, find_contract
from serving.client.image_calls import ImageCalls, Scores
from serving.client.model_calls import ModelCalls
from serving.client.model_overrides import ModelOverrides
from serving.client.scores import Array, rank
from serving.console.option_fields import Options, option, options_class
from serving.contract import ModelContract
from serving.errors import (
    ClientClosed,
    ContractError,
    FileError,
    InvalidRequest,
    ModelNotFound,
    RequestTooLarge,
    ServingError,
    UsageError,
)
from serving.images.damage import why_not_decoded
from serving.images.encoder import CORRUPT, UNDECIDED, Payload, Undecided, make_encoder
from serving.images.limits import ImageLimits, ImageRejected
from serving.images.wire import Wire
from serving.network.retry import repeat_rejected
from serving.network.sans_io import Join, Operation, Work
from serving.storage.storage_options import StorageOptions

CLIENT_WIRES: tuple[Wire, ...] = ("encoded", "uint8", "float32")
"""The wire forms in the order in which a client prefers them: a photo's file is small, and needs no TensorFlow here."""
NOT_FINITE = "not_finite"
"""The reason where the model answers NaN."""
_LONE_ATTEMPTS = 3
"""How often a single image is asked about that the server refuses: other clients' images may fail our requests."""
_READERS = 8
"""Images of a batch that are read and encoded at once."""

Named = tuple[str | int, Image]
"""An image and what its result calls it."""


@options_class
class ClassifierOptions(Options):
    """How images are read and sent, and what is answered."""

    wires: Sequence[Wire] = CLIENT_WIRES
    """Forms in which to send images; the first that the model has is taken."""
    top_k: int = option("Classes of each result; where the model has fewer, all of them.", default=5, least=1)
    batch_size: int = option("Most images a request.", default=32, least=1)
    overrides: ModelOverrides = option("What a model without a contract can't tell.", default=ModelOverrides())
    limits: ImageLimits = option("What an image may cost.", default=ImageLimits())
    storage: StorageOptions = option("How buckets are reached.", default=StorageOptions())

    def __post_init__(self) -> None:
        super().__post_init__()
        wires = self.wires if isinstance(self.wires, list | tuple) else ()
        if not wires or any(wire not in CLIENT_WIRES for wire in wires):
            raise UsageError(f"`wire` must be one of {', '.join(CLIENT_WIRES)}, or a list of these, not {self.wires}")


class ServedModel:
    """One version of a model, with all that is needed to ask it."""

    def __init__(
        self, calls: ImageCalls, encode: Callable[[bytes], Payload], read: Read, options: ClassifierOptions
    ) -> None:
        """Asks nothing.

        Args:
          calls: to this version.
          encode: from a file to what is sent; raises ImageRejected.
          read: reads files.
          options: of the classifier.
        """
        self.calls = calls
        self._encode = encode
        self._read = read
        self._options = options

    @property
    def contract(self) -> ModelContract:
        """The version's contract."""
        return self.calls.contract

    def classify(self, images: Sequence[Named]) -> Operation[list[Classification]]:
        """A result for each image of a batch, in their order.

        Raises:
          ModelNotFound: the version has left the server.
          ServingError: the server can't be asked.
          StorageUnavailable: the store of a path does not answer.
        """
        reads = any(is_path(image) for _, image in images)
        prepared: list[Payload | Classification] = yield Work(lambda: self._prepare(images), waits=reads)
        known = {place: one for place, one in enumerate(prepared) if isinstance(one, Classification)}
        waiting = [[(place, one) for place, one in enumerate(prepared) if not isinstance(one, Classification)]]
        while waiting:
            part = waiting.pop()
            if not part:
                continue
            try:
                scores = yield from self._ask([payload for _, payload in part])
            except InvalidRequest as error:  # any of the images may be the cause, or none
                half = len(part) // 2
                if half:
                    waiting += [part[half:], part[:half]]
                else:
                    known[part[0][0]] = self._refused(images[part[0][0]][0], error)
                continue
            for (place, payload), probabilities, ok in zip(part, scores.probabilities, scores.ok, strict=True):
                known[place] = self._result(images[place][0], payload, probabilities, bool(ok))
        return [known[place] for place in range(len(images))]

    def _prepare(self, images: Sequence[Named]) -> list[Payload | Classification]:
        if len(images) == 1:
            return [self._prepare_one(images[0])]
        with ThreadPoolExecutor(_READERS) as threads:
            return list(threads.map(self._prepare_one, images))

    def _prepare_one(self, named: Named) -> Payload | Classification:
        name, image = named
        try:
            return self._encode(file_of(image, self._options.limits, self._read))
        except ImageRejected as error:
            return Classification(image=name, verdict="rejected", reason=error.reason, message=error.message)
        except Undecided as error:
            return Classification(image=name, verdict="failed", reason=UNDECIDED, message=str(error))
        except (FileError, OSError) as error:
            message = getattr(error, "strerror", None) or str(error)
            return Classification(image=name, verdict="failed", reason="unreadable", message=message)

    def _ask(self, payloads: Sequence[Payload]) -> Operation[Scores]:
        if len(payloads) > 1:
            return self.calls.predict(payloads)
        return repeat_rejected(lambda: self.calls.predict(payloads), lambda: _LONE_ATTEMPTS)

    def _refused(self, name: str | int, error: InvalidRequest) -> Classification:
        if isinstance(error, RequestTooLarge):
            return Classification(image=name, verdict="rejected", reason="too_large", message=str(error))
        signature = self.contract.signature(self.calls.wire)
        decoded_by_server = self.calls.wire == "encoded" and signature.ok is None
        verdict: Verdict = "rejected" if decoded_by_server else "failed"
        return Classification(image=name, verdict=verdict, reason="refused", message=str(error))

    def _result(self, name: str | int, payload: Payload, probabilities: Array, ok: bool) -> Classification:
        if not ok:
            return Classification(image=name, verdict="rejected", reason=CORRUPT, message=why_not_decoded(payload))
        if not np.isfinite(probabilities).all():
            return Classification(image=name, verdict="failed", reason=NOT_FINITE, message="the model answered NaN")
        classes, scores = rank(probabilities, self._options.top_k)
        top = tuple(LabelScore(self.contract.labels[one], score) for one, score in zip(classes, scores, strict=True))
        return Classification(image=name, verdict="predicted", top=top)


class ImageClassifier:
    """Finds the model's version and contract at the first call, and again when that version leaves the server.

    Callers who come meanwhile share each try to find them, but every caller has a patience of its own: none waits for
    another's.
    """

    def __init__(self, calls: ModelCalls, read: Read, options: ClassifierOptions) -> None:
        """Asks nothing yet.

        Args:
          calls: to the model; with the version that the user wants, if any.
          read: reads files.
          options: how images are sent and what is answered.
        """
        self.calls = calls
        self.options = options
        self._single_calls = calls.without_retries()
        self._read = read
        self._lock = threading.Lock()
        """Held for a moment, and over no step."""
        self._model: ServedModel | None = None
        self._try_under_way: Future[ServedModel | None] | None = None

    def model(self, gone: ServedModel | None = None) -> Operation[ServedModel]:
        """The version that is asked.

        Args:
          gone: one that has left the server.

        Raises:
          UsageError, ContractError: the model can't be asked with these options.
          ServingError: the server can't be asked.
        """
        if self._model is not None and self._model is not gone:
            return self._model
        return (yield from self.calls.repeat(lambda: self._shared_try(gone)))

    def _shared_try(self, gone: ServedModel | None) -> Operation[ServedModel]:
        """One try to connect: this caller's, or that of another caller who is at it."""
        model: ServedModel | None
        while True:
            with self._lock:
                if self._model is not None and self._model is not gone:
                    return self._model
                shared = self._try_under_way
                if shared is None:
                    mine = self._try_under_way = Future()
                    mine.set_running_or_notify_cancel()
                    break
            try:
                model = yield Join(shared)
            except (ServingError, ContractError) as error:
                raise type(error)(*error.args) from error  # an error's traceback is one caller's
            if model is not None and model is not gone:
                return model
        try:
            model = yield from self._connect()
        except BaseException as error:
            self._end_try(mine, None, error)
            raise
        self._end_try(mine, model)
        return model

    def _end_try(
        self, mine: "Future[ServedModel | None]", model: ServedModel | None, error: BaseException | None = None
    ) -> None:
        with self._lock:
            self._model = model or self._model
            self._try_under_way = None
        if isinstance(error, ServingError | ContractError) and not isinstance(error, ClientClosed):
            mine.set_exception(error)
        else:
            mine.set_result(model)  # None where this caller was cancelled: another one goes on

    def classify(self, images: Sequence[Named]) -> Operation[list[Classification]]:
        """Does what `ServedModel.classify` does; if no version is named, the latest replaces one that left."""
        model = yield from self.model()
        try:
            return (yield from model.classify(images))
        except ModelNotFound:
            if self.calls.endpoint.version is not None:
                raise
        model = yield from self.model(gone=model)
        return (yield from model.classify(images))

    def check(self) -> Operation[float]:
        """See `ImageCalls.check_golden`."""
        model = yield from self.model()
        return (yield from model.calls.check_golden())

    def _connect(self) -> Operation[ServedModel]:
        options = self.options
        version = yield from self._single_calls.available_version()
        calls = self._single_calls.pinned(version)
        contract = yield from find_contract(calls, options.overrides)
        wire = choose_wire(contract, options.wires)
        image_calls = ImageCalls(self.calls.pinned(version), contract, wire)
        encode = make_encoder(contract.preprocessing, wire, options.limits, sends_doubtful=contract.takes_any_file)
        if contract.golden is None:
            yield from check_by_samples(ImageCalls(calls, contract, wire), options.overrides)
        return ServedModel(image_calls, encode, self._read, options)
