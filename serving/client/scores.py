"""Scores: computed from a model's outputs, rounded, and formatted so that only 0 is written as 0."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.contract import Activation

Array = np.ndarray[Any, np.dtype[Any]]

_DIGITS = 6
_DECIMALS_FROM = 1e-3
"""From this score on, six decimals are three significant digits or more."""
_LEAST = float(np.finfo(np.float32).tiny)
"""A probability that we compute is never 0, as no finite output means that."""


def activate(outputs: Array, activation: Activation | None) -> Array:
    """Probabilities of logits; with None, the outputs as they are.

    Args:
      outputs: floats [n, classes].
      activation: what the model left out of its last layer.

    Returns:
      float64 [n, classes], or `outputs`.
    """
    if activation is None:
        return outputs
    logits = outputs.astype(np.float64)
    with np.errstate(all="ignore"):  # NaN stays NaN
        if activation == "sigmoid":
            return np.maximum(np.exp(-np.logaddexp(0, -logits)), _LEAST)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.maximum(powers / powers.sum(axis=1, keepdims=True), _LEAST)


def round_scores(scores: Array) -> Array:
    """float64 of the same shape: scores to six significant digits, as they are compared and kept."""
    exact = scores.astype(np.float64)
    size = np.abs(exact)
    size = np.where(size > 1e-300, size, 1.0)  # below, a float has fewer digits itself
    scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(size)))
    return np.where(np.abs(exact) > 1e-300, np.round(exact * scale) / scale, exact)


def rank(probabilities: Array, top_k: int) -> tuple[list[int], list[float]]:
    """The best classes and their scores, to six significant digits; ties by label order.

    Args:
      probabilities: floats [classes].
      top_k: how many; 0 for all, in label order.
    """
    rounded = round_scores(probabilities)
    order = np.argsort(-rounded, kind="stable")[:top_k] if top_k else np.arange(len(rounded))
    return order.tolist(), rounded[order].tolist()


class Groups:
    """The coarser groups of a model's labels, to score each as the sum of its labels."""

    def __init__(self, labels: Sequence[str], groups: Mapping[str, str]) -> None:
        """`groups` has the group of each label; output i is that of `labels[i]`."""
        self._names = sorted(set(groups.values()))
        self._places = np.array([self._names.index(groups[label]) for label in labels])

    def best(self, probabilities: Array) -> tuple[str, float]:
        """The group with the highest score, and that score to six significant digits; ties by name.

        Args:
          probabilities: floats [classes].
        """
        sums = round_scores(np.bincount(self._places, probabilities, len(self._names)))
        return self._names[int(sums.argmax())], float(sums.max())


def format_score(score: float) -> str:
    """Six decimals, such as 0.731059; below 0.001 six significant digits, such as 8e-09; 0 only for 0."""
    if 0 < abs(score) < _DECIMALS_FROM:
        return f"{score:.{_DIGITS}g}"
    return f"{score + 0.0:.{_DIGITS}f}"  # + 0.0 takes the sign from -0.0
