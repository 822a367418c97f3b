"""Turns what a caller may give as an image into the bytes of an image file."""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from serving.errors import UsageError
from serving.images.limits import ImageLimits, ImageRejected, bad_name, own_faults
from serving.text.utf8_files import check_file_names, is_utf8

Pixels = np.ndarray[Any, np.dtype[Any]]
Image = str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels
"""A path (on a disk, in a bucket or on the web), the bytes of an image file, or decoded pixels: an array
[height, width, 3], RGB, uint8 in 0..255 or floats in 0..1."""

_FILE = (bytes, bytearray, memoryview)
Read = Callable[[str, int], bytes]
"""Reads a file of at most so many bytes; raises as `serving.storage.base.Storage.read`."""


def is_one_image(images: object) -> bool:
    """Is it a single image, and no collection of them? An array [n, height, width, 3] is one."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, (str, os.PathLike, *_FILE))


def is_path(image: Image) -> bool:
    """Is it the path of a file, which has to be read?"""
    return isinstance(image, (str, os.PathLike))


def named_images(images: Iterable[Image]) -> Iterator[tuple[str | int, Image]]:
    """Each image of a collection, and what its result calls it.

    Raises:
      UsageError: at once, it is not a collection; or later, one of its items is not an image.
    """
    if hasattr(images, "read") or not hasattr(images, "__iter__"):  # a file gives lines, which are not images
        raise UsageError(
            f"give a path, the bytes of a file, an array of pixels, or a list of these, not {type(images).__name__}"
        )
    return ((name_of(image, place), image) for place, image in enumerate(images))


def name_of(image: object, position: int) -> str | int:
    """What a result calls an image: its path, or its position.

    Raises:
      UsageError: it is not an image, but something of another type.
    """
    if isinstance(image, (str, os.PathLike)):
        return os.fsdecode(image)
    if isinstance(image, (np.ndarray, *_FILE)):
        return position
    raise UsageError(
        f"image {position}: give a path, the bytes of a file, or an array of pixels, not {type(image).__name__}"
    )


def file_of(image: Image, limits: ImageLimits, read: Read) -> bytes:
    """The bytes of an image's file; of pixels those of a PNG, which keeps each of them as it is.

    Floats are rounded to the 256 values that a file can hold. So there is one way from a file to what a model sees,
    with or without TensorFlow, and pixels can't go another.

    Raises:
      ImageRejected: `missing`, `not_a_file`, `too_large`, `unreadable`, `bad_name`; for an array `not_an_image` where
        shape, data type or range are others, and `too_many_pixels` or `too_large`, before it is encoded as a whole.
      UsageError: a path is not ASCII, and this Python takes names for another encoding than UTF-8.
    """
    if isinstance(image, _FILE):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _png_of(image, limits)
    path = os.fsdecode(image)
    if not path.isascii():
        check_file_names()
    if not is_utf8(path):
        raise bad_name()
    with own_faults(limits.max_image_bytes):
        return read(path, limits.max_image_bytes)


class _SmallFile(io.BytesIO):
    """A file in memory that refuses to grow over a limit, as encoding 300 MB of pixels to the end takes seconds."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._most:
            raise ImageRejected(
                "too_large", f"as a PNG file it is over the limit of {self._most:,} bytes (`max_image_bytes`)"
            )
        return super().write(data)


def _png_of(pixels: Pixels, limits: ImageLimits) -> bytes:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise _not_an_image(f"the array is {_shown(pixels.shape)}, expected [height, width, 3], RGB")
    height, width = pixels.shape[:2]
    if height * width > limits.max_image_pixels:
        raise ImageRejected(
            "too_many_pixels",
            f"{width} x {height} pixels, over the limit of {limits.max_image_pixels:,} (`max_image_pixels`)",
        )
    if pixels.dtype.kind == "f":
        least, most = pixels.min(), pixels.max()
        if np.isnan(least):
            raise _not_an_image(f"floats must be from 0 to 1, and {np.isnan(pixels).sum():,} of them are NaN")
        if least < 0 or most > 1:  # all their digits are shown, as it may be the last one
            raise _not_an_image(f"floats must be from 0 to 1, and are from {least!s} to {most!s}")
        pixels = np.rint(pixels * 255)
    elif pixels.dtype != np.uint8:
        raise _not_an_image(f"the array is {pixels.dtype}, expected uint8 (0..255) or floats (0..1)")
    from PIL import Image as PillowImage

    file = _SmallFile(limits.max_image_bytes)
    PillowImage.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _not_an_image(message: str) -> ImageRejected:
    return ImageRejected("not_an_image", message)


def _shown(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
