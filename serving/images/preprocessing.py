"""From the bytes of an image to the numbers that a model sees: the one definition.

Training, the exported `serving_encoded` signature and the prediction job all call `decode_image`, so they can't
differ. On JPEG its pixels are those of `tf.io.decode_jpeg`; it takes PNG, GIF (first frame), BMP and WebP, too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from serving.contract import Preprocessing
from serving.images.decoding_cost import decoding_cost
from serving.images.exif_graph import exif_orientation, turn_upright
from serving.images.limits import MIB, ImageLimits
from serving.images.wire import Wire
from serving.process.decoder_messages import without_decoder_messages

Array = np.ndarray[Any, np.dtype[Any]]

DECODING_MEMORY = 256 * MIB
"""Bytes that the images of one request may take while they are decoded, unless a single one takes more."""
_PARALLEL = 64
"""Images of a request that are decoded at once if there is room; a server has no more cores than that for one."""


def decode_image(
    image_bytes: tf.Tensor, preprocessing: Preprocessing, orientation: tf.Tensor | None = None
) -> tf.Tensor:
    """Decodes one image and brings it to the model's size.

    Args:
      image_bytes: string scalar, a whole image file.
      preprocessing: sizes and orientation.
      orientation: int32 scalar, of its EXIF tag; None to look for it, if the preprocessing wants it.

    Returns:
      float32 [height, width, 3], RGB, values in 0..1.

    Raises:
      tf.errors.InvalidArgumentError: the bytes are not an image that TensorFlow can decode.
    """
    # Resized as bytes and then divided, which saves a float copy of the whole image, four times its size. It gives
    # the numbers of dividing first within 1.2e-7, less than one model's answers differ by, so the algorithm is still 1.
    size = [preprocessing.height, preprocessing.width]
    return tf.image.resize(_decode_bytes(image_bytes, preprocessing, orientation), size) * (1 / 255)


def decode_pixels(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The image in its own size, as `decode_image` has it before resizing: float32 [h, w, 3], RGB, 0..1."""
    return tf.image.convert_image_dtype(_decode_bytes(image_bytes, preprocessing), tf.float32)


def _decode_bytes(
    image_bytes: tf.Tensor, preprocessing: Preprocessing, orientation: tf.Tensor | None = None
) -> tf.Tensor:
    """uint8 [h, w, 3], RGB, 0..255."""
    image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    if preprocessing.orientation == "exif":
        image = turn_upright(image, exif_orientation(image_bytes) if orientation is None else orientation)
    return image


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


def decode_batch(
    image_bytes: tf.Tensor, preprocessing: Preprocessing, limits: ImageLimits | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a batch in which any image may be broken or hostile, without ever raising.

    An error of one row would fail the whole request, and with server-side batching other clients' requests too.
    tf.data is the one place in a graph where an error can be dropped, hence a pipeline over the rows. As many rows are
    decoded at once as DECODING_MEMORY has room for; one that takes more than that waits until no other such row is
    decoded anywhere in the server.

    Args:
      image_bytes: string [n].
      preprocessing: sizes and orientation.
      limits: an image over them is not decoded; by default those of `ImageLimits`.

    Returns:
      images float32 [n, height, width, 3] (zeros where an image can't be decoded) and ok bool [n].
    """
    with tf.device("/CPU:0"):  # on a GPU each of the many small steps would take longer to launch than to run
        memory, files = decoding_cost(image_bytes, limits or ImageLimits())
    if preprocessing.orientation == "exif":
        memory *= 2  # a turned copy beside the image
    large = memory > DECODING_MEMORY
    small = (memory > 0) & ~large
    most = tf.reduce_max(tf.concat([tf.where(small, memory, 1), tf.ones([1], tf.int64)], axis=0))
    parallel = tf.minimum(DECODING_MEMORY // most, _PARALLEL)
    images, ok = _decode_rows(files, small, preprocessing, parallel)
    images, ok = tf.cond(
        tf.reduce_any(large), lambda: _with_large(images, ok, files, large, preprocessing), lambda: (images, ok)
    )
    return tf.ensure_shape(images, [None, preprocessing.height, preprocessing.width, 3]), ok


def _with_large(
    images: tf.Tensor, ok: tf.Tensor, files: tf.Tensor, large: tf.Tensor, preprocessing: Preprocessing
) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds the large rows, while no other request in the server has a large one decoded."""
    lock = tf.raw_ops.MutexLock(mutex=tf.raw_ops.MutexV2(shared_name="flow_images_large"))
    with tf.control_dependencies([lock]):
        more, more_ok = _decode_rows(tf.identity(files), large, preprocessing, 1)
    with tf.control_dependencies([more]):
        tf.raw_ops.ConsumeMutexLock(mutex_lock=lock)
    return images + more, ok | more_ok


def _decode_rows(
    files: tf.Tensor, chosen: tf.Tensor, preprocessing: Preprocessing, parallel: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes the chosen rows, so many at once: images [n, height, width, 3] and ok [n], zeros for all others."""
    count = tf.size(files, out_type=tf.int64)
    shape = (preprocessing.height, preprocessing.width, 3)
    rows = tf.where(chosen)[:, 0]
    orientations = tf.ones_like(rows, tf.int32)
    if preprocessing.orientation == "exif":  # not in the pipeline, which would set up all its steps for each request
        orientations = tf.map_fn(lambda row: exif_orientation(files[row]), rows, fn_output_signature=tf.int32)
    decoded = (
        tf.data.Dataset.from_tensor_slices((rows, orientations))
        .map(
            lambda row, orientation: (row, decode_image(files[row], preprocessing, orientation)),
            num_parallel_calls=parallel,
            deterministic=True,
        )
        .ignore_errors()
        .batch(tf.maximum(count, 1))  # all in one element, or none where every row is broken
        .with_options(_as_written())
    )
    nothing = (tf.zeros([0], tf.int64), tf.zeros([0, *shape], tf.float32))
    rows, images = decoded.reduce(nothing, lambda _, batch: batch)
    rows = rows[:, tf.newaxis]
    images = tf.cond(  # all rows are there, as a rule: they are in their order and need no copy
        tf.size(rows, out_type=tf.int64) == count,
        lambda: images,
        lambda: tf.scatter_nd(rows, images, tf.concat([[count], tf.constant(shape, tf.int64)], axis=0)),
    )
    ok = tf.scatter_nd(rows, tf.ones([tf.size(rows)], tf.int32), [count])
    return images, tf.cast(ok, tf.bool)


def _as_written() -> tf.data.Options:
    """For a pipeline that lives as long as a request: to look for a better one takes longer than it could save."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options


def make_decoder(preprocessing: Preprocessing, wire: Wire) -> Callable[[bytes], Array]:
    """A thread-safe function from an image's bytes to what the wire form sends of it.

    Returns:
      A function to [height, width, 3]: float32 in the value range for `float32`, or uint8 for `uint8`.
      It raises tf.errors.InvalidArgumentError for bytes that can't be decoded, and prints nothing of them.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def decode(image_bytes: tf.Tensor) -> tf.Tensor:
        return decode_image(image_bytes, preprocessing)

    concrete = decode.get_concrete_function()

    def decoder(data: bytes) -> Array:
        with without_decoder_messages():
            image = concrete(tf.constant(data))
        # Rounded outside of the graph, whose optimizer would join both scalings, and round halves otherwise.
        sent = to_uint8(image) if wire == "uint8" else to_range(image, preprocessing.value_range)
        array: Array = sent.numpy()
        return array

    return decoder
