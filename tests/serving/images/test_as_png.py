"""WebP files as PNG."""

import io

import numpy as np
import pytest
from PIL import Image

from serving.images.as_png import as_png, is_webp
from serving.images.exif import exif_orientation


def _webp(width: int = 9, height: int = 5, orientation: int = 1) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file, "WEBP", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_and_orientation_stay(orientation: int) -> None:
    webp = _webp(orientation=orientation)
    png = as_png(webp)
    assert png is not None
    assert is_webp(webp)
    assert not is_webp(png)
    with Image.open(io.BytesIO(png), formats=["PNG"]) as made, Image.open(io.BytesIO(webp)) as given:
        assert np.array_equal(np.asarray(made), np.asarray(given.convert("RGB")))
    assert exif_orientation(png) == orientation


@pytest.mark.parametrize("data", [_webp()[:-40], _webp()[:14], b"RIFF    WEBP"], ids=["cut off", "header", "empty"])
def test_what_cannot_be_decoded_is_none(data: bytes) -> None:
    assert as_png(data) is None


def test_what_would_take_much_memory_is_none() -> None:
    blank = io.BytesIO()
    Image.new("L", (6000, 4000)).save(blank, "WEBP", method=0)
    assert as_png(blank.getvalue()) is None
