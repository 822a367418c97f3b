"""The one preprocessing: the seed's pixels, every format, no image that spoils a batch."""

import functools
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from serving.contract import Preprocessing
from serving.images.encoder import make_encoder
from serving.images.exif_graph import exif_orientation
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.images.preprocessing import decode_batch, decode_pixels, make_decoder, to_uint8

SMALL = Preprocessing(height=32, width=24)


def encoded(format_: str, size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(stream, format_, **options)
    return stream.getvalue()


def test_jpeg_pixels_are_the_seeds() -> None:
    data = encoded("JPEG")
    image = tf.image.resize(tf.image.convert_image_dtype(tf.io.decode_jpeg(data, channels=3), tf.float32), [32, 24])
    np.testing.assert_allclose(make_decoder(SMALL, "float32")(data), image, atol=5e-7, rtol=0)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_every_format_decodes_to_the_models_size(format_: str) -> None:
    image = make_decoder(SMALL, "float32")(encoded(format_))
    assert image.shape == (32, 24, 3)
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_resizing_bytes_gives_the_numbers_of_resizing_floats(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(format_, (301, 203), **({"exif": exif} if format_ == "JPEG" else {}))
    preprocessing = Preprocessing(height=64, width=48, orientation="exif")
    floats = tf.image.resize(decode_pixels(tf.constant(data), preprocessing), [64, 48])
    np.testing.assert_allclose(make_decoder(preprocessing, "float32")(data), floats, atol=5e-7, rtol=0)


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    red = make_decoder(SMALL, "float32")(stream.getvalue())[0, 0]
    assert red.tolist() == pytest.approx([1, 0, 0], abs=0.01)


def test_uint8_is_float32_rounded() -> None:
    data = encoded("PNG")
    as_float, as_uint8 = make_decoder(SMALL, "float32")(data), make_decoder(SMALL, "uint8")(data)
    np.testing.assert_array_equal(as_uint8, to_uint8(tf.constant(as_float)))
    assert np.abs(as_uint8 / 255 - as_float).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("broken", [[], [0], [4], [1, 3], [0, 1, 2, 3, 4]], ids=lambda rows: f"rows-{rows}")
def test_broken_rows_of_a_batch_are_not_ok_and_others_are_as_alone(broken: list[int]) -> None:
    files = [b"no image" if i in broken else encoded("JPEG", (50 + i, 40)) for i in range(5)]
    images, ok = decode_batch(tf.constant(files), SMALL)
    assert ok.numpy().tolist() == [i not in broken for i in range(5)]
    decode = make_decoder(SMALL, "float32")
    for i, data in enumerate(files):
        np.testing.assert_array_equal(images[i], np.zeros((32, 24, 3)) if i in broken else decode(data))


def test_rows_keep_their_order_though_some_take_longer_than_others() -> None:
    files = [encoded("PNG", (900, 900)), *(encoded("JPEG", (30 + i, 40)) for i in range(40)), encoded("GIF", (50, 50))]
    images, ok = decode_batch(tf.constant(files), SMALL)
    decode = make_decoder(SMALL, "float32")
    assert ok.numpy().all()
    np.testing.assert_array_equal(images, np.stack([decode(data) for data in files]))


def test_an_empty_batch_has_no_rows() -> None:
    images, ok = decode_batch(tf.constant([], tf.string), SMALL)
    assert images.shape == (0, 32, 24, 3)
    assert ok.shape == (0,)


def tagged(orientation: int, byte_order: str = ">", kind: int = 3) -> Image.Exif:
    """EXIF data; `kind` is the tag's type, 3 for SHORT, 4 for LONG."""
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F] = "a maker before the orientation"
    exif[0x0112] = orientation
    if kind != 3:
        packed = struct.pack(byte_order + "HHIH", 0x0112, 3, 1, orientation) + b"\0\0"
        other = struct.pack(byte_order + "HHII", 0x0112, kind, 1, orientation)
        whole = exif.tobytes()
        assert packed in whole
        exif = Image.Exif()
        exif.load(whole.replace(packed, other))
        exif.tobytes = lambda offset=8: whole.replace(packed, other)  # type: ignore[method-assign]
    return exif


def oriented(data: bytes) -> int:
    return int(exif_orientation(tf.constant(data)))


@functools.cache
def decoder(size: tuple[int, int], orientation: Literal["ignore", "exif"]) -> Callable[[bytes], Any]:
    """To images of a width and height; tracing is slow."""
    return make_decoder(Preprocessing(height=size[1], width=size[0], orientation=orientation), "float32")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("byte_order", [">", "<"], ids=["big-endian", "little-endian"])
@pytest.mark.parametrize("kind", [3, 4], ids=["short", "long"])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_turns_as_pillow_does(orientation: int, byte_order: str, kind: int, format_: str) -> None:
    data = encoded(format_, (64, 48), exif=tagged(orientation, byte_order, kind), quality=95)
    assert oriented(data) == orientation
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    pixels = np.asarray(upright, np.float32) / 255
    assert np.abs(decoder(upright.size, "exif")(data) - pixels).mean() < 0.02
    assert orientation == 1 or np.abs(decoder(upright.size, "ignore")(data) - pixels).mean() > 0.05


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_graph_and_worker_turn_alike(format_: str) -> None:
    files = [encoded(format_, (64, 48), exif=tagged(orientation)) for orientation in range(1, 9)]
    images, ok = decode_batch(tf.constant(files), Preprocessing(height=64, width=48, orientation="exif"))
    assert ok.numpy().all()
    np.testing.assert_array_equal(images, [decoder((48, 64), "exif")(data) for data in files])


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", marker, len(content) + 2) + content


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


XMP = segment(0xFFE1, b"http://ns.adobe.com/xap/1.0/\0" + b"Exif\0\0MM\0*" * 100)
ICC = b"".join(segment(0xFFE2, b"ICC_PROFILE\0" + bytes([i, 3]) + bytes(65_000)) for i in (1, 2, 3))


@pytest.mark.parametrize(
    "before",
    [XMP, ICC, segment(0xFFFE, b"\xff\xe1 a comment") * 300, b"\xff" * 50, XMP + b"\xff\xff" + ICC + b"\xff",
     segment(0xFFE1, b"Exif\0") + segment(0xFFE0, b"")],
    ids=["xmp", "profile", "comments", "fill", "all", "near-misses"],
)  # fmt: skip
def test_a_jpegs_tag_is_found_behind_other_segments(before: bytes) -> None:
    exif = segment(0xFFE1, b"Exif\0\0" + tagged(6).tobytes().removeprefix(b"Exif\0\0"))
    data = encoded("JPEG", (64, 48))
    data = data[:2] + before + exif + data[2:]
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == oriented(data) == 6
    tf.io.decode_image(data)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"], ids=["plain", "as-in-jpeg"])
def test_a_pngs_tag_is_found_on_either_side_of_the_pixels(place: str, prefix: bytes) -> None:
    plain = encoded("PNG", (300, 400))
    exif = chunk(b"eXIf", prefix + tagged(8).tobytes().removeprefix(b"Exif\0\0"))
    text = chunk(b"tEXt", b"Comment\0" + exif)  # no chunk of its own
    position = plain.index(b"IDAT") - 4 if place == "before" else plain.index(b"IEND") - 4
    data = plain[:33] + text + plain[33:position] + exif + plain[position:]
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x0112] == oriented(data) == 8
    assert oriented(plain[:33] + text + plain[33:]) == 1
    assert oriented(plain + exif) == 1  # behind the end
    tf.io.decode_image(data)


