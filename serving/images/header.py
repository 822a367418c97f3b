"""Reads the header of an image file: its size, and what decoding it costs.

Only bytes are read, for the five formats that TensorFlow decodes on every server, recognised as it does, by their
first bytes. The reader does not look for damage: it reports what a decoder would meet, and refuses only a file without
a size.

`serving.images.decoding_cost` reads the same formats a second time, inside a TensorFlow graph: a server may not rely on
what its clients have checked, and a graph can't call this module. A test compares the two on every file, so a change
here is a change there.

Layouts: JPEG, ITU-T T.81 annex B; PNG, W3C third edition, 5 and 11; GIF, GIF89a 17 to 27; BMP, BITMAPINFOHEADER; WebP,
RFC 9649.
"""

import dataclasses
import re
import struct

from serving.images.webp import plain_webp

JPEG, PNG, GIF, BMP, WEBP = "JPEG", "PNG", "GIF", "BMP", "WebP"
FORMATS = (JPEG, PNG, GIF, BMP, WEBP)
IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".heic", ".heif",
    ".avif", ".jp2", ".jxl", ".svg", ".ico",
)  # fmt: skip
"""File name endings by which a user takes a file for an image, whether it can be decoded or not."""
RGB_BYTES = 3
"""Bytes a pixel of a decoded image: every decoder fills uint8 RGB."""
WEBP_BYTES = 4
"""Bytes a pixel that libwebp holds beside the result for a lossless file; a lossy one takes less."""
WEBP_CODES = 6_000
"""Bytes that libwebp takes for each group of a lossless file's prefix codes [measured]."""
WEBP_CODES_BITS = 20
"""Bits of the smallest group of prefix codes in a file."""
WEBP_MOST_CODES = 2**16
WEBP_CODES_SIDE = 4
"""Pixels across and down of the smallest square that may have a group of its own."""
TEXT_BYTES = 8_000_000
"""Largest text of a PNG that libpng unpacks; it does so for each compressed chunk, and drops it."""
KEPT_TWICE = 2
"""Copies that libpng makes of a chunk which it keeps."""
GIF_BLOCK = 64
"""Bytes that giflib takes for each data sub-block of an extension, beside what is in it."""
GIF_FRAME = 160
"""Bytes that it takes for each frame, beside its pixels."""
GIF_END = b";"
"""What ends a GIF, also one that is cut after a frame."""
MOST_PIXELS = 2**29 - 1
"""That TensorFlow decodes of any file; of a JPEG so many values in all its components."""
MOST_BMP_BYTES = 2**30 - 1
"""The most bytes that TensorFlow decodes of a BMP's pixels."""
INFLATION = 1032
"""Largest ratio of deflate: so many bytes may come from one."""


class BadHeader(Exception):
    """No image of the five formats, or one whose size can't be found; the message says what is wrong."""


class Undecodable(BadHeader):
    """An image of the five formats, but of a kind that TensorFlow can't decode."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImageHeader:
    """What is known of an image before it is decoded."""

    format: str
    width: int
    height: int
    """The height in pixels, as TensorFlow decodes it; so is the width."""
    frames: int = 1
    """Frames that a decoder unpacks, although it returns only the first."""
    pixels: int
    """The pixels of all these frames together, at least width × height."""
    most_pixels: int = MOST_PIXELS
    """That TensorFlow decodes of such a file, whatever the limits are."""
    scans: int = 1
    """Times that the decoder goes over the pixels of a JPEG."""
    passes: int = 0
    """Pixels that it goes over in all of them; they come in whole blocks."""
    memory: int
    """Bytes that decoding holds at its peak, the result (3 a pixel) included, the file not."""
    text: int = 0
    """Upper bound of the bytes that compressed text in a PNG, or remarks in a GIF, take in the decoder."""
    end: int
    """Bytes that hold all that is decoded: for a GIF whose further frames don't matter, the end of the first frame."""


