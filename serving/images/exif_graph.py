"""`serving.images.exif` inside a TensorFlow graph, so that training, server and job turn an image alike."""

import struct

import tensorflow as tf

from serving.images.graph_bytes import follow, has, numbers, part

_JPEG, _PNG, _RIFF, _WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"WEBP"
_EXIF = b"Exif\0\0"
_ORIENTATION, _SHORT, _LONG = 0x0112, 3, 4


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undoes an orientation.

    Args:
      image: [height, width, channels].
      orientation: int32 scalar, 1..8 as in EXIF; any other value leaves the image as it is.
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
    """Orientation of an image: int32 scalar in 1..8, and 1 where there is none or it can't be read.

    Args:
      image_bytes: string scalar, a whole file of any format.
    """
    tiff = tf.case(
        [
            (has(image_bytes, 0, _JPEG), lambda: _exif_of_jpeg(image_bytes)),
            (has(image_bytes, 0, _PNG), lambda: _exif_of_png(image_bytes)),
            (has(image_bytes, 0, _RIFF) & has(image_bytes, 8, _WEBP), lambda: _exif_of_webp(image_bytes)),
        ],
        default=lambda: tf.constant(b""),
        exclusive=False,
    )
    tiff = tf.where(has(tiff, 0, _EXIF), part(tiff, len(_EXIF)), tiff)
    return tf.case(
        [
            (has(tiff, 0, b"II*\0"), lambda: _orientation(tiff, little_endian=True)),
            (has(tiff, 0, b"MM\0*"), lambda: _orientation(tiff, little_endian=False)),
        ],
        default=lambda: tf.constant(1),
        exclusive=False,
    )


def _exif_of_jpeg(data: tf.Tensor) -> tf.Tensor:
    size = tf.strings.length(data)

    def look(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        marker, length, *name = tf.unstack(numbers(data, position, tf.uint16, 5, little_endian=False))
        found = tf.reduce_all(tf.equal([marker, *name], [0xFFE1, *struct.unpack(">3H", _EXIF)]))
        # Before a marker a decoder passes over bytes that are none, and over any number of 0xFF.
        no_marker = (marker < 0xFF01) | tf.equal(marker, 0xFFFF)
        without_length = tf.equal(marker, 0xFF01) | ((marker >= 0xFFD0) & (marker <= 0xFFD8))
        last = tf.equal(marker, 0xFFD9) | tf.equal(marker, 0xFFDA)
        step = tf.where(no_marker, 1, tf.where(without_length, 2, 2 + tf.maximum(length, 2)))
        return tf.where(last, size, position + step), found

    position = follow(look, 2, size)
    length = numbers(data, position + 2, tf.uint16, 1, little_endian=False)[0]
    return part(data, position + 4, length - 2)


def _exif_of_png(data: tf.Tensor) -> tf.Tensor:
    size = tf.strings.length(data)

    def look(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length, name = tf.unstack(numbers(data, position, tf.int32, 2, little_endian=False))
        last = tf.equal(name, int.from_bytes(b"IEND", "big")) | (length < 0)
        return tf.where(last, size, position + 12 + length), tf.equal(name, int.from_bytes(b"eXIf", "big"))

    position = follow(look, len(_PNG), size)
    return part(data, position + 8, numbers(data, position, tf.int32, 1, little_endian=False)[0])


def _exif_of_webp(data: tf.Tensor) -> tf.Tensor:
    data = part(data, 0, 8 + numbers(data, 4, tf.int32, 1, little_endian=True)[0])  # what follows is none of it
    size = tf.strings.length(data)
    flags = numbers(data, 20, tf.uint8, 1, little_endian=True)[0]
    announced = has(data, 12, b"VP8X") & tf.not_equal(flags & 0x08, 0)

    def look(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        name, length = tf.unstack(numbers(data, position, tf.int32, 2, little_endian=True))
        after = position + 8 + length + length % 2
        return tf.where(length < 0, size, after), tf.equal(name, int.from_bytes(b"EXIF", "little"))

    position = follow(look, tf.where(announced, 12, size), size)
    return part(data, position + 8, numbers(data, position + 4, tf.int32, 1, little_endian=True)[0])


def _orientation(tiff: tf.Tensor, *, little_endian: bool) -> tf.Tensor:
    """The tag's value, if it is one number in 1..8; else 1."""
    directory = numbers(tiff, 4, tf.int32, 1, little_endian=little_endian)[0]
    directory = tf.where(directory < 8, tf.strings.length(tiff), directory)
    entries = numbers(tiff, directory, tf.uint16, 1, little_endian=little_endian)[0]
    whole = tf.minimum(entries, (tf.strings.length(tiff) - directory - 2) // 12)
    # Of an entry's six: the tag, its type, how many values (two, as it has 32 bits), the value (two).
    table = numbers(tiff, directory + 2, tf.uint16, 6 * tf.maximum(whole, 1), little_endian=little_endian)
    table = tf.reshape(table, [-1, 6])[: tf.maximum(whole, 0)]
    high, low = (3, 2) if little_endian else (2, 3)
    one = tf.equal(table[:, high], 0) & tf.equal(table[:, low], 1)
    short = tf.equal(table[:, 1], _SHORT)
    long = tf.equal(table[:, 1], _LONG) & tf.equal(table[:, high + 2], 0)
    value = tf.where(short, table[:, 4], table[:, low + 2])
    values = tf.boolean_mask(value, tf.equal(table[:, 0], _ORIENTATION) & one & (short | long))
    first = tf.concat([values, [1]], 0)[0]
    return tf.where((first >= 1) & (first <= 8), first, 1)