def test_a_webps_tag_counts_if_its_header_announces_it() -> None:
    data = bytearray(encoded("WEBP", (64, 48), exif=tagged(5), xmp=b"<x/>" * 5 + b"odd", icc_profile=bytes(131)))
    assert oriented(bytes(data)) == 5
    last = data.index(b"EXIF")
    cut = data[:4] + struct.pack("<I", last - 8) + data[8:]  # what is behind the file's own end is none of it
    with Image.open(io.BytesIO(cut)) as image:
        assert image.getexif().get(0x0112, 1) == oriented(bytes(cut)) == 1
    data[20] &= ~0x08
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(0x0112, 1) == oriented(bytes(data)) == 1


@pytest.mark.parametrize("value", [0, 9, 255, 0x0600, 65535])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_a_value_that_is_no_orientation_is_ignored(value: int, format_: str) -> None:
    assert oriented(encoded(format_, exif=tagged(value))) == 1


def test_formats_without_a_place_for_the_tag_are_left_as_they_are() -> None:
    assert [oriented(encoded(format_) + tagged(6).tobytes()) for format_ in ("GIF", "BMP")] == [1, 1]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0MM" + b"\xff" * 40, b"x",
     b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xf4eXIg" + bytes(20), b"RIFF\4\0\0\0WEBP",
     b"\x89PNG\r\n\x1a\n\x7f\xff\xff\xffeXIfMM\0*\xff\xff\xff\xff", b"RIFF\0\0\0\0WEBPVP8X\xff\xff\xff\xff\x08",
     b"\xff\xd8\xff\xe1\0\xffExif\0\0II*\0\x08\0\0\0\xff\xff\x12\1\3\0\1\0\0"],
)  # fmt: skip
def test_a_broken_exif_header_means_no_orientation(data: bytes) -> None:
    assert oriented(data) == 1


