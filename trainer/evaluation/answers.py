"""What a model answers to labelled images: through a server, each file sent whole or as its pixels."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.client.client_options import ConnectionOptions
from serving.client.discovery import choose_wire, discover
from serving.client.image_calls import ImagePredictor
from serving.client.model_overrides import ModelOverrides
from serving.client.predict_client import PredictClient
from serving.client.server_choice import Connection
from serving.console.terminal import printable
from serving.contract import ModelContract
from serving.errors import UsageError
from serving.images.encoder import Payload, make_encoder
from serving.images.limits import ImageLimits, ImageRejected
from serving.storage.stores import Stores
from trainer.images.labelled_images import read_again
from trainer.progress import Progress

Array = np.ndarray[Any, np.dtype[Any]]

_ROWS, _BYTES = 32, 16 * 2**20
"""Most of a request."""


class Answers(NamedTuple):
    """A model, and its scores of images."""

    contract: ModelContract
    version: int
    """That answered."""
    probabilities: Array
    """float64 [images, classes], in the order of the images."""


def ask(
    options: ConnectionOptions,
    paths: Sequence[str],
    *,
    overrides: ModelOverrides | None = None,
    stores: Stores | None = None,
    check: Callable[[ModelContract], None] = lambda contract: None,
    progress: Progress | None = None,
) -> Answers:
    """Asks one version of a model about images; with `options.model`, in a server process that is started for it.

    Args:
      options: the server or the model.
      paths: of image files on this machine.
      overrides: of a model without a contract.
      stores: for a model in a bucket.
      check: is called before the first image is sent, and may raise.
      progress: is told of each image.

    Raises:
      UsageError: there is no such model or version, or the model can't decode an image.
      ServingError: see `serving.client.model_calls.ModelCalls.predict`.
    """
    progress = progress or Progress()
    rows = [np.empty((0, 0))]
    with Connection(options).connect(stores=stores) as endpoint, PredictClient(endpoint, retry=options.retry) as client:
        version = endpoint.version if endpoint.version is not None else client.available_version()
        contract = discover(client, overrides or ModelOverrides())
        check(contract)
        predictor = ImagePredictor(client, contract, choose_wire(contract, ("encoded", "float32", "uint8")))
        for names, batch in _batches(paths, contract, predictor.calls.wire):
            scores = predictor.predict(batch)
            if not scores.ok.all():
                name = names[int(scores.ok.argmin())]
                raise UsageError(f"{printable(name)} is damaged, and the model can't decode it; repair or remove it")
            rows.append(np.asarray(scores.probabilities, np.float64))
            progress.advance(len(batch))
    answered = np.concatenate(rows[1:]) if len(rows) > 1 else np.empty((0, len(contract.labels)))
    return Answers(contract, version, answered)


def _batches(paths: Sequence[str], contract: ModelContract, wire: Any) -> Iterator[tuple[list[str], list[Payload]]]:
    encode = make_encoder(contract.preprocessing, wire, ImageLimits())
    names: list[str] = []
    batch: list[Payload] = []
    size = 0
    for path in paths:
        with _named(path):
            payload = encode(read_again(path))
        length = len(payload) if isinstance(payload, bytes) else payload.nbytes
        if batch and (len(batch) == _ROWS or size + length > _BYTES):
            yield names, batch
            names, batch, size = [], [], 0
        names.append(path)
        batch.append(payload)
        size += length
    if batch:
        yield names, batch


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except ImageRejected as error:
        raise UsageError(f"{printable(path)}: {error.message}; repair or remove it, and its label") from error
