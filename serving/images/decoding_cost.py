"""Computes inside a TensorFlow graph what decoding images costs: `serving.images.header` for servers.

A server must not rely on what its clients have checked. The sizes of all rows of a request are read together; what has
to be walked through (a JPEG of many scans, the frames of a GIF, the chunks of a PNG) is walked row by row, in a bounded
number of steps, and an image that takes more of them counts as too costly. Nothing here raises, whatever the bytes are.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from serving.images.header import (
    BMP_HEADER,
    BMP_PLAIN,
    GIF_BLOCK,
    GIF_END,
    GIF_FRAME,
    INFLATION,
    KEPT_TWICE,
    RGB_BYTES,
    TEXT_BYTES,
    WEBP_BYTES,
    WEBP_CODES,
    WEBP_CODES_BITS,
    WEBP_CODES_SIDE,
    WEBP_MOST_CODES,
)
from serving.images.limits import ImageLimits
from serving.images.webp_graph import plain_webp

TOO_COSTLY = -1
_STEPS = 50_000
"""The most steps of a walk through a file, which take a few seconds at most."""
_HEADER_STEPS = 5_000
"""The most steps of the search for a JPEG's size, which all rows of a batch take together."""
_HEAD = 34
"""Bytes of a file that hold the size in all formats but JPEG."""
_SEGMENT = 64
"""Bytes of a JPEG's header that one step looks at: as many as a frame header of the usual components has, and more."""
_WINDOW = 16 * 1024
"""Bytes of a JPEG's data that are searched for the next marker in one step."""
_BLOCK = 64
"""Coefficients of two bytes."""
_SCAN_BYTES = 10
"""The smallest header of a scan."""
_RUN = 256
"""Data sub-blocks of a GIF that one step passes if they have the same length."""
_PADDING = 32


class Cost(NamedTuple):
    """What decoding costs, for each row of a batch."""

    memory: tf.Tensor
    """int64 [n]: bytes that decoding holds at its peak, 0 if it is not an image, TOO_COSTLY if over the limits."""
    needed: tf.Tensor
    """string [n]: the file as it is decoded: without further frames where they don't matter, and a WebP's alpha."""