@settings(max_examples=150)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.sampled_from("<>"), st.data())
def test_hostile_bytes_never_raise(format_: str, byte_order: str, data: st.DataObject) -> None:
    file = bytearray(encoded(format_, (8, 8), exif=tagged(6, byte_order)))
    near = max(file.find(b"MM\0*"), file.find(b"II*\0"))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(file)) | st.integers(max(near - 12, 0), near + 60))
        few = st.binary(max_size=5) | st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", bytes(4)])
        file[place : place + data.draw(st.integers(0, 12))] = data.draw(few)
    assert 1 <= oriented(bytes(file)) <= 8


@pytest.mark.parametrize(
    "endless", [b"\xff\xd8" + b"\xff" * 10**6, b"\x89PNG\r\n\x1a\n" + (bytes(4) + b"abCd" + bytes(4)) * 10**5]
)
def test_a_file_that_keeps_its_reader_busy_is_given_up(endless: bytes) -> None:
    exif = tagged(6).tobytes().removeprefix(b"Exif\0\0")
    found = segment(0xFFE1, b"Exif\0\0" + exif) if endless[0] == 0xFF else chunk(b"eXIf", exif)
    assert oriented(endless + found) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: b"", "empty"),
        (lambda: b"<html>", "not_an_image"),
        (lambda: encoded("PNG") + b"x" * 20_000, "too_large"),
        (lambda: encoded("PNG", (200, 101)), "too_many_pixels"),
        (lambda: encoded("TIFF"), "unsupported_format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_image_over_a_limit_is_not_decoded(data: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(ImageRejected) as error:
        inspect_image(
            data(), ImageLimits(max_image_bytes=10**6 if reason != "too_large" else 20_000, max_image_pixels=20_000)
        )
    assert error.value.reason == reason
    assert error.value.message


def test_a_damaged_image_is_rejected_with_tensorflows_words() -> None:
    payload = make_encoder(SMALL, "float32", ImageLimits())
    with pytest.raises(ImageRejected) as error:
        payload(encoded("JPEG")[:-300])
    assert error.value.reason == "corrupt"
    assert "JPEG" in error.value.message
    assert "File" not in error.value.message  # no stack of the graph
