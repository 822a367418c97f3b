"""A table of the top classes of a few pictures."""

from collections.abc import Sequence

import numpy as np
from rich.table import Column, Table
from rich.text import Text

from serving.client import PredictClient
from serving.console.terminal import console, printable
from serving.contract import Wire
from serving.discovery import ModelOverrides, choose_wire, discover
from serving.errors import InvalidRequest
from serving.images.encoder import CORRUPT, NOT_DECODED, make_encoder
from serving.images.limits import PictureLimits, PictureRejected, bad_name, own_faults
from serving.images.sample_images import check_model_by_samples
from serving.options import Endpoint, RetryPolicy
from serving.predictor import ImagePredictor
from serving.scores import format_score
from serving.storage.base import StorageError
from serving.storage.stores import Stores


def classify_files(
    paths: Sequence[str],
    endpoint: Endpoint,
    retry: RetryPolicy,
    plain: ModelOverrides,
    limits: PictureLimits,
    wire: Wire | None,
    top_k: int,
) -> int:
    """Prints a row a class for each picture, and the reason for a picture that has none.

    Returns:
      The number of pictures that could not be classified.
    Raises:
      ServingError, ContractError: nothing can be classified.
    """
    stores = Stores(policy=retry)
    with PredictClient(endpoint, retry=retry) as client:
        contract = discover(client, plain)
        wire = choose_wire(contract, wire)
        encode = make_encoder(contract.preprocessing, wire, limits)
        predictor = ImagePredictor(client, contract, wire)
        if contract.golden is None:
            check_model_by_samples(predictor, plain, distributions=False)
        picture = Column("picture", overflow="fold")  # a path that is cut off names no file
        table = Table(picture, "label", "score", title=f"{endpoint.model_name}, wire {wire}", title_justify="left")
        rejected = 0
        for path in paths:
            shown = printable(path)
            try:
                scores = predictor.predict([encode(_read(stores, path, limits.max_bytes))])
                if not scores.ok[0]:
                    raise PictureRejected(CORRUPT, NOT_DECODED)
            except (PictureRejected, InvalidRequest) as error:
                table.add_row(shown, Text(_reason(error), style="red"), "")
                rejected += 1
                continue
            best = np.argsort(-scores.probabilities[0], kind="stable")[:top_k]
            for rank, index in enumerate(best):
                label = printable(contract.labels[index])
                table.add_row(shown if rank == 0 else "", label, format_score(scores.probabilities[0][index]))
            table.add_section()
    console().print(table)
    return rejected


def _read(stores: Stores, path: str, max_bytes: int) -> bytes:
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        raise bad_name()
    try:
        with own_faults(max_bytes):
            return stores(path).read(path, max_bytes)
    except (OSError, StorageError) as error:
        raise PictureRejected("unreadable", getattr(error, "strerror", None) or str(error)) from error


def _reason(error: PictureRejected | InvalidRequest) -> str:
    if isinstance(error, PictureRejected):
        return printable(f"{error.reason}: {error.message}")
    return printable(f"refused: {error}")
