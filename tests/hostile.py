"""Small files whose decoding costs much, or that decoders complain of."""

import io
import struct
import zlib

from PIL import Image


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A grey progressive JPEG: one scan of DC coefficients, then others that say of all AC ones that they are 0."""
    blocks = -(-width // 8) * -(-height // 8)
    dc = _entropy("0" * blocks)
    runs = []
    while blocks:
        run = min(blocks, 2**15 - 1)
        bits = run.bit_length() - 1
        runs.append((bits, run - 2**bits))
        blocks -= run
    # One symbol in each table: EOBn of the needed n. The runs are all of n = 14 but the last.
    symbols = sorted({bits << 4 for bits, _ in runs}, reverse=True)
    codes = {symbol: "1" * index + "0" for index, symbol in enumerate(symbols)}
    ac = _entropy("".join(codes[n << 4] + (f"{rest:0{n}b}" if n else "") for n, rest in runs))
    one_scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0) + ac
    return b"".join([
        b"\xff\xd8",
        b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64),
        b"\xff\xc2" + struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0),
        b"\xff\xc4" + struct.pack(">HB", 20, 0x00) + bytes([1] + [0] * 15) + b"\0",
        b"\xff\xc4" + struct.pack(">HB", 19 + len(symbols), 0x10)
        + bytes([1] * len(symbols) + [0] * (16 - len(symbols))) + bytes(symbols),
        b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 0, 0) + dc,
        one_scan * (scans - 1),
        b"\xff\xd9",
    ])  # fmt: skip


def _entropy(bits: str) -> bytes:
    padded = bits + "1" * (-len(bits) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8, "big").replace(b"\xff", b"\xff\0")


def gif_of_frames(*frames: tuple[int, int, int]) -> bytes:
    """An animation of red frames: (width, height, how many of them)."""
    return _gif_screen() + b"".join(_gif_frame(width, height) * count for width, height, count in frames) + b";"


def _gif_screen() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + b"\xff\0\0\0\0\xff"


def _gif_frame(width: int, height: int) -> bytes:
    image = Image.new("P", (width, height), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    stream = io.BytesIO()
    image.save(stream, "GIF")
    data = stream.getvalue()
    start = data.index(b"\x2c" + struct.pack("<HHHH", 0, 0, width, height))
    assert not data[start + 9] & 0x80  # no colour table of its own
    return data[start:-1]


def gif_with_remarks(count: int) -> bytes:
    """An image behind a remark of so many pieces of one byte."""
    return _gif_screen() + b"\x21\xfe" + b"\1A" * count + b"\0" + _gif_frame(9, 9) + b";"


def webp_of_codes(side: int, groups: int) -> bytes:
    """A black square whose every 4 × 4 pixels may have another group of prefix codes (RFC 9649, 3.7)."""
    across = -(-side // 4)
    # Lengths of a code by a code of their own: that of 8 bits for each of 256 symbols, and none for the others.
    lengths = "0" + f"{12 - 4:04b}"[::-1] + "000" * 2 + "100" + "000" * 8 + "100" + "0" + "1" * 256
    none = "1000"  # one symbol, 0, which takes no bits
    bits = [f"{side - 1:014b}"[::-1] * 2, "0000", "0", "0", "1", "000"]  # no alpha, version, transform, cache; groups
    bits += ["0", lengths + "0" * 24, lengths, none * 3]  # green has 24 symbols more, red 256
    bits += [f"{group & 255:08b}{group >> 8:08b}" for group in (square % groups for square in range(across * across))]
    bits += [none * 5 * groups, "0" * 64]
    text = "".join(bits)
    text += "0" * (-len(text) % 16)
    data = b"\x2f" + int(text[::-1], 2).to_bytes(len(text) // 8, "little")
    chunk = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk


def png_with(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (20, 10), before: bool = False) -> bytes:
    """A black PNG with more chunks between its header and its pixels, or before the header."""
    width, height = size
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    more = b"".join(_chunk(kind, data) for kind, data in chunks)
    pixels = zlib.compress(b"".join(b"\0" + bytes(3 * width) for _ in range(height)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + (more + header if before else header + more)
        + _chunk(b"IDAT", pixels)
        + _chunk(b"IEND", b"")
    )


def compressed_text(size: int) -> tuple[bytes, bytes]:
    """A chunk of text that unpacks to so many bytes."""
    return b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * size, 9)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def noisy_jpeg(jpeg: bytes) -> bytes:
    """A JPEG with stray bytes between two segments, which libjpeg decodes with a message."""
    assert jpeg.startswith(b"\xff\xd8\xff\xe0")
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:end] + b"stray" + jpeg[end:]
