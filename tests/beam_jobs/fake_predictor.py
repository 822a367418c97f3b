"""A model that is a few lines, and what a chunk predictor makes of its answers."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_jobs.chunk_predictor import ChunkOptions, ChunkPredictor
from beam_jobs.manifest import Row
from beam_jobs.memory import Allowance, divide
from beam_jobs.parts import Outcome
from serving.client.image_calls import Scores
from serving.errors import InvalidRequest, RequestTooLarge
from serving.images.encoder import Payload
from serving.images.limits import ImageRejected
from serving.network.retry import RetryPolicy


class FakePredictor:
    """Scores an image by its first byte; refuses requests that hold a `poison` byte."""

    def __init__(self, poison: bytes = b"", most: int = 10**6, innocent_refusals: int = 0) -> None:
        self.poison, self.most, self.innocent_refusals = poison, most, innocent_refusals
        self.sizes: list[int] = []
        self._lock = threading.Lock()

    def pack(self, images: Sequence[Payload]) -> Sequence[Payload]:
        return images

    def predict(self, images: Sequence[Payload]) -> Scores:
        first = [bytes(image)[:1] for image in images]
        with self._lock:
            self.sizes.append(len(images))
            if self.innocent_refusals:
                self.innocent_refusals -= 1
                raise InvalidRequest("another client's image", "fake")
        if len(images) > self.most:
            raise RequestTooLarge("too large", "fake")
        if any(byte in self.poison for byte in first):
            raise InvalidRequest("refused", "fake")
        values = np.array([byte[0] for byte in first], np.float32)
        return Scores(np.stack([values / 256, 1 - values / 256], axis=1), np.array([b != b"\xff" for b in first]))


ROOM = divide(Allowance(2**31), 0, readers=4, decoded_bytes=None)
IMPATIENT = RetryPolicy(patience_s=0.2, first_delay_s=1e-3)


def outcomes(files: Sequence[bytes], predictor: FakePredictor, **options: Any) -> list[Outcome]:
    def read(row: Row, room: int) -> bytes:
        return files[int(row.path)]

    def encode(data: bytes) -> Payload:
        if not data:
            raise ImageRejected("empty", "no bytes")
        return data

    rows = [(i, Row(str(i))) for i in range(len(files))]
    with ChunkPredictor(
        read, encode, predictor, ChunkOptions(**options), ROOM, retry=IMPATIENT, known_good=b"g"
    ) as chunk:
        return list(chunk.outcomes(rows))


def verdicts(found: Sequence[Outcome]) -> str:
    return "".join(outcome.verdict[0] for outcome in found)
