"""Limits on an image before it is decoded: a small file can decode to gigabytes, or for minutes."""

import contextlib
from collections.abc import Iterator

from serving.console.option_fields import Options, option, options_class
from serving.images.header import MOST_PIXELS, BadHeader, ImageHeader, Undecodable, file_format, read_header
from serving.images.unsupported_files import what_it_is
from serving.storage.local_file import TooLarge

MIB = 1024 * 1024


class ImageRejected(Exception):
    """An image's own fault: `reason` is one word for scripts, `message` plain words for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


@options_class
class ImageLimits(Options, group="Limits"):
    """What an image may cost."""

    # The default is well over camera originals, and 32 such files in a request stay under gRPC's 2 GiB.
    max_image_bytes: int = option("Larger files are not read.", default=64 * MIB, least=1, most=2**31 - 1)
    # Width × height, before resizing, of each frame that is unpacked.
    max_image_pixels: int = option("Larger images are not decoded.", default=100_000_000, least=1, most=MOST_PIXELS)

    @property
    def max_passes(self) -> int:
        """Scans × pixels of a JPEG: ordinary ones have ten scans, so the largest may have three times as many."""
        return 32 * self.max_image_pixels

    @property
    def max_text(self) -> int:
        """Bytes of text in a PNG or GIF, which are unpacked and dropped: 0.6 s of work by default."""
        return max(self.max_image_pixels, 100_000_000)

    @property
    def decoding_memory(self) -> int:
        """Bytes that an ordinary image of the largest size takes: RGB and a progressive JPEG's coefficients."""
        return 9 * self.max_image_pixels


MISSING = "missing"
"""The reason where there is no such file."""


@contextlib.contextmanager
def own_faults(max_bytes: int, room: int | None = None) -> Iterator[None]:
    """Around the read of an image's file: what is the file's own fault becomes ImageRejected.

    Args:
      max_bytes: that an image may have.
      room: bytes that the reader had room for, if it may be less; TooLarge passes where only that was too little.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ImageRejected(MISSING, "there is no such file") from error
    except IsADirectoryError as error:
        raise ImageRejected("not_a_file", "a folder or a device, not a file") from error
    except TooLarge as error:
        size: int | None = error.args[0] if error.args else None
        if room is not None and room < max_bytes and (size is None or size <= max_bytes):
            raise
        found = "" if size is None else f"{size:,} bytes, "
        raise ImageRejected("too_large", f"{found}over the limit of {max_bytes:,} bytes (`max_image_bytes`)") from error


def bad_name() -> ImageRejected:
    """The rejection of a name that isn't UTF-8, which no text file could hold."""
    return ImageRejected("bad_name", "the file's name is not UTF-8: rename it")


def inspect_image(data: bytes, limits: ImageLimits) -> ImageHeader:
    """The header of an image, after checking that it may be decoded.

    Raises:
      ImageRejected: `empty`, `too_large`, `not_an_image`, `unsupported_format`, `too_many_pixels` or `too_costly`.
    """
    if not data:
        raise ImageRejected("empty", "the file has no bytes")
    if len(data) > limits.max_image_bytes:
        raise ImageRejected(
            "too_large", f"{len(data):,} bytes, over the limit of {limits.max_image_bytes:,} (`max_image_bytes`)"
        )
    if file_format(data) is None:
        raise ImageRejected(*what_it_is(data))
    try:
        header = read_header(data)
    except Undecodable as error:
        raise ImageRejected("unsupported_format", str(error)) from error
    except BadHeader as error:
        raise ImageRejected("not_an_image", str(error)) from error
    _check(header, limits)
    return header


def _check(header: ImageHeader, limits: ImageLimits) -> None:
    size = f"{header.width} x {header.height} pixels"
    if header.frames > 1:
        size = f"{header.frames:,} frames of up to {size}, {header.pixels:,} in all"
    if header.pixels > limits.max_image_pixels:
        raise ImageRejected(
            "too_many_pixels", f"{size}, over the limit of {limits.max_image_pixels:,} (`max_image_pixels`)"
        )
    if header.pixels > header.most_pixels:
        raise ImageRejected(
            "too_many_pixels", f"{size}, over the {header.most_pixels:,} that TensorFlow decodes of such a "
            f"{header.format}; save it smaller"
        )  # fmt: skip
    if header.passes > limits.max_passes:
        raise ImageRejected(
            "too_costly",
            f"{size} in {header.scans:,} scans: decoding goes over {header.passes:,} pixels, over the "
            f"limit of {limits.max_passes:,} (32 times `max_image_pixels`); save it with fewer scans",
        )
    if header.text > limits.max_text:
        raise ImageRejected(
            "too_costly",
            f"text beside the pixels that may take {header.text:,} bytes, over the limit of {limits.max_text:,} "
            "(`max_image_pixels`); save it without the text",
        )