def decoding_cost(image_bytes: tf.Tensor, limits: ImageLimits) -> Cost:
    """What decoding each image of a batch costs.

    Args:
      image_bytes: string [n], whole files.
      limits: what one image may cost.
    """
    size = tf.strings.length(image_bytes)
    head = _leading(image_bytes, 0, _HEAD)
    is_jpeg, is_png, is_gif = (_begins(head, magic) for magic in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8"))
    is_webp = _is_webp(head)
    image_bytes = _plain(image_bytes, is_webp)
    head = _leading(image_bytes, 0, _HEAD)
    png, png_memory, png_text = _png(image_bytes, head, is_png, limits)
    jpeg, jpeg_memory = _jpeg(image_bytes, is_jpeg, limits)
    gif, gif_memory, gif_text, end = _gif(image_bytes, is_gif)
    webp, webp_memory = _webp(image_bytes, head, is_webp)
    is_bmp = _begins(head, b"BM")
    bmp = _bmp(image_bytes, head, is_bmp)
    pixels = tf.zeros_like(size, tf.int64)
    memory = pixels
    for chosen, its_pixels, its_memory in (
        (is_jpeg, jpeg, jpeg_memory),
        (is_png, png, png_memory),
        (is_gif, gif, gif_memory),
        (is_bmp, bmp, RGB_BYTES * bmp),
        (is_webp, webp, webp_memory),
    ):
        pixels, memory = tf.where(chosen, its_pixels, pixels), tf.where(chosen, its_memory, memory)
    text = png_text + gif_text
    costly = (size > limits.max_image_bytes) | (pixels > limits.max_image_pixels) | (text > limits.max_text)
    memory = tf.where(costly | (memory < 0), tf.constant(TOO_COSTLY, tf.int64), memory)
    return Cost(memory, _cut(image_bytes, end))


def first_frame(image_bytes: tf.Tensor) -> tf.Tensor:
    """One image (string scalar) without what its decoder would unpack in vain, or can't."""
    files = image_bytes[tf.newaxis]
    head = _leading(files, 0, _HEAD)
    *_, end = _gif(files, _begins(head, b"GIF8"))
    return _plain(_cut(files, end), _is_webp(head))[0]


def _is_webp(head: tf.Tensor) -> tf.Tensor:
    return _begins(head, b"RIFF") & _begins(head[:, 8:], b"WEBP")


def _plain(image_bytes: tf.Tensor, is_webp: tf.Tensor) -> tf.Tensor:
    """WebP files without alpha and further frames; without a copy of the files where none is a WebP."""

    def plain() -> tf.Tensor:
        return tf.map_fn(
            lambda row: tf.cond(is_webp[row], lambda: plain_webp(image_bytes[row]), lambda: image_bytes[row]),
            tf.range(tf.size(image_bytes)), fn_output_signature=tf.string, parallel_iterations=1,
        )  # fmt: skip

    return tf.cond(tf.reduce_any(is_webp), plain, lambda: image_bytes)


def _cut(image_bytes: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """GIFs without what follows their end; without a copy of the files where there is nothing to cut."""
    shorter = end < tf.strings.length(image_bytes)

    def cut() -> tf.Tensor:
        beginning = tf.strings.substr(image_bytes, tf.zeros_like(end), tf.where(shorter, end, 0))
        return tf.where(shorter, tf.strings.join([beginning, GIF_END]), image_bytes)

    return tf.cond(tf.reduce_any(shorter), cut, lambda: image_bytes)


def _leading(image_bytes: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    """uint8 [n, count]: bytes of each file from a place on, zeros behind its end."""
    start = tf.zeros_like(tf.strings.length(image_bytes)) + start
    return tf.io.decode_raw(
        tf.strings.substr(image_bytes, start, tf.fill(tf.shape(start), count)), tf.uint8, fixed_length=count
    )


def _begins(head: tf.Tensor, magic: bytes) -> tf.Tensor:
    """bool [n]."""
    return tf.reduce_all(head[:, : len(magic)] == tf.constant(list(magic), tf.uint8), axis=1)


def _number(data: tf.Tensor, start: int, count: int, *, big: bool = False) -> tf.Tensor:
    """Unsigned integers in columns of uint8 [n, ...]: int64 [n]."""
    powers = [256**i for i in range(count)]
    return tf.reduce_sum(
        tf.cast(data[:, start : start + count], tf.int64) * tf.constant(powers[::-1] if big else powers, tf.int64),
        axis=1,
    )


def _bytes(image_bytes: tf.Tensor) -> tf.Tensor:
    """uint8 vector of a file, with zeros behind its end, which end each search."""
    return tf.concat([tf.io.decode_raw(image_bytes, tf.uint8), tf.zeros([_PADDING], tf.uint8)], axis=0)


def _big(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    return _number(data[tf.newaxis, start : start + count], 0, count, big=True)[0]


def _little(data: tf.Tensor, start: tf.Tensor | int, count: int) -> tf.Tensor:
    return _number(data[tf.newaxis, start : start + count], 0, count)[0]


def _for_rows(chosen: tf.Tensor, function: Any, results: Any) -> Any:
    """Calls a function for the chosen rows one after the other; zeros for all others.

    Args:
      chosen: bool [n].
      function: from an index to one tensor or several.
      results: their dtypes.
    """
    rows = tf.cast(tf.where(chosen), tf.int32)
    called = tf.map_fn(function, rows[:, 0], fn_output_signature=results, parallel_iterations=1)
    count = tf.shape(chosen)
    return tf.nest.map_structure(lambda result: tf.scatter_nd(rows, result, count), called)


def _jpeg(image_bytes: tf.Tensor, chosen: tf.Tensor, limits: ImageLimits) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels, and memory: negative for too many scans."""
    frame, scan = _jpeg_headers(image_bytes, chosen)
    height, width = _number(frame, 5, 2, big=True), _number(frame, 7, 2, big=True)
    pixels = width * height
    components = tf.cast(frame[:, 9], tf.int64)
    area, blocks = _blocks(width, height, tf.where(tf.sequence_mask(components, 10), frame[:, 11:41:3], 0))
    progressive = (frame[:, 1] % 4 == 2) & (frame[:, 1] > 0)
    several = progressive | (tf.cast(scan[:, 4], tf.int64) < components)
    memory = RGB_BYTES * pixels + tf.where(several, 2 * _BLOCK * blocks, 0)
    most = limits.max_passes // tf.maximum(area, 1)
    doubtful = several & (pixels <= limits.max_image_pixels) & (_sizes(image_bytes) // _SCAN_BYTES > most)
    costly = _for_rows(doubtful, lambda row: _has_scans(image_bytes[row], most[row] + 1), tf.bool)
    return pixels, tf.where(costly, tf.constant(TOO_COSTLY, tf.int64), memory)


def _blocks(width: tf.Tensor, height: tf.Tensor, sampling: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels and blocks of JPEGs as `serving.images.header` counts them; `sampling` is uint8 [n, components]."""
    factors = tf.cast(sampling, tf.int64)
    across, down = factors // 16, factors % 16
    most_across, most_down = (tf.maximum(tf.reduce_max(one, axis=1), 1) for one in (across, down))
    units = _parts(width, 8 * most_across) * _parts(height, 8 * most_down)
    return _BLOCK * most_across * most_down * units, units * tf.reduce_sum(across * down, axis=1)


def _parts(whole: tf.Tensor, part: tf.Tensor | int) -> tf.Tensor:
    """How many parts make the whole, the last perhaps cut."""
    return (whole + part - 1) // part


@tf.function
def _jpeg_headers(image_bytes: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The segments, from their marker on, of the frame and of the first scan of each file: uint8 [n, _SEGMENT]."""
    size = tf.strings.length(image_bytes)
    place = tf.where(chosen, tf.minimum(2, size), size)
    frame = scan = tf.zeros([tf.size(size), _SEGMENT], tf.uint8)
    steps = tf.constant(0)
    while tf.reduce_any(place < size) and steps < _HEADER_STEPS:
        window = _leading(image_bytes, place, _SEGMENT)
        markers = _markers(window)
        offset = tf.argmax(markers, axis=1, output_type=tf.int32)
        found = tf.reduce_any(markers, axis=1)
        here = found & (offset == 0)
        kind = window[:, 1]
        is_frame = here & (kind >= 0xC0) & (kind <= 0xCF) & (kind != 0xC4) & (kind != 0xC8) & (kind != 0xCC)
        is_first = is_frame & (frame[:, 0] == 0)
        is_scan = here & (kind == 0xDA)
        frame = tf.where(is_first[:, tf.newaxis], window, frame)
        scan = tf.where(is_scan[:, tf.newaxis], window, scan)
        length = tf.cast(tf.maximum(_number(window, 2, 2, big=True), 2), tf.int32)
        step = tf.where(here, tf.where(kind == 0xD8, 2, 2 + length), tf.where(found, offset, _SEGMENT - 1))
        place = tf.where(is_scan | (here & (kind == 0xD9)), size, tf.minimum(place + step, size))
        steps += 1
    return frame, scan


def _markers(data: tf.Tensor) -> tf.Tensor:
    """bool [..., n - 1]: where markers are that end entropy-coded data or begin a segment."""
    code = data[..., 1:]
    return (data[..., :-1] == 0xFF) & (code > 1) & (code != 0xFF) & ((code < 0xD0) | (code > 0xD7))


@tf.function
def _has_scans(image_bytes: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Has a JPEG as many scans, or more markers than can be walked through?"""
    data = _bytes(image_bytes)
    size = tf.size(data) - _PADDING
    place = tf.constant(2)
    scans = tf.constant(0)
    steps = tf.constant(0)
    while place < size and tf.cast(scans, tf.int64) < count and steps < _STEPS:
        marker = _markers(data[place : place + _WINDOW])
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
    return tf.cast(scans, tf.int64) >= count or steps >= _STEPS


def _png(
    image_bytes: tf.Tensor, head: tf.Tensor, chosen: tf.Tensor, limits: ImageLimits
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Pixels, memory, and the most bytes that compressed text may unpack to."""
    few = _begins(head[:, 12:], b"IHDR") & (INFLATION * _sizes(image_bytes) <= limits.max_text)
    plain = few & ~_contains(image_bytes, chosen & few, "[iz]TXt")
    walked = _for_rows(chosen & ~plain, lambda row: _walk_png(image_bytes[row]), (tf.int64, tf.int64, tf.int64))
    pixels = tf.where(plain, _number(head, 16, 4, big=True) * _number(head, 20, 4, big=True), walked[0])
    return pixels, RGB_BYTES * pixels + walked[1], walked[2]


def _contains(image_bytes: tf.Tensor, chosen: tf.Tensor, expression: str) -> tf.Tensor:
    """bool [n]: is something that matches in the file? False for those that aren't chosen."""
    return tf.strings.regex_full_match(tf.where(chosen, image_bytes, b""), rf"\C*{expression}\C*")


def _sizes(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(image_bytes), tf.int64)


@tf.function
def _walk_png(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Pixels, memory beside them, and the most bytes that compressed text may unpack to."""
    size = tf.cast(tf.strings.length(image_bytes), tf.int64)
    place = tf.constant(8, tf.int64)
    pixels = tf.constant(0, tf.int64)
    text = tf.constant(0, tf.int64)
    kept = tf.constant(0, tf.int64)
    steps = tf.constant(0)
    while place + 8 <= size and steps < _STEPS:
        chunk = tf.strings.substr(image_bytes, place, tf.constant(16, tf.int64))
        kind = tf.strings.substr(chunk, 4, 4)
        numbers = _bytes(chunk)
        length = _big(numbers, 0, 4)
        if kind == b"IHDR" and pixels == 0:
            pixels = _big(numbers, 8, 4) * _big(numbers, 12, 4)
        elif kind == b"zTXt" or kind == b"iTXt":
            text += tf.minimum(INFLATION * length, TEXT_BYTES)
        elif kind == b"IEND":
            place = size
        elif kind != b"IDAT":
            kept += tf.minimum(length, size - place)
        place += 12 + length
        steps += 1
    return pixels, text + KEPT_TWICE * kept, tf.where(steps < _STEPS, text, tf.int64.max)


def _gif(image_bytes: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Pixels that are unpacked, the memory for all, that for remarks, and the bytes that are needed."""
    *costs, end = _for_rows(chosen, lambda row: _walk_gif(image_bytes[row]), (tf.int64, tf.int64, tf.int64, tf.int32))
    return *costs, tf.where(chosen, end, tf.strings.length(image_bytes))


@tf.function
def _walk_gif(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    data = _bytes(image_bytes)
    size = tf.size(data) - _PADDING
    place = 13 + _colours(data[10])
    end = size
    first = tf.zeros([2], tf.int64)
    largest = tf.zeros([2], tf.int64)
    unpacked = tf.constant(0, tf.int64)
    remarks = tf.constant(0, tf.int64)
    needed_remarks = tf.constant(0, tf.int64)
    frames = tf.constant(0)
    in_blocks = tf.constant(False)
    in_remark = tf.constant(False)
    steps = tf.constant(0)
    while place < size and steps < _STEPS:
        kind = tf.cast(data[place], tf.int32)
        if in_blocks:
            if kind == 0:
                in_blocks = tf.constant(False)
                place += 1
                remarks += tf.cast(in_remark, tf.int64)
                if frames == 1 and end == size:
                    end = place
            else:
                lengths = data[place : place + _RUN * (kind + 1) : kind + 1]
                others = tf.ensure_shape(lengths != data[place], [None])
                run = tf.where(tf.reduce_any(others), tf.argmax(others, output_type=tf.int32), tf.size(lengths))
                place += run * (kind + 1)
                remarks += tf.where(in_remark, tf.cast(run * (kind + 1 + GIF_BLOCK), tf.int64), 0)
        elif kind == 0x2C and place + 10 <= size:
            frame = tf.stack([_little(data, place + 5, 2), _little(data, place + 7, 2)])
            frames += 1
            first = tf.where(frames == 1, frame, first)
            needed_remarks = tf.where(frames == 1, remarks, needed_remarks)
            largest = tf.maximum(largest, frame)
            unpacked += frame[0] * frame[1]
            place += 11 + _colours(data[place + 9])
            in_blocks, in_remark = tf.constant(True), tf.constant(False)
        elif kind == 0x21:
            place += 2
            in_blocks, in_remark = tf.constant(True), tf.constant(True)
        else:
            place = size
        steps += 1
    canvas = largest[0] * largest[1]
    if tf.reduce_all(first == largest):
        unpacked, remarks, frames = canvas, needed_remarks, tf.minimum(frames, 1)
    else:
        end = size
    pixels = tf.where(steps < _STEPS, tf.maximum(unpacked, canvas), tf.int64.max)
    memory = unpacked + RGB_BYTES * canvas + GIF_FRAME * tf.cast(frames, tf.int64) + remarks
    return pixels, memory, remarks, end


def _colours(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of a colour table."""
    flags = tf.cast(flags, tf.int32)
    return tf.where(flags >= 0x80, 3 * tf.pow(2, flags % 8 + 1), 0)


def _bmp(image_bytes: tf.Tensor, head: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Pixels; 0 for those that TensorFlow would take other bytes for."""
    width, height = _number(head, 18, 4), _number(head, 22, 4)
    pixels = width * tf.minimum(height, 2**32 - height)  # a negative height is stored from the top
    has_palette = _number(head, 28, 2) // 8 == 1
    compression = _number(head, 30, 4)
    is_plain = (_number(head, 14, 4) >= BMP_HEADER) & tf.reduce_any([compression == kind for kind in BMP_PLAIN], axis=0)
    grey = _for_rows(chosen & has_palette, lambda row: _is_grey(image_bytes[row]), tf.bool)
    return tf.where(is_plain & (grey | ~has_palette), pixels, 0)


def _is_grey(image_bytes: tf.Tensor) -> tf.Tensor:
    size = _sizes(image_bytes)
    head = _leading(image_bytes[tf.newaxis], 0, _HEAD)
    start = tf.minimum(14 + _number(head, 14, 4)[0], size)
    length = tf.clip_by_value(_number(head, 10, 4)[0] - start, 0, tf.minimum(size - start, 4 * 256))
    palette = tf.io.decode_raw(tf.strings.substr(image_bytes, start, length // 4 * 4), tf.uint8)
    colours = tf.reshape(palette, [-1, 4])[:, :3]
    return tf.reduce_all(tf.cast(colours, tf.int64) == tf.range(length // 4)[:, tf.newaxis])


def _webp(image_bytes: tf.Tensor, head: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels, and memory with the prefix codes of lossless files."""
    is_canvas, is_lossless = _begins(head[:, 12:], b"VP8X"), _begins(head[:, 12:], b"VP8L")
    bits = _number(head, 21, 4)
    width = tf.where(
        is_canvas, _number(head, 24, 3) + 1, tf.where(is_lossless, bits % 2**14 + 1, _number(head, 26, 2) % 2**14)
    )
    height = tf.where(
        is_canvas,
        _number(head, 27, 3) + 1,
        tf.where(is_lossless, bits // 2**14 % 2**14 + 1, _number(head, 28, 2) % 2**14),
    )
    squares = _parts(width, WEBP_CODES_SIDE) * _parts(height, WEBP_CODES_SIDE)
    codes = tf.minimum(tf.minimum(squares, WEBP_MOST_CODES), 8 * _sizes(image_bytes) // WEBP_CODES_BITS)
    pixels = width * height
    memory = (RGB_BYTES + WEBP_BYTES) * pixels
    return pixels, memory + tf.where(_contains(image_bytes, chosen, "VP8L"), WEBP_CODES * codes, 0)
