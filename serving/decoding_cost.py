"""What decoding an image costs, asked of its bytes inside a TensorFlow graph: `serving.image_header` for servers.

A server must not rely on what its clients have checked. The common case is a few operations on the first bytes; what
has to be walked through (a JPEG of many scans, the frames of a GIF, the chunks of a PNG) is walked in a bounded
number of steps, and an image that takes more of them counts as too costly.
"""

import tensorflow as tf

from serving.image_header import INFLATION, RGB_BYTES, TEXT_BYTES, WEBP_BYTES
from serving.pictures import PictureLimits

TOO_COSTLY = -1
_STEPS = 50_000
"""Of a walk: about two seconds at most."""
_WINDOW = 16 * 1024
"""Bytes of a JPEG's data that are searched for the next marker in one step."""
_SCAN_BYTES = 10
"""The smallest header of a scan."""
_RUN = 256
"""Data sub-blocks of a GIF that one step passes if they have the same length."""
_PADDING = 32


@tf.function
def decoding_memory(image_bytes: tf.Tensor, limits: PictureLimits) -> tf.Tensor:
    """Bytes that decoding an image holds at its peak, or TOO_COSTLY where it is over the limits.

    Args:
      image_bytes: string scalar, a whole file.
      limits: what an image may cost.
    Returns:
      int64 scalar; an upper bound, and the same as `serving.image_header` has for all but JPEG. 0 for what is no
      image or has no size, which the decoder refuses by itself.
    Raises:
      tf.errors.InvalidArgumentError: a JPEG whose header libjpeg can't read.
    """
    memory = tf.constant(TOO_COSTLY, tf.int64)
    size = tf.strings.length(image_bytes)
    if size <= limits.max_bytes:
        head = tf.strings.substr(image_bytes, 0, 12)
        if _begins(head, b"\xff\xd8\xff"):
            memory = _jpeg(image_bytes, limits)
        elif _begins(head, b"\x89PNG\r\n\x1a\n"):
            memory = _png(image_bytes, limits)
        elif _begins(head, b"GIF8"):
            _, pixels, memory = _gif(image_bytes)
            if pixels > limits.max_pixels:
                memory = tf.constant(TOO_COSTLY, tf.int64)
        elif _begins(head, b"BM"):
            memory = _bmp(image_bytes, limits)
        elif _begins(head, b"RIFF") and tf.strings.substr(head, 8, 4) == b"WEBP":
            memory = _webp(image_bytes, limits)
        elif _begins(head, b"\xff\x0a") or _begins(head, b"\0\0\0\x0cJXL "):
            memory = tf.constant(TOO_COSTLY, tf.int64)  # JPEG XL: newer servers decode it, older ones don't
        else:
            memory = tf.constant(0, tf.int64)
    return memory


@tf.function
def first_frame(image_bytes: tf.Tensor) -> tf.Tensor:
    """An image without the frames that its decoder would unpack in vain, which are those of most animated GIFs.

    Args:
      image_bytes: string scalar, a whole file of any format.
    """
    if _begins(image_bytes, b"GIF8"):
        end, _, _ = _gif(image_bytes)
        if end < tf.strings.length(image_bytes):
            image_bytes = tf.strings.join([tf.strings.substr(image_bytes, 0, end), b";"])
    return image_bytes


def _begins(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(magic)) == magic


def _bytes(image_bytes: tf.Tensor, start: int = 0, count: int = -1) -> tf.Tensor:
    """uint8 vector, with zeros behind its end, which end each search."""
    part = image_bytes if count < 0 else tf.strings.substr(image_bytes, start, count)
    return tf.concat([tf.io.decode_raw(part, tf.uint8), tf.zeros([_PADDING], tf.uint8)], axis=0)


