"""The one preprocessing: the seed's pixels, every format, no picture that spoils a batch."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from serving.contract import Preprocessing
from serving.exif import exif_orientation
from serving.payload import make_payload
from serving.pictures import PictureLimits, PictureRejected, inspect_picture
from serving.preprocessing import decode_batch, decode_pixels, make_decoder, to_uint8

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
    files = [b"no picture" if i in broken else encoded("JPEG", (50 + i, 40)) for i in range(5)]
    images, ok = decode_batch(tf.constant(files), SMALL)
    assert ok.numpy().tolist() == [i not in broken for i in range(5)]
    decode = make_decoder(SMALL, "float32")
    for i, data in enumerate(files):
        np.testing.assert_array_equal(images[i], np.zeros((32, 24, 3)) if i in broken else decode(data))


def test_an_empty_batch_has_no_rows() -> None:
    images, ok = decode_batch(tf.constant([], tf.string), SMALL)
    assert images.shape == (0, 32, 24, 3)
    assert ok.shape == (0,)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("byte_order", [">", "<"], ids=["big-endian", "little-endian"])
def test_exif_orientation_turns_as_pillow_does(orientation: int, byte_order: str) -> None:
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F] = "a maker before the orientation"
    exif[0x0112] = orientation
    data = encoded("JPEG", (64, 48), exif=exif, quality=95)
    assert int(exif_orientation(tf.constant(data))) == orientation
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), np.float32) / 255
    size = {"height": upright.shape[0], "width": upright.shape[1]}
    turned = make_decoder(Preprocessing(**size, orientation="exif"), "float32")(data)
    assert np.abs(turned - upright).mean() < 0.02
    ignored = make_decoder(Preprocessing(**size), "float32")(data)
    assert orientation == 1 or np.abs(ignored - upright).mean() > 0.05


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0MM" + b"\xff" * 40, b"x"])
def test_a_broken_exif_header_means_no_orientation(data: bytes) -> None:
    assert int(exif_orientation(tf.constant(data))) == 1


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
def test_a_picture_over_a_limit_is_not_decoded(data: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(PictureRejected) as error:
        inspect_picture(data(), PictureLimits(max_bytes=10**6 if reason != "too_large" else 20_000, max_pixels=20_000))
    assert error.value.reason == reason
    assert error.value.message


def test_a_damaged_picture_is_rejected_with_tensorflows_words() -> None:
    payload = make_payload(SMALL, "float32", PictureLimits())
    with pytest.raises(PictureRejected) as error:
        payload(encoded("JPEG")[:-300])
    assert error.value.reason == "corrupt"
    assert "JPEG" in error.value.message
    assert "File" not in error.value.message  # no stack of the graph
