"""The threshold of a model: the best score below which its answer is "I don't know"."""

from typing import Any

import numpy as np

from trainer.evaluation.evaluation import Threshold

Array = np.ndarray[Any, np.dtype[Any]]


def choose_threshold(probabilities: Array, targets: Array, target_precision: float) -> float | None:
    """The lowest best score from which on the answers are right as often as wanted.

    The share is estimated as (right + 1) / (images + 2), Laplace's rule of succession: a handful of right answers don't
    promise 95 %. So 18 images are needed at the least for 0.95, all right, and 98 for 0.99.

    Args:
      probabilities: float [n, classes], of images that the model was not trained on.
      targets: int [n], the labels' numbers.
      target_precision: 0..1.

    Returns:
      None where no score promises it: no image that is above is right often enough, or there are too few.
    """
    best = probabilities.max(axis=1)
    order = np.argsort(-best, kind="stable")
    right = (probabilities.argmax(axis=1) == targets)[order].cumsum()
    share = (right + 1) / (np.arange(1, len(order) + 1) + 2)
    scores = best[order]
    is_last = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # images of one score are taken together
    enough = np.flatnonzero((share >= target_precision) & is_last)
    return float(scores[enough[-1]]) if len(enough) else None


def measure_threshold(probabilities: Array, targets: Array, value: float, target_precision: float) -> Threshold:
    """What a threshold does on images that it wasn't chosen on."""
    sure = probabilities.max(axis=1) >= value
    right = probabilities.argmax(axis=1) == targets
    return Threshold(
        value=value,
        target_precision=target_precision,
        precision=float(right[sure].mean()) if sure.any() else None,
        coverage=float(sure.mean()) if len(sure) else 0.0,
    )
