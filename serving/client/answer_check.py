"""Checks a model without a contract on drawn images, before the first real one is sent.

Such a model has no golden images, so the right answers are unknown. But any images show whether the outputs are logits,
and whether all answers are nearly the same, as when the model was trained on another value range.
"""

import functools
import io
import itertools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.client.image_calls import ImageCalls, ImagePredictor
from serving.client.model_overrides import INPUT_RANGES, ModelOverrides
from serving.client.scores import activate
from serving.errors import ContractError
from serving.images.encoder import Payload, make_encoder
from serving.images.limits import ImageLimits
from serving.network.sans_io import Operation, Work

Array = np.ndarray[Any, np.dtype[Any]]
_LOG = logging.getLogger(__name__)

_SLACK = 1e-3
"""Arithmetic may take a probability this much below 0 or above 1."""
_SUM_SLACK = 1e-2
"""The same for the sum of a row; of float16, too."""
_LOW_CONTRAST, _NO_CONTRAST = 0.15, 0.02
"""Bounds of `_contrast`: below the first another value range is tried, below the second answers can't be told apart.

With MobileNetV2 and random heads it is 0.2 to 0.6 in the right range; if 0..1 is sent for 0..255, 0.0003 to 0.12, a
quarter of the right one's or less. Between 0..1 and -1..1 it tells nothing.
"""
_BETTER_FACTOR = 3.0
"""How many times higher the contrast of the right range is, at least."""


_LARGEST = 512
"""Pixels of a drawn image's side at most: a model's size may be large, and resizing is what clients do anyway."""


def draw_images(width: int, height: int) -> list[bytes]:
    """Files, any two of which differ as much as images can: colours, a gradient, stripes, noise; as JPEG."""
    from PIL import Image

    width, height = min(width, _LARGEST), min(height, _LARGEST)
    across = np.linspace(0, 1, width)[:, np.newaxis]
    drawn = [
        *np.ones([2, 3]) * [[0], [1]],
        *np.eye(3),
        across * [1.0, 0.5, 0.0],
        (np.sin(40 * across) > 0) * [0.2, 0.6, 1.0],
        np.random.default_rng(0).random((height, width, 3)),
    ]
    files = []
    for colours in drawn:
        file = io.BytesIO()
        pixels = np.broadcast_to(255 * colours, (height, width, 3)).round().astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files


def check_answers(predictor: ImagePredictor, overrides: ModelOverrides, *, distributions: bool = False) -> None:
    """Replays the model's golden images against the server; a model without any is asked about drawn ones.

    Args:
      predictor: of the model.
      overrides: what the user says of a model without a contract.
      distributions: of a model without a contract, each row of scores has to sum to 1.

    Raises:
      ContractError: the server does not answer as the model did, or the answers are not probabilities.
    """
    golden = predictor.calls.contract.golden
    if golden is None or predictor.calls.wire not in golden.references:
        predictor.run(check_by_samples(predictor.calls, overrides, distributions=distributions))
    else:
        predictor.check_golden()


def check_by_samples(calls: ImageCalls, plain: ModelOverrides, *, distributions: bool = False) -> Operation[None]:
    """Asks a model without a contract about drawn images, and warns where its value range may be wrong.

    Args:
      calls: to the model.
      plain: the flags; what they say is not checked.
      distributions: each row has to sum to 1, as in a Kaggle file.

    Raises:
      ContractError: it refuses the images, or its answers are not probabilities.
    """
    scores = yield from _ask(calls)
    _check_probabilities(scores, plain, distributions)
    if np.isnan(scores).any():
        _LOG.warning("%s is not a number (NaN)%s", _ANSWER, "" if plain.input_range else ": see `input_range`")
    elif plain.input_range is None and (contrast := _contrast(scores)) < _LOW_CONTRAST:
        yield from _warn(calls, plain, contrast)


def _ask(calls: ImageCalls, black: float = 0.0, white: float = 1.0) -> Operation[Array]:
    """Scores of the drawn images, one by one, as their size may be large; of arrays in 0..1 also in other ranges."""
    preprocessing = calls.contract.preprocessing
    encode: Callable[[bytes], Payload] = yield Work(lambda: make_encoder(preprocessing, calls.wire, ImageLimits()))
    rows = []
    for file in draw_images(preprocessing.width, preprocessing.height):
        payload = yield Work(functools.partial(encode, file))
        if (black, white) != (0.0, 1.0):
            payload = np.asarray(payload) * np.float32(white - black) + np.float32(black)
        scores = yield from calls.try_out([payload])
        rows.append(scores.probabilities)
    return np.concatenate(rows)


def _check_probabilities(scores: Array, plain: ModelOverrides, distributions: bool) -> None:
    known = scores[np.isfinite(scores)].astype(np.float64)
    if plain.activation == "none" or not known.size:
        return
    low, high = known.min(), known.max()
    if low < -_SLACK or high > 1 + _SLACK:
        raise ContractError(
            f"the model's outputs for drawn images are not probabilities: they go from {low:.4g} to {high:.4g}. "
            "If they are logits, add `activation` softmax (one class is right) or sigmoid (each class by itself); to "
            "take them as they are, `activation` none. No image was sent"
        )
    sums = scores.astype(np.float64).sum(axis=1)
    if distributions and (np.abs(sums - 1) > _SUM_SLACK).any():
        raise ContractError(
            "a row of a Kaggle file has to sum to 1, the model's scores of drawn images sum to "
            f"{np.nanmin(sums):.4g} to {np.nanmax(sums):.4g}. If the outputs are logits, add `activation` softmax; to "
            "write the scores as they are, `activation` none, or choose `format` csv. No image was sent"
        )


_ANSWER = "the model's answer to drawn images that have nothing in common"


def _warn(calls: ImageCalls, plain: ModelOverrides, contrast: float) -> Operation[None]:
    """Says that the value range may be wrong, and which one seems right."""
    doubtful = ["`activation`"] * (plain.activation is not None) + ["`signature`", "`output_name`"]
    if calls.wire == "float32":
        doubtful.insert(0, "`input_range`")
        contrasts = {}
        for name, (black, white) in INPUT_RANGES.items():
            contrasts[name] = _contrast((yield from _ask(calls, black, white)))
        best = max(contrasts, key=lambda name: np.nan_to_num(contrasts[name]))
        if contrasts[best] > max(_BETTER_FACTOR * contrast, _NO_CONTRAST):
            _LOG.warning(
                "%s differs little (by %.2g in the mean), but by %.2g if they are sent in %s: if that is the range the "
                "model was trained on, add `input_range` %s; if it is 0..1, `input_range` 0..1",
                _ANSWER,
                contrast,
                contrasts[best],
                best,
                best,
            )
            return
    if contrast < _NO_CONTRAST:
        _LOG.warning("%s hardly differs (by %.2g in the mean): see %s", _ANSWER, contrast, ", ".join(doubtful))


def _contrast(scores: Array) -> float:
    """Mean over pairs of images of the largest difference of a probability, in 0..1; NaN if a score is."""
    if scores.min() < -_SLACK or scores.max() > 1 + _SLACK:  # logits, with `activation` none
        scores = activate(scores, "softmax")
    return float(np.mean([np.abs(one - other).max() for one, other in itertools.combinations(scores, 2)]))
