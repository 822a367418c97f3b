"""EXIF orientation inside a TensorFlow graph, so that training, server and job turn a picture alike.

TensorFlow's decoders ignore the tag. The layout read here: JPEG marker segments (ITU-T T.81, B.1), in an APP1
segment `Exif\\0\\0`, then a TIFF header and its first directory, whose tag 0x0112 is the orientation
(Exif 2.32, 4.6.4).
"""

import tensorflow as tf

_HEAD_BYTES = 128 * 1024
"""Where to look: the APP1 segment comes first in a file, and is at most 64 KiB."""


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undoes an orientation.

    Args:
      image: [height, width, channels].
      orientation: int32 scalar, 1..8 as in EXIF; any other value leaves the picture as it is.
    """
    image = tf.cond(
        tf.reduce_any(tf.equal(orientation, [5, 6, 7, 8])),
        lambda: tf.transpose(image, [1, 0, 2]),
        lambda: image,
    )
    image = tf.cond(tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7])), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8])), lambda: tf.reverse(image, [0]), lambda: image)


@tf.function
def exif_orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """Orientation of a JPEG file: int32 scalar in 1..8, and 1 where there is none or it can't be read.

    Args:
      image_bytes: string scalar, a whole file of any format.
    """
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(image_bytes, 0, _HEAD_BYTES), tf.uint8), tf.int32)
    size = tf.size(data)
    # Past the end of the file every field reads as 0, which ends each search below.
    data = tf.concat([data, tf.zeros([32], tf.int32)], axis=0)
    tiff = tf.constant(0)
    position = tf.constant(2)
    if size > 4 and data[0] == 0xFF and data[1] == 0xD8:
        while position + 12 < size and data[position] == 0xFF and data[position + 1] != 0xDA:
            length = data[position + 2] * 256 + data[position + 3]
            name = data[position + 4 : position + 10]
            if data[position + 1] == 0xE1 and tf.reduce_all(name == [69, 120, 105, 102, 0, 0]):
                tiff = position + 10
                position = size
            else:
                position += 2 + tf.maximum(length, 2)
    orientation = tf.constant(1)
    if tiff > 0 and tiff + 16 < size:
        big = data[tiff] == 0x4D  # "MM": big-endian; "II": little-endian
        directory = tiff + _number(data, tiff + 4, 4, big)
        if directory >= tiff and directory + 2 < size:
            entry = directory + 2
            end = entry + 12 * _number(data, directory, 2, big)
            while entry < end and entry + 12 <= size:
                if _number(data, entry, 2, big) == 0x0112:
                    orientation = _number(data, entry + 8, 2, big)
                    entry = end
                else:
                    entry += 12
    return orientation


def _number(data: tf.Tensor, start: tf.Tensor, count: int, big: tf.Tensor) -> tf.Tensor:
    """Unsigned integer of `count` bytes at `start`; one that does not fit in 31 bits reads as negative."""
    field = data[start : start + count]
    powers = tf.constant([256**i for i in reversed(range(count))] if count < 4 else [1 << 24, 65536, 256, 1])
    return tf.reduce_sum(tf.where(big, field, tf.reverse(field, [0])) * powers)
