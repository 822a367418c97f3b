"""Decodes image files without TensorFlow, to the very pixels that TensorFlow gives; None where that is not certain.

Decoders agree on whole files that keep to their format. On damaged ones, and on rare kinds, each has its own mind, and
the model's is TensorFlow's. So a file is decoded here only if nothing about it is doubtful.
"""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.images.header import (
    BMP,
    EOI,
    GIF,
    JPEG,
    MARKER,
    MOST_PIXELS,
    PNG,
    PROGRESSIVE,
    SOS,
    WEBP,
    ImageHeader,
    colour_table,
)

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_FOR_PILLOW = 80_000_000
"""Pixels; Pillow warns of larger images."""
_BYTES_A_PIXEL = {JPEG: 4, PNG: 17, GIF: 12, BMP: 7, WEBP: 24}
_INK_BYTES = 9
"""Bytes a pixel of a JPEG with four components."""


def memory(header: ImageHeader) -> int:
    """Bytes that `decode` holds at its peak, beside the file: the pixels in each form that they go through."""
    is_ink = header.format == JPEG and header.most_pixels <= MOST_PIXELS // 4
    each = _INK_BYTES if is_ink else _BYTES_A_PIXEL[header.format]
    return max(header.memory * 11 // 10, each * header.width * header.height)


def decode(data: bytes, header: ImageHeader) -> Array | None:
    """The pixels of an image.

    Args:
      data: the file, as `needed_bytes` gives it.
      header: of the file.

    Returns:
      uint8 [height, width, 3], RGB, as `tf.io.decode_image` gives it with `channels=3`; None where TensorFlow may have
      another opinion.
    """
    if header.format in _BY_PILLOW and header.width * header.height > _MOST_FOR_PILLOW:
        return None
    try:
        pixels = _DECODERS[header.format](data)
    except Exception:  # whatever a library has against the file
        return None
    return pixels if pixels is not None and pixels.shape == (header.height, header.width, 3) else None


_APP14 = 0xEE
_ADOBE, _ADOBE_BYTES = b"Adobe", 14
"""How Adobe's segment begins, and its least length."""
_ROWS = 64
"""Rows of ink that are turned into light at once."""


def _decode_jpeg(data: bytes) -> Array | None:
    """By libjpeg-turbo with TensorFlow's settings; a file that it would warn of is doubtful."""
    import simplejpeg

    _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours not in ("Gray", "YCbCr", "RGB", "CMYK", "YCCK") or not _has_all_scans(data):
        return None
    is_ink = colours in ("CMYK", "YCCK")
    pixels: Array = simplejpeg.decode_jpeg(
        data, "CMYK" if is_ink else "RGB", fastdct=True, fastupsample=False, strict=True
    )
    if not is_ink:
        return pixels
    before_scans = itertools.takewhile(lambda segment: segment[0] != SOS, _segments(data))
    adobe = [content for marker, content in before_scans if marker == _APP14 and content.startswith(_ADOBE, 2)]
    if len(adobe) != data.count(b"\xff\xee") or any(len(content) < _ADOBE_BYTES for content in adobe):
        return None
    return _from_ink(pixels, is_inverted=bool(adobe))


def _from_ink(pixels: Array, *, is_inverted: bool) -> Array:
    """RGB of CMYK as TensorFlow computes it: without a profile, and rounded down."""
    image = np.empty((*pixels.shape[:2], 3), np.uint8)
    for row in range(0, len(pixels), _ROWS):
        ink = pixels[row : row + _ROWS].astype(np.uint16)
        light = ink if is_inverted else 255 - ink
        image[row : row + _ROWS] = light[:, :, :3] * light[:, :, 3:] // 255
    return image


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker of each segment of a JPEG, the headers of scans among them, and its bytes from its length on."""
    place = 2
    while (found := MARKER.search(data, place)) and (marker := data[found.end() - 1]) != EOI:
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        place = found.end() + max(length, 2)
        yield marker, data[found.end() : place]


def _has_all_scans(data: bytes) -> bool:
    """Do the scans of a JPEG refine each coefficient to its last bit? Decoders smooth over what is missing."""
    bits: dict[int, list[int]] = {}
    for marker, content in _segments(data):
        if marker in PROGRESSIVE:
            bits = {content[8 + 3 * number]: [-1] * 64 for number in range(content[7])}
        elif marker == SOS:
            if not bits:
                return True  # a sequential scan has all that there is of its components
            count = content[2]
            first, last, approximation = content[3 + 2 * count : 6 + 2 * count]
            for number in range(count):
                bits[content[3 + 2 * number]][first : last + 1] = [approximation & 15] * (last + 1 - first)
    return not any(any(coefficients) for coefficients in bits.values())


_KNOWN_CHUNKS = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs", b"tIME",
    b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"hIST", b"oFFs",
}  # fmt: skip
"""Chunks that change no pixel once transparency is left out. An animation has others."""
_LONGEST_SIDE = 1_000_000
"""Libpng reads no longer one."""
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits a sample that each colour type may have."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each colour type of a PNG."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced PNG: their first column and row, and the steps between them."""


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
        if zlib.crc32(content, zlib.crc32(name)) != check or name not in _KNOWN_CHUNKS:
            return False
        if name == b"PLTE" and (length % 3 or not 3 <= length <= 3 * 256):
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
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", header)
    if (
        max(width, height) > _LONGEST_SIDE
        or depth not in _DEPTHS.get(colour, ())
        or methods not in ([0, 0, 0], [0, 0, 1])
    ):
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
    """By Pillow; doubtful unless its one frame fills the screen, in colours that are all there."""
    screen, colours = struct.unpack_from("<HH", data, 6), _gif_colours(data)
    if screen[0] * screen[1] > _MOST_FOR_PILLOW or not colours:
        return None
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["GIF"]) as image:
        if [tile.extents for tile in image.tile] != [(0, 0, *screen)] or int(np.asarray(image).max()) >= colours:
            return None
        return _rgb(image)


