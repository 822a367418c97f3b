"""A table of the top classes of a few pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Column, Table
from rich.text import Text

from serving.client import PredictClient
from serving.contract import Wire
from serving.discovery import PlainModel, choose_wire, discover
from serving.drawn import check_plain_model
from serving.errors import InvalidRequest
from serving.options import Endpoint, RetryPolicy
from serving.payload import NOT_DECODED, make_payload
from serving.pictures import PictureLimits, PictureRejected
from serving.predictor import ImagePredictor
from serving.scores import format_score
from serving.terminal import console


def classify_files(
    paths: Sequence[str],
    endpoint: Endpoint,
    retry: RetryPolicy,
    plain: PlainModel,
    wire: Wire | None,
    top_k: int,
) -> int:
    """Prints a row a class for each picture, and the reason for a picture that has none.

    Returns:
      The number of pictures that could not be classified.
    Raises:
      ServingError, ContractError: nothing can be classified.
    """
    with PredictClient(endpoint, retry=retry) as client:
        contract = discover(client, plain)
        wire = choose_wire(contract, wire)
        encode = make_payload(contract.preprocessing, wire, PictureLimits())
        predictor = ImagePredictor(client, contract, wire)
        if contract.golden is None:
            check_plain_model(predictor, plain, distributions=False)
        picture = Column("picture", overflow="fold")  # a path that is cut off names no file
        table = Table(picture, "label", "score", title=f"{endpoint.model_name}, wire {wire}", title_justify="left")
        rejected = 0
        for path in paths:
            try:
                scores = predictor.predict([encode(_read(path))])
                if not scores.ok[0]:
                    raise PictureRejected("corrupt", NOT_DECODED)
            except (PictureRejected, InvalidRequest) as error:
                table.add_row(path, Text(str(getattr(error, "message", error)), style="red"), "")
                rejected += 1
                continue
            best = np.argsort(-scores.probabilities[0], kind="stable")[:top_k]
            for rank, index in enumerate(best):
                table.add_row(
                    path if rank == 0 else "", contract.labels[index], format_score(scores.probabilities[0][index])
                )
            table.add_section()
    console().print(table)
    return rejected


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PictureRejected("missing", f"{error.strerror}") from error
