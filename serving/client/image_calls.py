"""Scores images with a served model, in the wire form of its contract: as operations, and for threads."""

import functools
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from serving.client.model_calls import ModelCalls
from serving.client.predict_client import PredictClient
from serving.client.scores import activate
from serving.contract import Golden, ModelContract, golden_distance, golden_key
from serving.errors import ContractError, InvalidRequest, MalformedAnswer
from serving.images.as_png import as_png, is_webp
from serving.images.encoder import Payload, make_encoder
from serving.images.limits import ImageLimits
from serving.images.wire import Wire
from serving.network.retry import repeat_rejected
from serving.network.sans_io import Operation, Work

Array = np.ndarray[Any, np.dtype[Any]]


class Scores(NamedTuple):
    """Answers for n images: row i belongs to image i."""

    probabilities: Array
    """Floats [n, classes]."""
    ok: Array
    """bool [n]: False where the server could not decode the image, whose row then means nothing."""
    embeddings: Array | None = None
    """float32 [n, width], the layer before the head; None where it was not asked for."""


class PackedImages(list[Payload]):
    """Images as they lie in the message of their request, so that a batch is in memory once and not twice."""

    def __init__(self, images: Sequence[Payload], request: bytes) -> None:
        super().__init__(images)
        self.request = request


class ImageCalls:
    """Operations about batches of images; every answer is checked against what was asked."""

    def __init__(self, calls: ModelCalls, contract: ModelContract, wire: Wire, *, embeddings: bool = False) -> None:
        """Asks nothing yet.

        Args:
          calls: to the model.
          contract: of the model.
          wire: how images travel.
          embeddings: whether the layer before the head is asked for, too.

        Raises:
          ContractError: the model has no signature for the wire form.
          UsageError: it has none that gives embeddings.
        """
        self.contract = contract
        self.wire = wire
        self._calls = calls
        self._signature = contract.signature(wire, embeddings=embeddings)
        self._shape = (contract.preprocessing.height, contract.preprocessing.width, 3)
        self._takes_webp = True  # until a server decodes one as a PNG only
        takes_files = wire != "encoded" and contract.takes_any_file
        self._of_files = ImageCalls(calls, contract, "encoded", embeddings=embeddings) if takes_files else None

    def predict(self, images: Sequence[Payload]) -> Operation[Scores]:
        """Scores a batch.

        Args:
          images: n ≥ 1 payloads as `serving.images.encoder.make_encoder` gives them for this wire form. Files among
            arrays are asked about in a request of their own, if the server takes any file.

        Returns:
          n rows.

        Raises:
          InvalidRequest: a payload of the wrong shape or dtype (seen before sending), or the server refuses;
            MalformedAnswer where it has not n rows of numbers.
          ContractError: the answer has not as many classes as the contract has labels.
          ServingError: see `ModelCalls.predict`.
        """
        files = [place for place, image in enumerate(images) if isinstance(image, bytes)]
        if self._of_files and files:
            return (yield from self._ask_apart(self._of_files, files, images))
        if self.wire != "encoded":
            return (yield from self._ask_in_batches(images))
        if not self._takes_webp:
            images = yield Work(lambda: [self._file_to_send(image) for image in images])
        scores = yield from self._ask_in_batches(images)
        return (yield from self._without_webp(images, scores))

    def _file_to_send(self, image: Payload) -> Payload:
        return (isinstance(image, bytes) and is_webp(image) and as_png(image)) or image

    def _without_webp(self, images: Sequence[Payload], scores: Scores) -> Operation[Scores]:
        """Asks again about each WebP that was not decoded, as a PNG: an older server decodes no WebP."""
        refused = [place for place, image in enumerate(images) if not scores.ok[place] and is_webp(image)]
        if not refused:
            return scores
        made: list[Payload] = yield Work(lambda: [self._file_to_send(images[place]) for place in refused])
        changed = [place for place, image in zip(refused, made, strict=True) if not is_webp(image)]
        if not changed:
            return scores
        again = yield from self._ask_in_batches([image for image in made if not is_webp(image)])
        self._takes_webp = self._takes_webp and not again.ok.any()
        order = np.arange(len(images))
        order[changed] = len(images) + np.arange(len(changed))
        return _rows(_joined([scores, again]), order)

    def _ask_in_batches(self, images: Sequence[Payload]) -> Operation[Scores]:
        """Requests of as many images as the model takes at once."""
        batch = self._signature.batch
        if batch is None:
            return (yield from self._ask(images))
        parts = []
        for start in range(0, len(images), batch):
            parts.append((yield from self._ask(images[start : start + batch])))
        return _joined(parts)

    def pack(self, images: Sequence[Payload]) -> Sequence[Payload]:
        """The same images, packed if they can be; to `predict` these again, no message is made again."""
        if self.wire == "encoded" or self._signature.batch or any(isinstance(image, bytes) for image in images):
            return images
        try:
            request = self._request(images)
        except InvalidRequest:  # which `predict` will say
            return images
        shape = (len(images), *self._shape)
        numbers = np.frombuffer(request, self.wire, offset=len(request) - prod(shape) * np.dtype(self.wire).itemsize)
        return PackedImages(list(numbers.reshape(shape)), request)

    def _ask_apart(self, of_files: "ImageCalls", files: Sequence[int], images: Sequence[Payload]) -> Operation[Scores]:
        """Asks about the files among some images, and about the others."""
        others = sorted(set(range(len(images))) - set(files))
        scores = [(yield from of_files.predict([images[place] for place in files]))]
        if others:
            scores.append((yield from self.predict([images[place] for place in others])))
        order = np.argsort([*files, *others])
        return _rows(_joined(scores), order)

    def _ask(self, images: Sequence[Payload]) -> Operation[Scores]:
        """One request; it is filled up with its last image where the model takes so many and no fewer."""
        signature = self._signature
        request = images.request if isinstance(images, PackedImages) else self._request(images)
        answer = yield from self._calls.send(request, self._wanted)
        rows, labels = signature.batch or len(images), len(self.contract.labels)
        outputs = answer[signature.output]
        if outputs.ndim != 2 or len(outputs) != rows or outputs.dtype.kind != "f":
            raise self._malformed(signature.output, outputs, f"floats [{rows}, {labels}]")
        if (outputs.shape[1], labels) == (1, 2):
            outputs = self._both(outputs)
        if outputs.shape[1] != labels:
            raise ContractError(
                f"output {signature.output} of signature {signature.name} has {outputs.shape[1]} classes: "
                f"{labels} labels don't fit this model"
            )
        probabilities = activate(outputs, self.contract.activation)
        ok = answer[signature.ok] if signature.ok else np.ones(rows, dtype=bool)
        if ok.shape != (rows,) or ok.dtype != bool:
            raise self._malformed(signature.ok or "", ok, f"bool [{rows}]")
        embeddings = self._embeddings(answer[signature.embeddings], rows) if signature.embeddings else None
        return _rows(Scores(probabilities, ok, embeddings), slice(len(images)))

    @property
    def _wanted(self) -> list[str]:
        signature = self._signature
        return [name for name in (signature.output, signature.ok, signature.embeddings) if name]

    def _request(self, images: Sequence[Payload]) -> bytes:
        signature = self._signature
        sent = [*images, *[images[-1]] * ((signature.batch or 0) - len(images))]
        return self._calls.request({signature.input: self._batch(sent)}, signature=signature.name, outputs=self._wanted)

    def _embeddings(self, found: Array, rows: int) -> Array:
        width = self.contract.embeddings.width if self.contract.embeddings else 0
        if found.shape != (rows, width) or found.dtype.kind != "f":
            raise self._malformed(self._signature.embeddings or "", found, f"floats [{rows}, {width}]")
        return found

    def _both(self, second: Array) -> Array:
        """Outputs [n, 2] of a model with one, which is the second label's: a logit, or a probability."""
        first = {"sigmoid": -second, "softmax": 0 * second, None: 1 - second}[self.contract.activation]
        return np.concatenate([first, second], axis=1)

    def check_golden(self) -> Operation[float]:
        """Replays the golden images against the server, preprocessed as the job will do it.

        Returns:
          `golden_distance` from the references; 0 for a contract without golden images.

        Raises:
          ContractError: it is over the contract's tolerance.
        """
        golden = self.contract.golden
        if golden is None or self.wire not in golden.references:
            return 0.0
        encode = yield Work(lambda: make_encoder(self.contract.preprocessing, self.wire, ImageLimits()))
        files = []
        for index in range(golden.count):
            files.append((yield from self._calls.lookup(golden_key(index))))
        images = yield Work(lambda: [encode(file) for file in files])
        return _accept((yield from self._predict_in_parts(images)), golden, self.wire)

    def try_out(self, images: Sequence[Payload]) -> Operation[Scores]:
        """Scores of drawn images. A refusal is a ContractError, as every other image would be refused, too.

        Raises:
          ContractError: one is refused.
        """
        try:
            return (yield from self._predict_in_parts(images))
        except InvalidRequest as error:
            raise ContractError(
                f"signature {self._signature.name} does not take an image of {self._shape[1]} x {self._shape[0]} "
                f"pixels as {self.wire}: {error}. No image was sent; see `signature`, `input_name`, `image_size` "
                "and `wire`"
            ) from error

    def _predict_in_parts(self, images: Sequence[Payload]) -> Operation[Scores]:
        """Halves what the server refuses, which may allow only smaller batches."""
        waiting, answered = [images], []
        while waiting:
            part = waiting.pop()
            try:
                answered.append((yield from self.predict(part)))
            except InvalidRequest:
                half = len(part) // 2
                if half == 0:
                    answered.append((yield from repeat_rejected(functools.partial(self.predict, part))))
                else:
                    waiting += [part[half:], part[:half]]
        return _joined(answered)

    def _malformed(self, name: str, answer: Array, expected: str) -> MalformedAnswer:
        return MalformedAnswer(
            f"output {name} is {answer.dtype} {list(answer.shape)}, expected {expected}", self._calls.endpoint.address
        )

    def _batch(self, images: Sequence[Payload]) -> list[Array] | list[bytes]:
        if self.wire == "encoded":
            return [bytes(image) for image in images]
        arrays = [image for image in images if isinstance(image, np.ndarray)]
        if len(arrays) < len(images) or any(a.shape != self._shape or a.dtype != self.wire for a in arrays):
            raise InvalidRequest(f"an image must be {self.wire} {list(self._shape)}; nothing was sent")
        return arrays


