"""Decoding without TensorFlow: TensorFlow's own pixels, or no opinion; never other ones."""

import functools
import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
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
ROOT = Path(__file__).resolve().parents[3]
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
        "gif interlaced": saved(image.convert("P"), "GIF", interlace=1),
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


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))


def png(header: bytes, *chunks: bytes, rows: bytes) -> bytes:
    return b"".join([
        b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""),
    ])  # fmt: skip


def without_last_scan(jpeg: bytes) -> bytes:
    return jpeg[: jpeg.rindex(b"\xff\xda")] + b"\xff\xd9"


def adobe_cut_short(jpeg: bytes) -> bytes:
    place = jpeg.index(b"\xff\xee\0\x0eAdobe")
    return jpeg[:place] + b"\xff\xee\0\x08Adobe\0" + jpeg[place + 16 :]


def doubtful_files() -> dict[str, bytes]:
    """Files that decoders understand in different ways, or some of them not at all."""
    image = drawn()
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4)
    gif = saved(grey, "GIF")
    frame = gif.index(b"\x2c\0\0\0\0")
    of_two = gif[:10] + bytes([gif[10] & ~7]) + gif[11:13] + bytes(6) + gif[frame:]  # two colours, and pixels up to 3
    transparent = gif[:frame] + b"\x21\xf9\x04\x01\0\0\x02\0" + gif[frame:]
    rows = b"\0" + bytes(range(30))
    header = struct.pack(">IIBBBBB", 10, 1, 8, 2, 0, 0, 0)
    return {
        "gif with transparency": transparent,
        "gif of colours that are not there": of_two,
        "png with an unknown chunk": png(header, chunk(b"a123", b""), rows=rows),
        "png of a compression that is not there": png(header[:10] + b"\1" + header[11:], rows=rows),
        "png with half a colour": png(header, chunk(b"PLTE", bytes(31)), rows=rows),
        "png too wide": png(struct.pack(">IIBBBBB", 1_000_001, 1, 1, 0, 0, 0, 0), rows=bytes(1 + 125_001)),
        "jpeg without its last scan": without_last_scan(saved(image, "JPEG", progressive=True, quality=30)),
        "jpeg with half of Adobe's segment": adobe_cut_short(saved(image.convert("CMYK"), "JPEG")),
    }


@pytest.mark.parametrize("kind", doubtful_files())
def test_where_decoders_have_other_minds_there_is_no_opinion(kind: str) -> None:
    data = doubtful_files()[kind]
    limits = ImageLimits(max_image_pixels=2_000_000)
    header = inspect_image(data, limits)
    assert decode(needed_bytes(data, header), header) is None


def test_a_palette_with_transparency_is_decoded_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    data = saved(drawn().convert("P"), "PNG", transparency=bytes([0, 128, 255]))
    ours, expected = both(data)
    np.testing.assert_array_equal(ours, expected)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("format_", "mode", "options"),
    [("JPEG", "RGB", {}), ("JPEG", "CMYK", {}), ("JPEG", "RGB", {"progressive": True}), ("PNG", "RGBA", {}),
     ("WEBP", "RGB", {"lossless": True}), ("BMP", "RGB", {}), ("GIF", "P", {})],
)  # fmt: skip
def test_memory_that_decoding_takes_is_foreseen(
    format_: str, mode: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """The peak of a process that decodes a large image, over that of one that decodes a small one."""
    peaks = []
    for side in (64, 3000):
        image = drawn().resize((side, side)).convert(mode)
        path = tmp_path / f"{side}"
        path.write_bytes(saved(image, format_, **options))
        script = f"""
import re
from serving.images.decoder import decode, memory
from serving.images.limits import ImageLimits, inspect_image
from serving.images.header import needed_bytes
from PIL import Image; Image.init()
data = open({str(path)!r}, "rb").read()
header = inspect_image(data, ImageLimits())
assert decode(needed_bytes(data, header), header) is not None
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(1024 * int(peak[1]) - 2 * len(data), memory(header))
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
        peaks.append(list(map(int, done.stdout.split())))
    (before, _), (after, foreseen) = peaks
    assert after - before < foreseen + 8 * 2**20


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
    pixels = np.random.default_rng(6).integers(0, 256, (11, 6, 3), dtype=np.uint8)
    rows = b""
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        for row in pixels[top::down, left::across]:
            rows += b"\0" + row.tobytes() if row.size else b""
    header = struct.pack(">IIBBBBB", 6, 11, 8, 2, 0, 0, 1)
    data = png(header, rows=rows)
    ours, expected = both(data)
    np.testing.assert_array_equal(expected, pixels)
    np.testing.assert_array_equal(ours, expected)


def test_a_large_image_is_doubtful_before_anything_is_unpacked() -> None:
    data = saved(Image.new("1", (10_000, 9_000)), "PNG")
    assert decode(data, inspect_image(data, ImageLimits())) is None
