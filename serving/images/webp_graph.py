"""`serving.images.webp` inside a TensorFlow graph, for servers and training."""

import tensorflow as tf

from serving.images.graph_bytes import follow, has, numbers, part
from serving.images.webp import (
    ALPHA,
    CANVAS,
    CHUNK_HEADER,
    CHUNKS,
    FLAGS,
    FRAME,
    FRAME_HEADER,
    HAS_ALPHA,
    IS_ANIMATED,
    LOSSLESS,
    LOSSLESS_ALPHA,
    LOSSLESS_HAS_ALPHA,
    LOSSY,
    RIFF_HEADER,
)

_BYTES = [bytes([value]) for value in range(256)]


@tf.function
def plain_webp(data: tf.Tensor) -> tf.Tensor:
    """The same pixels without alpha: see there.

    Args:
      data: string scalar, a whole WebP file.
    """
    if has(data, RIFF_HEADER, LOSSLESS):
        plain = _opaque(data, RIFF_HEADER)
    elif not has(data, RIFF_HEADER, CANVAS) or tf.strings.length(data) <= FLAGS:
        plain = data
    elif _number(data, FLAGS, 1) & IS_ANIMATED != 0:
        plain = _first_frame(data)
    else:
        plain = _still(data)
    return plain


def _first_frame(data: tf.Tensor) -> tf.Tensor:
    size = tf.strings.length(data)
    frame = _find(data, CHUNKS, size, FRAME)
    end = frame + CHUNK_HEADER + _length(data, frame)
    image = _find(data, frame + CHUNK_HEADER + FRAME_HEADER, end, LOSSY, LOSSLESS)
    chunk = part(data, image, CHUNK_HEADER + _padded(_length(data, image)))
    plain = tf.strings.join([b"RIFF", _little_endian(4 + tf.strings.length(chunk)), b"WEBP", _opaque(chunk, 0)])
    return tf.where(image < size, plain, b"")


def _still(data: tf.Tensor) -> tf.Tensor:
    flags = _number(data, FLAGS, 1)
    first = _find(data, CHUNKS, tf.strings.length(data), ALPHA, LOSSY, LOSSLESS)
    image = _find(data, first, tf.strings.length(data), LOSSY, LOSSLESS)
    found = part(data, image)
    pixels = _opaque(found, 0)
    is_plain = tf.equal(first, image) & tf.equal(flags & HAS_ALPHA, 0) & tf.equal(pixels, found)
    size = _little_endian(_number(data, 4, 4) - (image - CHUNKS))
    flag = tf.gather(_BYTES, flags & ~HAS_ALPHA)
    canvas = [part(data, RIFF_HEADER, FLAGS - RIFF_HEADER), flag, part(data, FLAGS + 1, CHUNKS - FLAGS - 1)]
    return tf.where(is_plain, data, tf.strings.join([b"RIFF", size, b"WEBP", *canvas, pixels]))


def _opaque(data: tf.Tensor, chunk: int) -> tf.Tensor:
    place = chunk + LOSSLESS_ALPHA
    value = _number(data, place, 1)
    without = tf.gather(_BYTES, value & ~LOSSLESS_HAS_ALPHA)
    opaque = tf.strings.join([part(data, 0, place), without, part(data, place + 1)])
    is_marked = has(data, chunk, LOSSLESS) & tf.not_equal(value & LOSSLESS_HAS_ALPHA, 0)
    return tf.where(is_marked, opaque, data)


def _find(data: tf.Tensor, start: int | tf.Tensor, end: tf.Tensor, *names: bytes) -> tf.Tensor:
    size = tf.strings.length(data)
    end = tf.minimum(end, size)

    def look(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.reduce_any(tf.equal(part(data, position, 4), list(names)))
        return position + CHUNK_HEADER + _padded(_length(data, position)), found

    found = follow(look, start, end)
    return tf.where(found < end, found, size)


def _length(data: tf.Tensor, chunk: tf.Tensor) -> tf.Tensor:
    length, size = _number(data, chunk + 4, 4), tf.strings.length(data)
    return tf.where(length < 0, size, tf.minimum(length, size))  # a number over 31 bits is negative


def _padded(length: tf.Tensor) -> tf.Tensor:
    return length + length % 2


def _number(data: tf.Tensor, start: int | tf.Tensor, count: int) -> tf.Tensor:
    """An integer of so many bytes: int32 scalar, past the end of the file 0."""
    each = numbers(data, start, tf.uint8, count, little_endian=True)
    return tf.reduce_sum(each * [1 << 8 * place for place in range(count)])


def _little_endian(number: tf.Tensor) -> tf.Tensor:
    """The four bytes of a number, as a string."""
    return tf.strings.reduce_join(tf.gather(_BYTES, tf.bitwise.right_shift(number, [0, 8, 16, 24]) & 0xFF))
