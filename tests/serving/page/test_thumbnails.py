"""Thumbnails: small, upright where the model sees them so, and none of what is no image."""

import base64
import io

import pytest
from PIL import Image

from serving.page.thumbnails import thumbnail


def opened(source: str | None) -> Image.Image:
    assert source is not None
    assert source.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_a_large_image_becomes_small_and_keeps_its_shape() -> None:
    data = io.BytesIO()
    Image.new("RGB", (1600, 800), (200, 30, 30)).save(data, "JPEG")
    assert opened(thumbnail(data.getvalue(), upright=False)).size == (176, 88)


@pytest.mark.parametrize(("upright", "size"), [(False, (40, 20)), (True, (20, 40))])
def test_it_is_turned_only_where_the_model_turns_it(upright: bool, size: tuple[int, int]) -> None:
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(data, "JPEG", exif=exif)
    assert opened(thumbnail(data.getvalue(), upright)).size == size


def test_what_is_no_image_has_none() -> None:
    assert thumbnail(b"no image", upright=False) is None