def _big(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    """Unsigned integer of big-endian bytes: int64 scalar."""
    powers = tf.constant([256**i for i in reversed(range(count))], tf.int64)
    return tf.reduce_sum(tf.cast(data[start : start + count], tf.int64) * powers)


def _little(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    """Unsigned integer of little-endian bytes: int64 scalar."""
    powers = tf.constant([256**i for i in range(count)], tf.int64)
    return tf.reduce_sum(tf.cast(data[start : start + count], tf.int64) * powers)


def _within(pixels: tf.Tensor, limits: PictureLimits, memory: tf.Tensor) -> tf.Tensor:
    return tf.where(pixels <= limits.max_pixels, memory, TOO_COSTLY)


def _jpeg(image_bytes: tf.Tensor, limits: PictureLimits) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(image_bytes, tf.int64)
    pixels = shape[0] * shape[1]
    # Without knowing whether it has several scans: 2 bytes for each coefficient.
    memory = _within(pixels, limits, (RGB_BYTES + 2 * shape[2]) * pixels)
    most = tf.strings.length(image_bytes) // _SCAN_BYTES
    if memory > 0 and tf.cast(most, tf.int64) * pixels > limits.max_passes:
        most = tf.cast(limits.max_passes // pixels, tf.int32)
        memory = tf.where(_has_scans(image_bytes, most + 1), tf.constant(TOO_COSTLY, tf.int64), memory)
    return memory


@tf.function
def _has_scans(image_bytes: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Has a JPEG as many scans, or more markers than can be walked through?"""
    data = _bytes(image_bytes)
    size = tf.size(data) - _PADDING
    place = tf.constant(2)
    scans = tf.constant(0)
    steps = tf.constant(0)
    while place < size and scans < count and steps < _STEPS:
        window = data[place : place + _WINDOW]
        code = window[1:]
        marker = (window[:-1] == 0xFF) & (code > 1) & (code != 0xFF) & ((code < 0xD0) | (code > 0xD7))
        found = tf.argmax(marker, output_type=tf.int32)
        place += found
        kind = data[place + 1]
        if not marker[found]:
            place += _WINDOW - 1
        elif kind == 0xD9:
            place = size
        elif kind == 0xD8:
            place += 2
        else:
            scans += tf.cast(kind == 0xDA, tf.int32)
            place += 2 + tf.cast(tf.maximum(_big(data, place + 2, 2), 2), tf.int32)
        steps += 1
    return scans >= count or steps >= _STEPS


def _png(image_bytes: tf.Tensor, limits: PictureLimits) -> tf.Tensor:
    first = _bytes(image_bytes, 8, 16)
    if tf.strings.substr(image_bytes, 12, 4) == b"IHDR" and (
        INFLATION * tf.cast(tf.strings.length(image_bytes), tf.int64) <= limits.max_text
    ):
        pixels = _big(first, 8, 4) * _big(first, 12, 4)
        text = tf.constant(0, tf.int64)
    else:
        pixels, text = _walk_png(image_bytes)
    memory = _within(pixels, limits, RGB_BYTES * pixels)
    return tf.where(text <= limits.max_text, memory, TOO_COSTLY)


@tf.function
def _walk_png(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels, and the most bytes that compressed text may unpack to."""
    size = tf.cast(tf.strings.length(image_bytes), tf.int64)
    place = tf.constant(8, tf.int64)
    pixels = tf.constant(0, tf.int64)
    text = tf.constant(0, tf.int64)
    steps = tf.constant(0)
    while place + 8 <= size and steps < _STEPS:
        chunk = _bytes(tf.strings.substr(image_bytes, place, 16))
        length = _big(chunk, 0, 4)
        kind = tf.strings.substr(image_bytes, place + 4, 4)
        if kind == b"IHDR" and pixels == 0:
            pixels = _big(chunk, 8, 4) * _big(chunk, 12, 4)
        elif kind == b"zTXt" or kind == b"iTXt":
            text += tf.minimum(INFLATION * length, TEXT_BYTES)
        elif kind == b"IEND":
            place = size
        place += 12 + length
        steps += 1
    return pixels, tf.where(steps < _STEPS, text, tf.int64.max)


@tf.function
def _gif(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Bytes that the decoder needs, pixels that it unpacks of them, and the memory for that."""
    data = _bytes(image_bytes)
    size = tf.size(data) - _PADDING
    place = 13 + _colours(data[10])
    end = size
    first = tf.zeros([2], tf.int64)
    largest = tf.zeros([2], tf.int64)
    unpacked = tf.constant(0, tf.int64)
    frames = tf.constant(0)
    in_blocks = tf.constant(False)
    steps = tf.constant(0)
    while place < size and steps < _STEPS:
        kind = tf.cast(data[place], tf.int32)
        if in_blocks:
            if kind == 0:
                in_blocks = tf.constant(False)
                place += 1
                if frames == 1 and end == size:
                    end = place
            else:
                lengths = data[place : place + _RUN * (kind + 1) : kind + 1]
                others = lengths != data[place]
                run = tf.where(tf.reduce_any(others), tf.argmax(others, output_type=tf.int32), tf.size(lengths))
                place += run * (kind + 1)
        elif kind == 0x2C and place + 10 <= size:
            frame = tf.stack([_little(data, place + 5, 2), _little(data, place + 7, 2)])
            frames += 1
            first = tf.where(frames == 1, frame, first)
            largest = tf.maximum(largest, frame)
            unpacked += frame[0] * frame[1]
            place += 11 + _colours(data[place + 9])
            in_blocks = tf.constant(True)
        elif kind == 0x21:
            place += 2
            in_blocks = tf.constant(True)
        else:
            place = size
        steps += 1
    canvas = largest[0] * largest[1]
    if tf.reduce_all(first == largest):
        unpacked = canvas
    else:
        end = size
    pixels = tf.where(steps < _STEPS, tf.maximum(unpacked, canvas), tf.int64.max)
    return end, pixels, unpacked + RGB_BYTES * canvas


def _colours(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of a colour table."""
    flags = tf.cast(flags, tf.int32)
    return tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _bmp(image_bytes: tf.Tensor, limits: PictureLimits) -> tf.Tensor:
    head = _bytes(image_bytes, 18, 8)
    width, height = _little(head, 0, 4), _little(head, 4, 4)
    pixels = width * tf.minimum(height, 2**32 - height)  # a negative height is stored from the top
    return _within(pixels, limits, RGB_BYTES * pixels)


def _webp(image_bytes: tf.Tensor, limits: PictureLimits) -> tf.Tensor:
    head = _bytes(image_bytes, 12, 18)
    kind = tf.strings.substr(image_bytes, 12, 4)
    if kind == b"VP8X":
        pixels = (_little(head, 12, 3) + 1) * (_little(head, 15, 3) + 1)
    elif kind == b"VP8L":
        bits = _little(head, 9, 4)
        pixels = (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)
    else:
        pixels = (_little(head, 14, 2) % 2**14) * (_little(head, 16, 2) % 2**14)
    return _within(pixels, limits, (RGB_BYTES + WEBP_BYTES) * pixels)
