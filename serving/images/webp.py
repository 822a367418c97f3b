"""Makes of any WebP one that TensorFlow decodes to three channels: of an animation its first frame, and without alpha.

TensorFlow refuses a file with an alpha channel unless it is asked for four, and asked for what an animation has, it
writes beside its memory [TensorFlow 2.21]. So neither reaches it. The colours stay as they are, also where the file is
transparent, as TensorFlow has it for PNG. Layout: RFC 9649, 2.7; `serving.images.webp_graph` does the same in a graph.
"""

import struct

CANVAS, LOSSY, LOSSLESS, ALPHA, FRAME = b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANMF"
"""Names of chunks."""
RIFF_HEADER, CHUNK_HEADER, FRAME_HEADER = 12, 8, 16
CHUNKS = 30
"""Where the chunks behind the canvas begin."""
FLAGS = 20
"""Where the canvas says what the file has."""
HAS_ALPHA, IS_ANIMATED = 0x10, 0x02
LOSSLESS_ALPHA, LOSSLESS_HAS_ALPHA = 12, 0x10
"""Where a lossless chunk says that it has alpha: only a hint, decoding doesn't depend on it (RFC 9649, 3.4)."""


def plain_webp(data: bytes) -> bytes:
    """The same pixels without alpha: of an animation those of its first frame, without the canvas around it.

    The file is returned as it is if it is plain already; no bytes, if it has no pixels.
    """
    kind = data[RIFF_HEADER : RIFF_HEADER + 4]
    if kind == LOSSLESS:
        return _opaque(data, RIFF_HEADER)
    if kind != CANVAS or len(data) <= FLAGS:
        return data
    flags = data[FLAGS]
    if flags & IS_ANIMATED:
        frame = _find(data, CHUNKS, len(data), FRAME)
        end = frame + CHUNK_HEADER + _length(data, frame)
        image = _find(data, frame + CHUNK_HEADER + FRAME_HEADER, end, LOSSY, LOSSLESS)
        if image == len(data):
            return b""
        chunk = data[image : image + CHUNK_HEADER + _padded(_length(data, image))]
        return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + _opaque(chunk, 0)
    first = _find(data, CHUNKS, len(data), ALPHA, LOSSY, LOSSLESS)
    image = _find(data, first, len(data), LOSSY, LOSSLESS)
    pixels = _opaque(data[image:], 0)
    if first == image and not flags & HAS_ALPHA and pixels == data[image:]:
        return data
    size = struct.unpack_from("<I", data, 4)[0] - (image - CHUNKS)
    canvas = data[RIFF_HEADER:FLAGS] + bytes([flags & ~HAS_ALPHA]) + data[FLAGS + 1 : CHUNKS]
    return b"RIFF" + struct.pack("<I", size % 2**32) + b"WEBP" + canvas + pixels


def _opaque(data: bytes, chunk: int) -> bytes:
    """The bytes with a lossless chunk, if that is one, that says it has no alpha."""
    place = chunk + LOSSLESS_ALPHA
    if data[chunk : chunk + 4] != LOSSLESS or len(data) <= place or not data[place] & LOSSLESS_HAS_ALPHA:
        return data
    return data[:place] + bytes([data[place] & ~LOSSLESS_HAS_ALPHA]) + data[place + 1 :]


def _find(data: bytes, start: int, end: int, *names: bytes) -> int:
    """Where the first chunk of one of these names begins; the end of the file if there is none."""
    place = start
    while place < min(end, len(data)):
        if data[place : place + 4] in names:
            return place
        place += CHUNK_HEADER + _padded(_length(data, place))
    return len(data)


def _length(data: bytes, chunk: int) -> int:
    """Bytes in a chunk, as it says, but no more than there are in the file."""
    return min(int.from_bytes(data[chunk + 4 : chunk + 8], "little"), len(data))


def _padded(length: int) -> int:
    return length + length % 2
