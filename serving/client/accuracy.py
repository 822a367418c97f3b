"""An accuracy with its 95 % interval, and how it is said: the same of a training, an evaluation and a prediction."""

import math
from typing import NamedTuple

_Z = 1.959964
"""Standard deviations of the normal distribution within which 95 % lie, on both sides of the mean."""
_FEW = 30
"""Images, below which an accuracy says little."""


class Share(NamedTuple):
    """A share of images, 0..1, and the ends of its interval."""

    value: float
    low: float
    high: float


def wilson(hits: int, images: int) -> Share:
    """A share with its score interval, which holds for few images, too: E. B. Wilson, JASA 22, 1927, pages 209 to 212.

    Args:
      hits: how many of the images count.
      images: of how many; at least one.
    """
    share = hits / images
    spread = _Z * math.sqrt(share * (1 - share) / images + (_Z / (2 * images)) ** 2)
    middle, size = share + _Z**2 / (2 * images), 1 + _Z**2 / images
    return Share(share, max(0.0, (middle - spread) / size), min(1.0, (middle + spread) / size))


def accuracy_in_words(accuracy: Share, images: int, what: str) -> str:
    """`accuracy: 0.880 of 25 test images, 0.700 to 0.958 with 95 % confidence; so few images say little`.

    Args:
      accuracy: of these images.
      images: how many.
      what: the images: `test images`.
    """
    few = "; so few images say little" if images < _FEW else ""
    return (
        f"accuracy: {accuracy.value:.3f} of {images:,} {what}, {accuracy.low:.3f} to {accuracy.high:.3f} with 95 % "
        f"confidence{few}"
    )


def confusions_in_words(confusions: list[tuple[str, str, int]]) -> str:
    """`most often confused: cat taken for dog (3), ant taken for bee (1)`: of at most three.

    Args:
      confusions: label, what it was taken for, and how often; the most frequent first.
    """
    worst = [f"{label} taken for {taken_for} ({count:,})" for label, taken_for, count in confusions[:3]]
    return f"most often confused: {', '.join(worst)}"
