"""Decodes image files without TensorFlow, to the very pixels that TensorFlow gives; None where that is not certain.

Decoders agree on whole files that keep to their format. On damaged ones, and on rare kinds, each has its own mind, and
the model's is TensorFlow's. So a file is decoded here only if nothing about it is doubtful.
"""

import io
import struct
import zlib
from typing import Any

import numpy as np

from serving.images.header import BMP, GIF, JPEG, PNG, WEBP, ImageHeader

Array = np.ndarray[Any, np.dtype[Any]]

MOST_PIXELS = 80_000_000
"""Of larger images Pillow warns."""
BYTES_A_PIXEL = {JPEG: 3, PNG: 15, GIF: 11, BMP: 6, WEBP: 18}
"""What decoding holds at its peak, beside the file: the pixels in each form that they go through."""


def decode(data: bytes, header: ImageHeader) -> Array | None:
    """The pixels of an image.

    Args:
      data: the file, as `needed_bytes` gives it.
      header: of the file.

    Returns:
      uint8 [height, width, 3], RGB, as `tf.io.decode_image` gives it with `channels=3`; None where TensorFlow may have
      another opinion.
    """
    if header.width * header.height > MOST_PIXELS:
        return None
    try:
        pixels = _DECODERS[header.format](data)
    except Exception:  # whatever a library has against the file
        return None
    return pixels if pixels is not None and pixels.shape == (header.height, header.width, 3) else None


_FRAME = {0xC0, 0xC1, 0xC2}
"""Sequential and progressive, with Huffman coding."""
_ADOBE = b"Adobe"


def _decode_jpeg(data: bytes) -> Array | None:
    """By libjpeg-turbo with TensorFlow's settings; a file that it would warn of is doubtful."""
    import simplejpeg

    _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours not in ("Gray", "YCbCr", "RGB", "CMYK", "YCCK"):
        return None
    is_ink = colours in ("CMYK", "YCCK")
    pixels: Array = simplejpeg.decode_jpeg(
        data, "CMYK" if is_ink else "RGB", fastdct=True, fastupsample=False, strict=True
    )
    return _from_ink(pixels, is_inverted=_is_adobes(data)) if is_ink else pixels


def _from_ink(pixels: Array, *, is_inverted: bool) -> Array:
    """RGB of CMYK as TensorFlow computes it: without a profile, and rounded down."""
    light = pixels.astype(np.uint16) if is_inverted else 255 - pixels.astype(np.uint16)
    return (light[:, :, :3] * light[:, :, 3:] // 255).astype(np.uint8)


def _is_adobes(data: bytes) -> bool:
    """Has a JPEG the segment APP14 of Adobe, whose CMYK is inverted?"""
    place = 2
    while data[place] == 0xFF and data[place + 1] != 0xDA:
        if data[place + 1] == 0xEE and data.startswith(_ADOBE, place + 4):
            return True
        place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])
    return False


_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of each colour type of a PNG."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass of an interlaced PNG: its first column and row, and the steps between them."""


def _decode_png(data: bytes) -> Array | None:
    """By Pillow; a file is doubtful unless its chunks are known, whole and in order, with as many data as it needs."""
    if not _is_plain_png(data):
        return None
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.mode == "I;16":  # libpng leaves the lower half out
            grey: Array = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
        return _rgb(image)


def _is_plain_png(data: bytes) -> bool:
    names: list[bytes] = []
    pixels: list[bytes] = []
    header, place = b"", 8
    while place < len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        content = data[place + 8 : place + 8 + length]
        (check,) = struct.unpack_from(">I", data, place + 8 + length)
        if zlib.crc32(content, zlib.crc32(name)) != check or name in _ANIMATION:
            return False
        if not name[0] & 0x20 and name not in _CRITICAL:
            return False
        if name == b"IHDR":
            header = content
        if name == b"IDAT":
            pixels.append(content)
        if name != b"IDAT" or names[-1] != b"IDAT":
            names.append(name)
        place += 12 + length
    once = all(names.count(name) == 1 for name in (b"IHDR", b"IDAT", b"IEND")) and names.count(b"PLTE") < 2
    if not once or names[0] != b"IHDR" or names[-1] != b"IEND" or len(header) != 13:
        return False
    inflating = zlib.decompressobj(wbits=0)  # the window that the data announce, which libpng keeps to
    expected = _png_bytes(header)
    found = len(inflating.decompress(b"".join(pixels), expected + 1))
    return found == expected and inflating.eof and not inflating.unused_data


def _png_bytes(header: bytes) -> int:
    """Bytes of a PNG's rows, each with the number of its filter, as its header says."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS.get(colour, 0)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = max(0, -(-(width - left) // across)), max(0, -(-(height - top) // down))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total


def _decode_gif(data: bytes) -> Array | None:
    """By Pillow; doubtful unless its one frame fills the screen and its blocks are whole."""
    screen = struct.unpack_from("<HH", data, 6)
    if screen[0] * screen[1] > MOST_PIXELS or not _is_plain_gif(data):
        return None
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["GIF"]) as image:
        if [tile.extents for tile in image.tile] != [(0, 0, *screen)]:
            return None
        return _rgb(image)


def _is_plain_gif(data: bytes) -> bool:
    """Is it blocks up to the trailer, which ends the file, with one frame among them?"""
    place, frames = 13 + _colour_table(data[10]), 0
    while data[place] != 0x3B:
        if data[place] == 0x2C:
            frames += 1
            place += 11 + _colour_table(data[place + 9])
        elif data[place] == 0x21:
            place += 2
        else:
            return False
        while length := data[place]:
            place += 1 + length
        place += 1
    return frames == 1 and place == len(data) - 1


def _colour_table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _decode_webp(data: bytes) -> Array | None:
    """By Pillow, which has libwebp, as TensorFlow has."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        return _rgb(image)


def _rgb(image: Any) -> Array | None:
    """The pixels of Pillow's image, without alpha; None where one has a number that its palette has no colour for."""
    if image.mode == "P" and int(np.asarray(image).max()) >= len(image.getpalette()) // 3:
        return None
    return np.array(image.convert("RGB"))


def _decode_bmp(data: bytes) -> Array | None:
    """As TensorFlow does, which looks at six fields of the header and takes what follows for pixels."""
    start, _, width, height, _, bits = struct.unpack_from("<iIiiHH", data, 10)
    channels = bits // 8
    line = -(-channels * width // 4) * 4
    if start + line * abs(height) != len(data):
        return None
    rows = np.frombuffer(data, np.uint8, line * abs(height), start).reshape(abs(height), line)
    pixels = rows[:, : channels * width].reshape(abs(height), width, channels)
    pixels = pixels[:, :, 2::-1] if channels > 1 else np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[::-1] if height > 0 else pixels)


_DECODERS = {JPEG: _decode_jpeg, PNG: _decode_png, GIF: _decode_gif, BMP: _decode_bmp, WEBP: _decode_webp}
