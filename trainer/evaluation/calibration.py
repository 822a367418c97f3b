"""Calibration: whether images that score 0.8 are right in 80 of 100 cases, and the temperature that makes it so."""

import math
from typing import Any

import numpy as np

from trainer.evaluation.evaluation import Calibration, ReliabilityBin

Array = np.ndarray[Any, np.dtype[Any]]

_BINS = 15
_LEAST, _MOST = 0.05, 20.0
"""Temperatures that are tried."""
_PRIOR = 10.0
"""Weight, in images, of the assumption that no temperature is needed: a few images that are all right would else ask
for an endlessly low one."""
_TINY = 1e-12


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """softmax(logits / temperature) for the probabilities softmax(logits), float64 [n, classes]."""
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), _TINY)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    scaled: Array = np.exp(logits)
    return scaled / scaled.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: Array, targets: Array) -> float:
    """The temperature with the least log loss (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
      probabilities: float [n, classes], of images that the model was not trained on.
      targets: int [n], the labels' numbers.

    Returns:
      1.0 where there are no images.
    """
    from scipy.optimize import minimize_scalar

    if not len(targets):
        return 1.0
    rows = np.arange(len(targets))

    def loss(logarithm: float) -> float:
        right = with_temperature(probabilities, math.exp(logarithm))[rows, targets]
        return float(-np.log(np.maximum(right, _TINY)).sum() + _PRIOR * logarithm**2)

    found = minimize_scalar(loss, bounds=(math.log(_LEAST), math.log(_MOST)), method="bounded")
    return round(float(math.exp(found.x)), 6)


def calibration_error(probabilities: Array, targets: Array) -> float:
    """Expected calibration error, 0..1: mean over the images of |confidence - accuracy| of their bin (15 bins)."""
    bins = reliability(probabilities, targets)
    return sum(one.images * abs(one.confidence - one.accuracy) for one in bins) / max(1, len(targets))


def reliability(probabilities: Array, targets: Array) -> tuple[ReliabilityBin, ...]:
    """Images by their best score, in bins of equal width; empty ones are left out."""
    best = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    place = np.clip(np.ceil(best * _BINS).astype(int) - 1, 0, _BINS - 1)
    return tuple(
        ReliabilityBin(
            low=number / _BINS,
            high=(number + 1) / _BINS,
            images=int(inside.sum()),
            confidence=float(best[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for number in range(_BINS)
        if (inside := place == number).any()
    )


def measure_calibration(probabilities: Array, targets: Array, temperature: float) -> Calibration:
    """Measures how well scores agree with accuracy, for answers that a temperature was applied to.

    Args:
      probabilities: float [n, classes], as the model answers them.
      targets: int [n], the labels' numbers.
      temperature: that is in them.
    """
    return Calibration(
        temperature=temperature,
        error_before=calibration_error(with_temperature(probabilities, 1 / temperature), targets),
        error=calibration_error(probabilities, targets),
        bins=reliability(probabilities, targets),
    )