def file_format(data: bytes) -> str | None:
    """The format that TensorFlow's decoder takes a file for, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if data.startswith(b"GIF8"):
        return GIF
    if data.startswith(b"BM"):
        return BMP
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    return None


def read_header(data: bytes) -> ImageHeader:
    """Reads the header of a whole file, in time linear in its size.

    Raises:
      BadHeader: see there.
    """
    kind = file_format(data)
    if kind is None:
        raise BadHeader("the bytes are not an image in any known format")
    try:
        header = _READERS[kind](data)
    except (struct.error, IndexError) as error:
        raise BadHeader(f"the {kind} header is cut off") from error
    if header.width < 1 or header.height < 1:
        raise BadHeader(f"the {kind} header says {header.width} x {header.height} pixels")
    return header


def needed_bytes(data: bytes, header: ImageHeader | None = None) -> bytes:
    """A file without what a decoder would unpack in vain, or can't: further frames, and a WebP's alpha.

    Raises:
      BadHeader: see `read_header`.
    """
    header = header or read_header(data)
    if header.format == WEBP:
        return plain_webp(data)
    end = header.end
    return data if end == len(data) else data[:end] + GIF_END


MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker that ends entropy-coded data or begins a segment; stuffed bytes, fill bytes and restarts are neither."""
_SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_UNDECODABLE = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
"""Frames that are lossless or differential; Huffman and arithmetic coding, sequential and progressive, are decoded."""
_SAMPLE_BITS = 8
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_BLOCK = 64
"""Pixels, or coefficients of two bytes, which are kept for the whole image where it comes in several scans."""


def _read_jpeg(data: bytes) -> ImageHeader:
    frame: tuple[int, int, int, list[int], bool] | None = None
    scans = 0
    several = True
    place = 2
    while (found := MARKER.search(data, place)) and (marker := data[found.end() - 1]) != EOI:
        place = found.end()
        if marker == _SOI:
            continue
        if place + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, place)
        if marker in _FRAMES and frame is None:
            bits, height, width, count = struct.unpack_from(">BHHB", data, place + 2)
            if bits != _SAMPLE_BITS or marker in _UNDECODABLE:
                kind = f"with {bits} bits a sample" if bits != _SAMPLE_BITS else "without loss, or in a hierarchy,"
                raise Undecodable(f"a JPEG {kind} can't be decoded; save it as an ordinary one, with 8 bits")
            sampling = [data[place + 9 + 3 * component] for component in range(count)]
            frame = width, height, count, sampling, marker in PROGRESSIVE
        if marker == SOS:
            if frame is None:
                break
            scans += 1
            if scans == 1 and not frame[4] and data[place + 2] >= frame[2]:
                several = False
                break  # all components in one sequential scan: the decoder reads no further
        place += max(length, 2)
    if frame is None:
        raise BadHeader("the JPEG has no frame header")
    width, height, count, sampling, _ = frame
    pixels = width * height
    area, blocks = _blocks(width, height, sampling)
    return ImageHeader(
        format=JPEG,
        width=width,
        height=height,
        pixels=pixels,
        scans=max(scans, 1),
        passes=scans * area if several else pixels,
        most_pixels=MOST_PIXELS // max(count, 1),
        memory=RGB_BYTES * pixels + (2 * _BLOCK * blocks if several else 0),
        end=len(data),
    )


def _blocks(width: int, height: int, sampling: list[int]) -> tuple[int, int]:
    """A JPEG's pixels and blocks: components are padded to whole blocks of the coarsest one (T.81, A.2)."""
    across = max((factors >> 4 for factors in sampling), default=1) or 1
    down = max((factors & 15 for factors in sampling), default=1) or 1
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return _BLOCK * across * down * units, units * sum((factors >> 4) * (factors & 15) for factors in sampling)


def _read_png(data: bytes) -> ImageHeader:
    size = None
    text = kept = 0
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IHDR" and size is None:
            size = struct.unpack_from(">II", data, place + 8)
        elif kind in (b"zTXt", b"iTXt"):
            text += min(TEXT_BYTES, INFLATION * length)
        elif kind == b"IEND":
            break
        elif kind != b"IDAT":
            kept += min(length, len(data) - place)
        place += 12 + length
    if size is None:
        raise BadHeader("the PNG has no header chunk")
    width, height = size
    pixels = width * height
    return ImageHeader(
        format=PNG,
        width=width,
        height=height,
        pixels=pixels,
        memory=RGB_BYTES * pixels + text + KEPT_TWICE * kept,
        text=text,
        end=len(data),
    )


