"""Resizes an image to the very numbers of `tf.image.resize`, which is what models are trained on.

Bilinear, with half-pixel centres and without antialiasing: TensorFlow's kernel ResizeBilinear computes places and
weights in float32, interpolates across and then down, and so does this.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def resize(image: Array, height: int, width: int) -> Array:
    """Resizes an image.

    Args:
      image: uint8 [h, w, channels].
      height: of the result.
      width: of the result.

    Returns:
      float32 [height, width, channels], in the image's own range.
    """
    channels = image.shape[2]
    above, below, down = _places(image.shape[0], height)
    left, right, across = _places(image.shape[1], width)
    # Across first, and only in the rows that are needed.
    rows, places = np.unique(np.concatenate([above, below]), return_inverse=True)
    flat = image[rows].reshape(len(rows), -1) if len(rows) < image.shape[0] else image.reshape(len(rows), -1)
    interpolated = _between(
        flat.take(_flat(left, channels), axis=1).astype(np.float32),
        flat.take(_flat(right, channels), axis=1).astype(np.float32),
        np.repeat(across, channels)[np.newaxis],
    )
    above, below = places[:height], places[height:]
    return _between(interpolated[above], interpolated[below], down[:, np.newaxis]).reshape(height, width, channels)


def _places(size: int, new: int) -> tuple[Array, Array, Array]:
    """For each place of the result the two places before and after it, and how far it is from the first (0..1)."""
    centres = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * (np.float32(size) / np.float32(new))
    centres -= np.float32(0.5)
    whole = np.floor(centres)
    before = np.maximum(whole, 0).astype(np.intp)
    after = np.minimum(np.ceil(centres), size - 1).astype(np.intp)
    return before, after, centres - whole


def _flat(columns: Array, channels: int) -> Array:
    """Places of the columns' numbers in a row without pixels."""
    return (columns[:, np.newaxis] * channels + np.arange(channels)).ravel()


def _between(first: Array, second: Array, weight: Array) -> Array:
    """first + (second - first) · weight, in the memory of the two."""
    second -= first
    second *= weight
    first += second
    return first
