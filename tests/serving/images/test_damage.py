"""What is said of an image that no decoder takes."""

import io

import pytest
from PIL import Image

from serving.images.damage import CUT_OFF, NOT_DECODED, why_not_decoded


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_file_without_its_end_is_cut_off(kind: str) -> None:
    whole = encoded(kind)
    assert why_not_decoded(whole) == NOT_DECODED
    assert why_not_decoded(whole[: len(whole) * 2 // 3]) == CUT_OFF


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_a_program_wrote_behind_the_end_is_no_damage(kind: str) -> None:
    assert why_not_decoded(encoded(kind) + b"\n<!-- by a camera -->") == NOT_DECODED


def test_a_preview_in_a_jpeg_is_not_taken_for_its_end() -> None:
    whole, preview = encoded("JPEG"), encoded("JPEG")[:600] + b"\xff\xd9"
    with_preview = whole[:2] + b"\xff\xe1" + (2 + len(preview)).to_bytes(2, "big") + preview + whole[2:]
    assert why_not_decoded(with_preview) == NOT_DECODED
    assert why_not_decoded(with_preview[:-100]) == CUT_OFF


def test_pixels_tell_nothing() -> None:
    assert why_not_decoded(None) == NOT_DECODED