def _read_gif(data: bytes) -> ImageHeader:
    """The size is that of the largest frame, and each frame is unpacked: one byte a pixel, before the first is painted.

    Where no frame is larger than the first, all others can be left out without a change of the result.
    """
    place = 13 + colour_table(data[10])
    first: tuple[int, int, int, int] | None = None
    frames = width = height = unpacked = remarks = 0
    while place < len(data):
        kind = data[place]
        if kind == 0x2C and place + 10 <= len(data):
            across, down, flags = struct.unpack_from("<HHB", data, place + 5)
            frames += 1
            width, height, unpacked = max(width, across), max(height, down), unpacked + across * down
            place, _ = _after_blocks(data, place + 11 + colour_table(flags))
            first = first or (across, down, place, remarks)
        elif kind == 0x21:
            begin = place + 2
            place, blocks = _after_blocks(data, begin)
            remarks += GIF_BLOCK * blocks + place - begin
        else:
            break
    if first is None:
        raise BadHeader("the GIF has no frame")
    end = len(data)
    if first[:2] == (width, height):
        frames, unpacked, end, remarks = 1, width * height, min(first[2], end), first[3]
    return ImageHeader(
        format=GIF,
        width=width,
        height=height,
        frames=frames,
        pixels=max(unpacked, width * height),
        memory=unpacked + RGB_BYTES * width * height + GIF_FRAME * frames + remarks,
        text=remarks,
        end=end,
    )


def colour_table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, place: int) -> tuple[int, int]:
    """Where a chain of data sub-blocks ends, and how many it has; each begins with its length, the last is empty."""
    size, blocks = len(data), 0
    while place < size and (length := data[place]):
        place += length + 1
        blocks += 1
    return place + 1, blocks


_BMP_BYTES = (1, 3, 4)
"""A pixel of grey, colour, or colour with alpha."""
BMP_HEADER = 40
"""Bytes of the smallest one whose fields are where TensorFlow reads them."""
BMP_PLAIN = (0, 3, 6)
"""Neither run lengths nor a JPEG or PNG: TensorFlow takes any bytes for pixels."""


def is_grey(palette: bytes) -> bool:
    """Is each number the grey of its value? TensorFlow takes a pixel's number for that, and looks at no palette."""
    entries = palette[: 4 * 256]
    return all(entries[4 * number : 4 * number + 3] == bytes([number] * 3) for number in range(len(entries) // 4))


def _read_bmp(data: bytes) -> ImageHeader:
    end, size, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if bits // 8 not in _BMP_BYTES:
        raise Undecodable(f"a BMP of {bits} bits a pixel can't be decoded; save it with 24")
    if size < BMP_HEADER or compression not in BMP_PLAIN:
        raise Undecodable("a BMP of OS/2, or with compressed pixels, can't be decoded; save it as an ordinary one")
    if bits // 8 == 1 and not is_grey(data[14 + size : end]):
        raise Undecodable("a BMP with a palette can't be decoded; save it with 24 bits a pixel")
    pixels = width * abs(height)
    return ImageHeader(
        format=BMP, width=width, height=abs(height), pixels=pixels, most_pixels=MOST_BMP_BYTES // (bits // 8),
        memory=RGB_BYTES * pixels, end=len(data),
    )  # fmt: skip


def _read_webp(data: bytes) -> ImageHeader:
    """The size is that of the first frame; no other is decoded."""
    end, data = len(data), plain_webp(data)
    kind = data[12:16]
    if kind == b"VP8X":
        low = struct.unpack_from("<HBHB", data, 24)
        width, height = low[0] + (low[1] << 16) + 1, low[2] + (low[3] << 16) + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise BadHeader("the WebP file has no image chunk")
    pixels = width * height
    return ImageHeader(
        format=WEBP,
        width=width,
        height=height,
        pixels=pixels,
        memory=(RGB_BYTES + WEBP_BYTES) * pixels + (_prefix_codes(width, height, len(data)) if b"VP8L" in data else 0),
        end=end,
    )


def _prefix_codes(width: int, height: int, size: int) -> int:
    """Most bytes that the prefix codes of a lossless WebP take: how many it has is known only while it is decoded."""
    squares = -(-width // WEBP_CODES_SIDE) * -(-height // WEBP_CODES_SIDE)
    return WEBP_CODES * min(WEBP_MOST_CODES, squares, 8 * size // WEBP_CODES_BITS)


_READERS = {JPEG: _read_jpeg, PNG: _read_png, GIF: _read_gif, BMP: _read_bmp, WEBP: _read_webp}
