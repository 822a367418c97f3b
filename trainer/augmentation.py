"""Augmentation: each time an image is trained on, it is cropped, flipped and recoloured a little otherwise."""

import tensorflow as tf

_LEAST_AREA = 0.6
"""The least share of the image that a crop shows."""
_LEAST_RATIO = 3 / 4
"""The least ratio of a crop's sides, either way, before it is stretched to the image's size (Szegedy et al. 2015)."""
_BRIGHTNESS, _CONTRAST, _SATURATION = 0.15, 0.2, 0.2
"""Most that is added to all values; most by which distances to the mean, and to grey, are changed."""
_GREY = (0.299, 0.587, 0.114)
"""Share of each channel in an image's lightness (ITU-R BT.601)."""


@tf.autograph.experimental.do_not_convert
def augment(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """A variant of each image; the same seed gives the same, whatever else is in the batch.

    Args:
      images: float32 [n, height, width, 3] in 0..1.
      seeds: int32 [n, 2].

    Returns:
      float32 [n, height, width, 3] in 0..1.
    """
    area, ratio, top, left, flip, light, contrast, colour = tf.unstack(uniform(seeds, 8), axis=1)
    boxes = _boxes(_LEAST_AREA + area * (1 - _LEAST_AREA), _LEAST_RATIO ** (2 * ratio - 1), top, left)
    y1, x1, y2, x2 = tf.unstack(boxes, axis=1)
    mirrored = flip < 0.5  # a box from right to left
    boxes = tf.stack([y1, tf.where(mirrored, x2, x1), y2, tf.where(mirrored, x1, x2)], axis=1)
    found = tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), tf.shape(images)[1:3])
    found = tf.ensure_shape(found, images.shape)
    found += _around(0.0, _BRIGHTNESS, light)
    mean = tf.reduce_mean(found, axis=[1, 2], keepdims=True)
    found = tf.clip_by_value(mean + (found - mean) * _around(1.0, _CONTRAST, contrast), 0.0, 1.0)
    grey = tf.reduce_sum(found * _GREY, axis=3, keepdims=True)
    return tf.clip_by_value(grey + (found - grey) * _around(1.0, _SATURATION, colour), 0.0, 1.0)


def uniform(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """Random numbers for each seed, as many as asked for, float32 [n, count] in 0..1, for seeds int32 [n, 2]."""
    rows = tf.map_fn(lambda seed: tf.random.stateless_uniform([count], seed), seeds, fn_output_signature=tf.float32)
    return tf.reshape(rows, [-1, count])  # whose width map_fn doesn't tell


def _boxes(area: tf.Tensor, ratio: tf.Tensor, top: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """Boxes as `crop_and_resize` takes them, float32 [n, 4], within the image.

    Args:
      area: share of the image.
      ratio: the box's width by its height, where the image's is 1.
      top: where it lies, from 0, at the top, to 1, at the bottom.
      left: the same from left to right.
    """
    height, width = tf.minimum(tf.sqrt(area / ratio), 1.0), tf.minimum(tf.sqrt(area * ratio), 1.0)
    y, x = top * (1 - height), left * (1 - width)
    return tf.stack([y, x, y + height, x + width], axis=1)


def _around(middle: float, most: float, chance: tf.Tensor) -> tf.Tensor:
    """Numbers from `middle - most` to `middle + most`, [n, 1, 1, 1]."""
    return (middle + most * (2 * chance - 1))[:, tf.newaxis, tf.newaxis, tf.newaxis]
