"""Facts of images, as other libraries write them."""

import hashlib
import io
from typing import Any

import pytest
from PIL import Image

from serving.images.facts import FACTS, facts_of, taken

TAKEN, OFFSET, EXIF = 0x9003, 0x9011, 0x8769


def image(format_: str, exif: dict[int, Any] | None = None, **directory: Any) -> bytes:
    tags = Image.Exif()
    for tag, value in (exif or {}).items():
        tags.get_ifd(EXIF)[tag] = value
    file = io.BytesIO()
    keywords = {"exif": tags.tobytes()} if exif else {}
    Image.new("RGB", (7, 5), (200, 30, 30)).save(file, format_, **keywords, **directory)
    return file.getvalue()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "WebP"])
def test_all_facts_in_the_order_asked_for(format_: str) -> None:
    data = image(format_)
    assert facts_of(data, FACTS) == [7, 5, len(data), format_, None, hashlib.sha256(data).hexdigest()]
    assert facts_of(data, ("bytes", "height")) == [len(data), 5]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize(
    ("when", "offset", "expected"),
    [
        ("2024:05:01 12:34:56", None, "2024-05-01T12:34:56"),
        ("2024:05:01 12:34:56", "+02:00", "2024-05-01T12:34:56+02:00"),
        ("2024:05:01 12:34:56", "CEST", "2024-05-01T12:34:56"),
        ("    :  :     :  :  ", None, None),
        ("0000:00:00 00:00:00", "+02:00", None),
        ("2024:02:30 12:00:00", None, None),
        ("long" * 1000, None, None),
    ],
)
def test_the_time_is_the_cameras(format_: str, when: str, offset: str | None, expected: str | None) -> None:
    tags = {TAKEN: when} | ({} if offset is None else {OFFSET: offset})
    assert taken(image(format_, tags)) == expected


def test_an_image_without_a_camera_has_no_time() -> None:
    assert taken(image("JPEG", {0x9000: b"0232"})) is None
    assert taken(image("GIF")) is None


def test_a_damaged_exif_is_no_error() -> None:
    data = image("JPEG", {TAKEN: "2024:05:01 12:34:56", OFFSET: "+02:00"})
    start = data.index(b"Exif")
    end = start + 200
    for place in range(start, end):
        for value in (0, 1, 127, 255):
            found = taken(data[:place] + bytes([value]) + data[place + 1 :])
            assert found is None or found[:10].count("-") == 2
    for cut in range(end):
        taken(data[:cut])
