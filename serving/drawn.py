"""Drawn pictures, and what a model without a contract has to show on them before a first real one is sent.

Such a model has no golden pictures, so nobody knows what it should answer; but logits, and a model that is as good as
blind because it was trained on another value range, show on any pictures.
"""

import io
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.discovery import INPUT_RANGES, PlainModel
from serving.errors import ContractError
from serving.payload import Payload, make_payload
from serving.pictures import PictureLimits
from serving.predictor import ImagePredictor
from serving.scores import activate

Array = np.ndarray[Any, np.dtype[Any]]
_LOG = logging.getLogger(__name__)

_SLACK = 1e-3
"""By how much arithmetic may take a probability over 0 or 1."""
_SUM_SLACK = 1e-2
"""The same for the sum of a row; of float16, too."""
_FAINT, _BLIND = 0.15, 0.02
"""Of `_contrast`: below the first another value range is tried, below the second the answers can't be told apart. With
MobileNetV2 and random heads it is 0.2 to 0.6 in the right range; if 0..1 is sent for 0..255, 0.0003 to 0.12, a quarter
of the right one's or less. Between 0..1 and -1..1 it tells nothing."""
_CLEARER = 3.0
"""Times by which another range's contrast is higher if it is the right one."""


def draw_pictures(width: int, height: int) -> list[bytes]:
    """Files that any two of which differ as much as pictures can: colours, gradients, stripes, noise; as JPEG."""
    from PIL import Image

    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., np.newaxis]
    noise = np.random.default_rng(0).random((height, width, 3))
    grey = np.ones([1, 1, 3])
    drawn = [
        0.0 * grey, 1.0 * grey, *np.eye(3), down * grey, across * [1.0, 0.5, 0.0], noise,
        (np.sin(40 * across) > 0) * grey, (np.sin(9 * down) * np.sin(9 * across) > 0) * [0.2, 0.6, 1.0],
    ]  # fmt: skip
    files = []
    for pixels in drawn:
        file = io.BytesIO()
        whole = np.broadcast_to(pixels, (height, width, 3))
        Image.fromarray((whole * 255).round().astype(np.uint8)).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files


def check_plain_model(predictor: ImagePredictor, plain: PlainModel, *, distributions: bool) -> None:
    """Asks a model without a contract about drawn pictures, and warns where its value range may be wrong.

    Args:
      predictor: of the model.
      plain: the flags; what they say is taken as said.
      distributions: each row has to sum to 1, as in a Kaggle file.
    Raises:
      ContractError: it refuses the pictures, or its answers are no probabilities.
    """
    preprocessing = predictor.contract.preprocessing
    encode = make_payload(preprocessing, predictor.wire, PictureLimits())
    pictures = [encode(file) for file in draw_pictures(preprocessing.width, preprocessing.height)]
    scores = predictor.try_out(pictures).probabilities
    _check_probabilities(scores, plain, distributions)
    if np.isnan(scores).any():
        _LOG.warning("%s is no number (NaN)%s", _ANSWER, "" if plain.input_range else ": see --input-range")
    elif plain.input_range is None and (contrast := _contrast(scores)) < _FAINT:
        _warn(predictor, pictures, contrast)


def _check_probabilities(scores: Array, plain: PlainModel, distributions: bool) -> None:
    known = scores[np.isfinite(scores)].astype(np.float64)
    if plain.activation == "none" or not known.size:
        return
    low, high = known.min(), known.max()
    if low < -_SLACK or high > 1 + _SLACK:
        raise ContractError(
            f"the model's outputs for drawn pictures are no probabilities, but {low:.4g} to {high:.4g}. If they are "
            "logits, add --activation softmax (one class is right) or sigmoid (each class by itself); to take them as "
            "they are, --activation none. No picture was sent"
        )
    sums = scores.astype(np.float64).sum(axis=1)
    if distributions and (np.abs(sums - 1) > _SUM_SLACK).any():
        raise ContractError(
            f"a row of a Kaggle file has to sum to 1, the model's scores of drawn pictures sum to {sums.min():.4g} to "
            f"{sums.max():.4g}. If the outputs are logits, add --activation softmax; to write the scores as they are, "
            "--activation none, or choose --format csv. No picture was sent"
        )


_ANSWER = "the model's answer to drawn pictures that have nothing in common"


def _warn(predictor: ImagePredictor, pictures: Sequence[Payload], contrast: float) -> None:
    """Says that the value range may be wrong, and which one seems right."""
    better = None
    if predictor.wire == "float32":  # in 0..1, as no flag says otherwise
        contrasts = {
            name: _contrast(predictor.try_out([low + (high - low) * np.asarray(one) for one in pictures]).probabilities)
            for name, (low, high) in INPUT_RANGES.items()
        }
        best = max(contrasts, key=lambda name: np.nan_to_num(contrasts[name]))
        better = best if contrasts[best] > max(_CLEARER * contrast, _BLIND) else None
    if better:
        _LOG.warning(
            "%s differs little (by %.2g in the mean), and by %.2g if they are sent in %s: if the model was trained on "
            "that range, add --input-range %s; if on 0..1, --input-range 0..1",
            _ANSWER, contrast, contrasts[better], better, better,
        )  # fmt: skip
    elif contrast < _BLIND:
        which = "--input-range, --signature" if predictor.wire == "float32" else "--signature"
        _LOG.warning("%s hardly differs (by %.2g in the mean): see %s and --output-name", _ANSWER, contrast, which)


def _contrast(scores: Array) -> float:
    """Mean over pairs of pictures of the largest difference of a probability, in 0..1; NaN if a score is."""
    if scores.min() < -_SLACK or scores.max() > 1 + _SLACK:  # logits that were asked for
        scores = activate(scores, "softmax")
    return float(np.mean([np.abs(one - other).max() for one, other in itertools.combinations(scores, 2)]))
