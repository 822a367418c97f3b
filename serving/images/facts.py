"""Facts of an image besides what is in it: read from the bytes of its file, for columns of the results.

`taken` is EXIF's DateTimeOriginal (Exif 2.32, 4.6.5, tags 0x9003 and 0x9011): the camera's own clock.
"""

import datetime
import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from serving.images.exif import LONG, TEXT, byte_order, entries, exif_tiff, first_directory
from serving.images.header import read_header

Fact = Literal["width", "height", "bytes", "format", "taken", "sha256"]
FACTS: tuple[Fact, ...] = get_args(Fact)
NUMBERS: frozenset[Fact] = frozenset({"width", "height", "bytes"})
"""Facts that are integers; the others are text."""

_EXIF_DIRECTORY, _TAKEN, _OFFSET = 0x8769, 0x9003, 0x9011
_ZONE = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d")
_INLINE, _LONGEST = 4, 64
"""Bytes of a value that stands in its entry, and of the longest text that may be a time."""


def facts_of(data: bytes, names: Sequence[Fact]) -> list[str | int | None]:
    """Facts of an image whose header is sound.

    Args:
      data: the whole file.
      names: which.

    Returns:
      A value for each name: `width` and `height` in pixels as they are stored, before any turn by EXIF; the number of
      `bytes`; the `format`, such as JPEG; `taken` as ISO 8601, with the offset from UTC where the camera says it, or
      None; and the `sha256` of the file as hexadecimal digits.
    """
    header = read_header(data) if {"width", "height", "format"} & {*names} else None
    found: list[str | int | None] = []
    for name in names:
        match name:
            case "bytes":
                found.append(len(data))
            case "sha256":
                found.append(hashlib.sha256(data).hexdigest())
            case "taken":
                found.append(taken(data))
            case _:
                found.append(getattr(header, name))
    return found


def taken(data: bytes) -> str | None:
    """When an image was taken, as ISO 8601; None where its EXIF doesn't say so, or is damaged."""
    tiff = exif_tiff(data)
    try:
        texts = dict(_texts(tiff))
        time = datetime.datetime.strptime(texts.get(_TAKEN, ""), "%Y:%m:%d %H:%M:%S")
    except (struct.error, ValueError):
        return None
    zone = texts.get(_OFFSET, "")
    return time.isoformat() + (zone if _ZONE.fullmatch(zone) else "")


def _texts(tiff: bytes) -> Iterator[tuple[int, str]]:
    """The texts of EXIF's own directory, by tag."""
    first = first_directory(tiff)
    if first is None:
        return
    order = byte_order(tiff)

    def number(place: int) -> int:
        value: int = struct.unpack_from(f"{order}I", tiff, place)[0]
        return value

    for pointer in entries(tiff, first):
        if pointer.tag == _EXIF_DIRECTORY and pointer.kind == LONG:
            for entry in entries(tiff, number(pointer.place)):
                if entry.kind == TEXT and entry.tag in (_TAKEN, _OFFSET):
                    start = number(entry.place) if entry.number > _INLINE else entry.place
                    text = tiff[start : start + min(entry.number, _LONGEST)]
                    yield entry.tag, text.decode("ascii", "replace").strip("\0 ")
