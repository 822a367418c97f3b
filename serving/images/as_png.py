"""Makes of a WebP a PNG, for a server that decodes no WebP: TensorFlow's decoder has it since 2.20."""

import io
import threading

from serving.images.exif import exif_orientation
from serving.images.header import WEBP, file_format, needed_bytes
from serving.images.limits import ImageLimits, ImageRejected, inspect_image

_MOST_MEMORY = 400_000_000
"""Bytes that decoding may take: enough for 16 million pixels."""
_TURN = threading.Lock()  # several at once would take several times the memory


def is_webp(data: object) -> bool:
    """Is this the file of a WebP?"""
    return isinstance(data, bytes) and file_format(data) == WEBP


def as_png(data: bytes) -> bytes | None:
    """A PNG of the same pixels and orientation; None for a WebP that can't be decoded here.

    Args:
      data: the file of a WebP.
    """
    from PIL import ExifTags, Image

    from serving.images.decoder import decode, memory

    try:
        header = inspect_image(data, ImageLimits())
    except ImageRejected:
        return None
    if memory(header) > _MOST_MEMORY:
        return None
    with _TURN:
        pixels = decode(needed_bytes(data, header), header)
        if pixels is None:
            return None
        exif, png = Image.Exif(), io.BytesIO()
        exif[ExifTags.Base.Orientation] = exif_orientation(data)
        Image.fromarray(pixels).save(png, "PNG", exif=exif, compress_level=1)
    return png.getvalue()