def _gif_colours(data: bytes) -> int:
    """How many colours the one frame of a plain GIF has; 0 for any other.

    Plain is one of blocks up to the trailer, which ends the file, without transparency, which TensorFlow paints black.
    """
    place, frames = 13 + colour_table(data[10]), 0
    colours = colour_table(data[10]) // 3
    while data[place] != 0x3B:
        if data[place] == 0x2C:
            frames += 1
            table = colour_table(data[place + 9])
            colours = table // 3 or colours
            place += 10 + table
            if not 2 <= data[place] <= 8:  # bits of the smallest code
                return 0
            place += 1
        elif data[place] == 0x21:
            if data[place + 1] == _CONTROL and data[place + 3] & _IS_TRANSPARENT:
                return 0
            place += 2
        else:
            return 0
        while length := data[place]:
            place += 1 + length
        place += 1
    return colours if frames == 1 and place == len(data) - 1 else 0


_CONTROL, _IS_TRANSPARENT = 0xF9, 1
"""The extension that says how a frame is shown, and its flag."""


def _decode_webp(data: bytes) -> Array | None:
    """By Pillow, which has libwebp, as TensorFlow has."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        return _rgb(image)


def _rgb(image: Any) -> Array | None:
    """The pixels of Pillow's image, without alpha; None where one has a number that its palette has no colour for."""
    if image.mode == "P" and int(np.asarray(image).max()) >= len(image.getpalette()) // 3:
        return None
    image.info.pop("transparency", None)  # which Pillow would warn of, and which changes no colour
    return np.array(image.convert("RGB"))


def _decode_bmp(data: bytes) -> Array | None:
    """By numpy. TensorFlow looks at six fields of the header and takes what follows for pixels."""
    start, _, width, height, _, bits = struct.unpack_from("<iIiiHH", data, 10)
    channels = bits // 8
    line = -(-channels * width // 4) * 4
    if start + line * abs(height) != len(data):
        return None
    rows = np.frombuffer(data, np.uint8, line * abs(height), start).reshape(abs(height), line)
    pixels = rows[:, : channels * width].reshape(abs(height), width, channels)
    pixels = pixels[:, :, 2::-1] if channels > 1 else np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[::-1] if height > 0 else pixels)


_BY_PILLOW = {PNG, GIF, WEBP}
_DECODERS = {JPEG: _decode_jpeg, PNG: _decode_png, GIF: _decode_gif, BMP: _decode_bmp, WEBP: _decode_webp}
