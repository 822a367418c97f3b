"""EXIF orientation: which way up an image is. `serving.images.exif_graph` finds the same inside a graph.

TensorFlow's decoders ignore it. It is looked for where each format has it:

* JPEG: an APP1 segment `Exif` before the first scan (ITU-T T.81, B.1; Exif 2.32, 4.7.2).
* PNG: the chunk `eXIf`, before or after the pixels (PNG third edition, 11.3.4.5).
* WebP: the chunk `EXIF`, if the header `VP8X` announces it (RFC 9649, 2.7).

GIF and BMP have no place for it. What is found is a TIFF header and its first directory, whose tag 0x0112 is the
orientation (Exif 2.32, 4.6.4).
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from serving.images.header import JPEG, PNG, WEBP, file_format

Array = np.ndarray[Any, np.dtype[Any]]

_EXIF = b"Exif\0\0"
"""Stands before the TIFF header in a JPEG; in other formats some writers put it there by mistake."""
TEXT, SHORT, LONG = 2, 3, 4
"""Types of values."""
_ORIENTATION = 0x0112
_HAS_EXIF = 0x08
"""The flag of a WebP's `VP8X`."""


def turn_upright(image: Array, orientation: int) -> Array:
    """Undoes an orientation.

    Args:
      image: [height, width, channels].
      orientation: 1..8 as in EXIF.
    """
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def exif_orientation(data: bytes) -> int:
    """Orientation of an image, 1..8; 1 where there is none or it can't be read.

    Args:
      data: a whole file of any format.
    """
    try:
        return _orientation(exif_tiff(data))
    except (struct.error, IndexError):  # the file ends within it
        return 1


def exif_tiff(data: bytes) -> bytes:
    """The EXIF of an image from its TIFF header on; empty where there is none.

    Args:
      data: a whole file of any format.
    """
    find = {JPEG: _exif_of_jpeg, PNG: _exif_of_png, WEBP: _exif_of_webp}.get(file_format(data) or "")
    try:
        return (find(data) if find else b"").removeprefix(_EXIF)
    except (struct.error, IndexError):  # the file ends within it
        return b""


def _exif_of_jpeg(data: bytes) -> bytes:
    place = 2
    while place + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, place)
        if marker in (0xFFD9, 0xFFDA):
            break
        if marker < 0xFF01 or marker == 0xFFFF:  # a decoder passes over bytes that are no marker, and over fill bytes
            place += 1
        elif marker == 0xFF01 or 0xFFD0 <= marker <= 0xFFD8:  # without a length
            place += 2
        elif marker == 0xFFE1 and data.startswith(_EXIF, place + 4):
            return data[place + 4 : place + 2 + length]
        else:
            place += 2 + max(length, 2)
    return b""


def _exif_of_png(data: bytes) -> bytes:
    place = 8
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">i4s", data, place)
        if name == b"eXIf":
            return data[place + 8 : place + 8 + max(length, 0)]
        if name == b"IEND" or length < 0:
            break
        place += 12 + length
    return b""


def _exif_of_webp(data: bytes) -> bytes:
    data = data[: 8 + struct.unpack_from("<i", data, 4)[0]]  # what follows is none of it
    if data[12:16] != b"VP8X" or not data[20] & _HAS_EXIF:
        return b""
    place = 12
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4si", data, place)
        if name == b"EXIF":
            return data[place + 8 : place + 8 + max(length, 0)]
        if length < 0:
            break
        place += 8 + length + length % 2
    return b""


class Entry(NamedTuple):
    """A tag of a TIFF directory (TIFF 6.0, section 2)."""

    tag: int
    kind: int
    """The type of its values, such as 2 for text, 3 for short and 4 for long integers."""
    number: int
    """How many values it has."""
    place: int
    """Where the value is, or its offset if it has more than 4 bytes."""


def byte_order(tiff: bytes) -> str:
    """The byte order of a TIFF as `struct` writes it; empty if it is none."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4], "")


def entries(tiff: bytes, directory: int) -> Iterator[Entry]:
    """The tags of the directory at an offset, up to the end of the bytes; raises struct.error where it isn't within."""
    order = byte_order(tiff)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for place in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", tiff, place)
        yield Entry(tag, kind, number, place + 8)


def first_directory(tiff: bytes) -> int | None:
    """The offset of the first directory; None where there is none."""
    order = byte_order(tiff)
    if not order:
        return None
    directory: int = struct.unpack_from(f"{order}i", tiff, 4)[0]
    return directory if directory >= 8 else None


def _orientation(tiff: bytes) -> int:
    """The tag's value, if it is one number in 1..8; else 1."""
    directory = first_directory(tiff)
    if directory is None:
        return 1
    for tag, kind, number, place in entries(tiff, directory):
        if tag == _ORIENTATION and number == 1 and kind in (SHORT, LONG):
            (value,) = struct.unpack_from(f"{byte_order(tiff)}{'H' if kind == SHORT else 'I'}", tiff, place)
            if value < 2**16:
                return value if 1 <= value <= 8 else 1
    return 1
