"""Decoding without TensorFlow: TensorFlow's own pixels, or no opinion; never other ones."""

import functools
import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from serving.images.decoder import decode
from serving.images.header import needed_bytes
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from tests.faults.fuzz import damage, draw_files

Pixels = np.ndarray[Any, np.dtype[Any]]
LIMITS = ImageLimits(max_image_pixels=1_000_000)


def both(data: bytes) -> tuple[Pixels | None, Pixels | None]:
    """The pixels of a file that is within the limits, by us and by TensorFlow; None where there is no opinion."""
    header = inspect_image(data, LIMITS)
    file = needed_bytes(data, header)
    try:
        expected = tf.io.decode_image(file, channels=3, expand_animations=False).numpy()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        expected = None
    return decode(file, header), expected


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


@functools.cache
def drawn() -> Image.Image:
    colours = np.random.default_rng(3).integers(0, 255, (5, 6, 3)).astype(np.uint8)
    return Image.fromarray(colours).resize((61, 47), Image.Resampling.BICUBIC)


def png16(mode: str) -> bytes:
    """A PNG of 16 bits a sample, which Pillow can't write in colour: `L`, `RGB` or `RGBA`."""
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = np.random.default_rng(4).integers(0, 2**16, (17, 13, channels), dtype=np.uint16)
    return bytes(tf.io.encode_png(pixels).numpy())


def whole_files() -> dict[str, bytes]:
    image, grey = drawn(), drawn().convert("L")
    return {
        **{f"png {mode}": saved(image.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")},
        **{f"png 16 bit {mode}": png16(mode) for mode in ("L", "RGB", "RGBA")},
        **{f"png palette of {bits}": saved(image.convert("P", colors=2**bits), "PNG", bits=bits) for bits in (1, 2, 4)},
        "png transparent grey": saved(grey, "PNG", transparency=3),
        "png transparent palette": saved(image.convert("P"), "PNG", transparency=3),
        "png transparent": saved(image, "PNG", transparency=(1, 2, 3)),
        **{f"jpeg subsampling {one}": saved(image, "JPEG", subsampling=one, quality=60) for one in (0, 1, 2)},
        "jpeg progressive": saved(image, "JPEG", progressive=True),
        "jpeg restarts": saved(image, "JPEG", restart_marker_blocks=2),
        "jpeg rgb": saved(image, "JPEG", keep_rgb=True),
        "jpeg grey": saved(grey, "JPEG"),
        "jpeg cmyk": saved(image.convert("CMYK"), "JPEG"),
        **{f"bmp {mode}": saved(image.convert(mode), "BMP") for mode in ("RGB", "RGBA", "L")},
        "gif": saved(image.convert("P"), "GIF"),
        "gif interlaced": saved(image.convert("P"), "GIF", interlace=1, transparency=2),
        "gif animated": saved(image.convert("P"), "GIF", save_all=True, append_images=[image.rotate(90).convert("P")]),
        "webp": saved(image, "WEBP"),
        "webp lossless": saved(image, "WEBP", lossless=True),
        "webp alpha": saved(image.convert("RGBA"), "WEBP", lossless=True),
        "webp animated": saved(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
    }


@pytest.mark.parametrize("kind", whole_files())
def test_a_whole_file_has_tensorflows_pixels(kind: str) -> None:
    ours, expected = both(whole_files()[kind])
    assert expected is not None
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("seed", range(4))
def test_of_damaged_files_there_is_no_other_opinion(seed: int) -> None:
    chance = random.Random(seed)
    files = [*draw_files(), *whole_files().values()]
    agreed = doubtful = 0
    for number in range(1000):
        data = damage(files, chance)
        try:
            ours, expected = both(data)
        except ImageRejected:
            continue
        if ours is None:
            doubtful += 1
            continue
        assert expected is not None, f"file {number}: TensorFlow refuses what we decode"
        np.testing.assert_array_equal(ours, expected, err_msg=f"file {number}")
        agreed += 1
    assert agreed > 50
    assert doubtful > 50


def test_interlaced_rows_are_counted() -> None:
    """Adam7, which neither library writes: the rows of seven passes, each with its filter."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))

    pixels = np.random.default_rng(6).integers(0, 256, (11, 6, 3), dtype=np.uint8)
    rows = b""
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        for row in pixels[top::down, left::across]:
            rows += b"\0" + row.tobytes() if row.size else b""
    header = struct.pack(">IIBBBBB", 6, 11, 8, 2, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    ours, expected = both(data)
    np.testing.assert_array_equal(expected, pixels)
    np.testing.assert_array_equal(ours, expected)


def test_a_large_image_is_doubtful_before_anything_is_unpacked() -> None:
    data = saved(Image.new("1", (10_000, 9_000)), "PNG")
    assert decode(data, inspect_image(data, ImageLimits())) is None
