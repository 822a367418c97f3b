"""Limits on a picture before it is decoded: a small file can decode to gigabytes.

Only the header is read, by Pillow; the pixels are TensorFlow's business.
"""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator

from serving.local_files import TooLarge

MIB = 1024 * 1024


class PictureRejected(Exception):
    """A picture's own fault: `reason` is one word for scripts, `message` plain words for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PictureLimits:
    """What a picture may cost."""

    max_bytes: int = 64 * MIB
    """Largest file; camera originals are well under it, and 32 of them in a request stay under gRPC's 2 GiB."""
    max_pixels: int = 100_000_000
    """Width × height, before resizing. Decoding takes 15 bytes a pixel, so this is 1.5 GB for a moment."""


@contextlib.contextmanager
def own_faults(max_bytes: int) -> Iterator[None]:
    """Around the read of a picture's file: what is the file's own fault becomes PictureRejected."""
    try:
        yield
    except FileNotFoundError as error:
        raise PictureRejected("missing", "there is no such file any more, or never was") from error
    except IsADirectoryError as error:
        raise PictureRejected("not_a_file", "a folder or a device, not a file") from error
    except TooLarge as error:
        size = f"{error.args[0]:,} bytes, " if error.args else ""
        raise PictureRejected(
            "too_large", f"{size}over the limit of {max_bytes:,} bytes (--max-image-bytes)"
        ) from error


def bad_name() -> PictureRejected:
    """For a name that isn't UTF-8, which no text file could hold."""
    return PictureRejected("bad_name", "the file's name is not UTF-8: rename it")


FORMATS = {"JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP"}
"""Pillow's names of the formats that TensorFlow decodes (MPO: a JPEG with more behind it)."""


def inspect_picture(data: bytes, limits: PictureLimits) -> int:
    """Number of pixels, after checking that a picture may be decoded.

    Raises:
      PictureRejected: `empty`, `too_large`, `not_an_image`, `unsupported_format` or `too_many_pixels`.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise PictureRejected("empty", "the file has no bytes")
    if len(data) > limits.max_bytes:
        raise PictureRejected(
            "too_large", f"{len(data):,} bytes, over the limit of {limits.max_bytes:,} (--max-image-bytes)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                (width, height), format_ = image.size, image.format or "unknown"
    except Image.DecompressionBombError as error:
        raise PictureRejected("too_many_pixels", str(error)) from error
    except UnidentifiedImageError as error:
        raise PictureRejected("not_an_image", "the bytes are not a picture in any known format") from error
    except Exception as error:  # Pillow's parsers raise many kinds on hostile headers
        raise PictureRejected("not_an_image", f"the header can't be read: {error}") from error
    if format_ not in FORMATS:
        raise PictureRejected(
            "unsupported_format", f"{format_} pictures can't be decoded; JPEG, PNG, GIF, BMP and WebP can"
        )
    if width * height > limits.max_pixels:
        raise PictureRejected(
            "too_many_pixels",
            f"{width} x {height} pixels, over the limit of {limits.max_pixels:,} (--max-image-pixels)",
        )
    return width * height