class ImagePredictor:
    """`ImageCalls` for threads: each call blocks until it has its answer."""

    def __init__(self, client: PredictClient, contract: ModelContract, wire: Wire, *, embeddings: bool = False) -> None:
        """Asks nothing yet; the arguments and errors are those of `ImageCalls`."""
        self.calls = ImageCalls(client.calls, contract, wire, embeddings=embeddings)
        self.run = client.run

    def predict(self, images: Sequence[Payload]) -> Scores:
        """See `ImageCalls.predict`."""
        return self.run(self.calls.predict(images))

    def pack(self, images: Sequence[Payload]) -> Sequence[Payload]:
        """See `ImageCalls.pack`."""
        return self.calls.pack(images)

    def check_golden(self) -> float:
        """See `ImageCalls.check_golden`."""
        return self.run(self.calls.check_golden())


def _joined(parts: Sequence[Scores]) -> Scores:
    if len(parts) == 1:
        return parts[0]
    probabilities, ok, embeddings = zip(*parts, strict=True)
    return Scores(
        np.concatenate(probabilities),
        np.concatenate(ok),
        None if embeddings[0] is None else np.concatenate(embeddings),
    )


def _rows(scores: Scores, chosen: Array | slice) -> Scores:
    """Some rows of the answers, by their places."""
    probabilities, ok, embeddings = scores
    return Scores(probabilities[chosen], ok[chosen], None if embeddings is None else embeddings[chosen])


def _accept(scores: Scores, golden: Golden, wire: Wire) -> float:
    distance = golden_distance(scores.probabilities.tolist(), golden.references[wire])
    if distance > golden.tolerance or not scores.ok.all():
        raise ContractError(
            f"the server does not answer as the model did when it was exported: over the {golden.count} golden "
            f"images a probability differs by {distance:.3f} in the mean, {golden.tolerance:.3f} is allowed. "
            "Preprocessing or model differ, so no image was sent"
        )
    return distance
