"""From the bytes of a picture to the numbers that a model sees: the one definition.

Training, the exported `serving_encoded` signature and the prediction job all call `decode_image`, so they can't
differ. On JPEG its pixels are those of `tf.io.decode_jpeg`; it takes PNG, GIF (first frame), BMP and WebP, too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from serving.contract import Preprocessing, Wire
from serving.exif import exif_orientation, turn_upright

Array = np.ndarray[Any, np.dtype[Any]]


def decode_image(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Decodes one picture and brings it to the model's size.

    Args:
      image_bytes: string scalar, a whole picture file.
      preprocessing: sizes and orientation.
    Returns:
      float32 [height, width, 3], RGB, values in 0..1.
    Raises:
      tf.errors.InvalidArgumentError: the bytes are not a picture that TensorFlow can decode.
    """
    image = decode_pixels(image_bytes, preprocessing)
    return tf.image.resize(image, [preprocessing.height, preprocessing.width])


def decode_pixels(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The picture in its own size, as `decode_image` has it before resizing: float32 [h, w, 3], RGB, 0..1."""
    image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    if preprocessing.orientation == "exif":
        image = turn_upright(image, exif_orientation(image_bytes))
    return tf.image.convert_image_dtype(image, tf.float32)


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """float32 [..., 3] in 0..1 rounded to uint8 in 0..255, the `uint8` wire form."""
    return tf.cast(tf.round(images * 255.0), tf.uint8)


def from_uint8(images: tf.Tensor) -> tf.Tensor:
    """uint8 [..., 3] back to float32 in 0..1."""
    return tf.cast(images, tf.float32) / 255.0


def to_range(images: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    """float32 in 0..1 to (black, white), such as (-1, 1); 0..1 is left as it is, to the last bit."""
    black, white = value_range
    return images if value_range == (0.0, 1.0) else images * (white - black) + black


def decode_batch(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a batch in which any picture may be broken, without ever raising.

    An error of one row would fail the whole request, and with server-side batching other clients' requests too.
    tf.data is the one place in a graph where an error can be dropped, hence a pipeline over the rows.

    Args:
      image_bytes: string [n].
    Returns:
      images float32 [n, height, width, 3] (zeros where a picture can't be decoded) and ok bool [n].
    """
    count = tf.size(image_bytes, out_type=tf.int64)
    shape = (preprocessing.height, preprocessing.width, 3)
    decoded = (
        tf.data.Dataset.from_tensor_slices(image_bytes)
        .enumerate()
        .map(
            lambda row, data: (row, decode_image(data, preprocessing)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=False,
        )
        .ignore_errors()
        .batch(tf.maximum(count, 1))  # all in one element, or none where every row is broken
    )
    nothing = (tf.zeros([0], tf.int64), tf.zeros([0, *shape], tf.float32))
    rows, images = decoded.reduce(nothing, lambda _, batch: batch)
    rows = rows[:, tf.newaxis]
    images = tf.scatter_nd(rows, images, tf.concat([[count], tf.constant(shape, tf.int64)], axis=0))
    ok = tf.scatter_nd(rows, tf.ones([tf.size(rows)], tf.int32), [count])
    return tf.ensure_shape(images, [None, *shape]), tf.cast(ok, tf.bool)


def make_decoder(preprocessing: Preprocessing, wire: Wire) -> Callable[[bytes], Array]:
    """A thread-safe function from a picture's bytes to what the wire form sends of it.

    Returns:
      A function to [height, width, 3]: float32 in the value range for `float32`, or uint8 for `uint8`.
      It raises tf.errors.InvalidArgumentError for bytes that can't be decoded.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decode(image_bytes: tf.Tensor) -> tf.Tensor:
        image = decode_image(image_bytes, preprocessing)
        return to_uint8(image) if wire == "uint8" else to_range(image, preprocessing.value_range)

    concrete = decode.get_concrete_function()

    def decoder(data: bytes) -> Array:
        array: Array = concrete(tf.constant(data)).numpy()
        return array

    return decoder
