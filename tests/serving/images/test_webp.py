"""WebP files with alpha and animations are decoded like others, to the same pixels in training, server and worker."""

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from serving.contract import Preprocessing
from serving.images.encoder import make_encoder
from serving.images.header import needed_bytes, read_header
from serving.images.limits import ImageLimits, ImageRejected
from serving.images.preprocessing import decode_batch, to_uint8
from serving.images.webp import plain_webp
from serving.images.webp_graph import plain_webp as plain_webp_in_graph
from trainer.data import process_image

SIDE = 48
LIMITS = ImageLimits(max_image_pixels=10_000)


def image(seed: int, side: int = SIDE) -> Image.Image:
    """RGBA; a quarter of it is transparent, with colours that hide there."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 4), np.uint8)
    pixels[:4, :4, 3] = 0
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def pixels(data: bytes) -> tf.Tensor:
    return tf.io.decode_image(data, channels=3, expand_animations=False)


def webp(*frames: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:], "minimize_size": False} if len(frames) > 1 else {}
    frames[0].save(stream, "WEBP", exact=True, **more, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WEBP" + b"".join(chunks)


def canvas(flags: int, width: int, height: int) -> bytes:
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + b"".join(struct.pack("<I", n - 1)[:3] for n in (width, height)))


def small_frame_first() -> bytes:
    """A canvas of 100 x 80 with a frame of SIDE at 10, 20."""
    place = b"".join(struct.pack("<I", n)[:3] for n in (5, 10, SIDE - 1, SIDE - 1, 40))
    frames = [chunk(b"ANMF", place + b"\0" + webp(image(seed), lossless=True)[12:]) for seed in (1, 2)]
    return riff(canvas(0x12, 100, 80), chunk(b"ANIM", bytes(6)), *frames)


TAG = Image.Exif()
TAG[0x0112] = 6
IMAGE, OPAQUE = image(1), image(1).convert("RGB")
FILES = {
    "lossless": webp(IMAGE, lossless=True),
    "lossy": webp(IMAGE, quality=90),
    "lossless with EXIF": webp(IMAGE, lossless=True, exif=TAG),
    "lossy with EXIF and a profile": webp(IMAGE, quality=90, exif=TAG, icc_profile=b"profile" * 9),
    "animated lossless": webp(IMAGE, image(2), lossless=True),
    "animated lossy": webp(IMAGE, image(2), quality=90),
    "animated without alpha": webp(OPAQUE, image(2).convert("RGB"), quality=90),
    "animated with EXIF": webp(IMAGE, image(2), lossless=True, exif=TAG),
    "an animation of one frame": riff(
        canvas(0x02, SIDE, SIDE), chunk(b"ANIM", bytes(6)),
        chunk(b"ANMF", bytes(6) + (struct.pack("<I", SIDE - 1)[:3] * 2) + bytes(4) + webp(OPAQUE, lossless=True)[12:]),
    ),
    "announces alpha and has none": riff(canvas(0x10, SIDE, SIDE), webp(OPAQUE, quality=90)[12:]),
    "has alpha and doesn't announce it": webp(IMAGE, quality=90)[:20] + b"\0" + webp(IMAGE, quality=90)[21:],
    "lossless in a canvas": riff(canvas(0, SIDE, SIDE), webp(IMAGE, lossless=True)[12:]),
    "opaque": webp(OPAQUE, lossless=True),
    "opaque lossy": webp(OPAQUE, quality=90),
}  # fmt: skip


@pytest.fixture(params=FILES)
def data(request: pytest.FixtureRequest) -> bytes:
    return FILES[request.param]


def test_the_colours_are_pillows_whatever_alpha_hides(data: bytes) -> None:
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(pixels(needed_bytes(data)), wanted)
    header = read_header(data)
    assert (header.width, header.height, header.frames) == (SIDE, SIDE, 1)


@pytest.mark.parametrize("orientation", ["ignore", "exif"])
def test_training_server_and_worker_decode_alike(orientation: str, tmp_path: Path) -> None:
    preprocessing = Preprocessing(height=SIDE, width=SIDE, orientation=orientation)  # type: ignore[arg-type]
    files = [*FILES.values(), small_frame_first()]
    images, ok = decode_batch(tf.constant(files), preprocessing)
    assert ok.numpy().all()
    floats, bytes_, sent = (make_encoder(preprocessing, wire, LIMITS) for wire in ("float32", "uint8", "encoded"))
    for number, data in enumerate(files):
        np.testing.assert_array_equal(floats(data), images[number])
        np.testing.assert_array_equal(bytes_(data), to_uint8(images[number]))
        again, its_ok = decode_batch(tf.constant([sent(data)]), preprocessing)
        assert its_ok.numpy().all()
        np.testing.assert_array_equal(again[0], images[number])
        (tmp_path / "a.webp").write_bytes(data)
        trained = process_image(tf.constant(str(tmp_path / "a.webp")), SIDE, orientation=orientation)
        np.testing.assert_array_equal(trained, images[number])


def test_exif_turns_what_has_alpha_and_no_animation() -> None:
    turned = Preprocessing(height=SIDE, width=SIDE, orientation="exif")
    for name in FILES:
        upright = make_encoder(turned, "uint8", LIMITS)(FILES[name])
        lying = make_encoder(Preprocessing(height=SIDE, width=SIDE), "uint8", LIMITS)(FILES[name])
        has_tag = "EXIF" in name and "animated" not in name
        np.testing.assert_array_equal(upright, np.rot90(lying, 3) if has_tag else lying)


def test_a_first_frame_is_taken_without_the_canvas_around_it() -> None:
    header = read_header(small_frame_first())
    assert (header.width, header.height) == (SIDE, SIDE)
    wanted = np.asarray(IMAGE)[..., :3]
    np.testing.assert_array_equal(pixels(needed_bytes(small_frame_first())), wanted)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(riff(canvas(0x02, SIDE, SIDE), chunk(b"ANIM", bytes(6))), id="no frame"),
        pytest.param(riff(canvas(0x02, SIDE, SIDE), chunk(b"ANMF", bytes(16))), id="no pixels"),
        pytest.param(riff(canvas(0x12, SIDE, SIDE), chunk(b"ALPH", bytes(9))), id="alpha alone"),
    ],
)
def test_a_file_without_pixels_is_none(data: bytes) -> None:
    with pytest.raises(ImageRejected) as error:
        make_encoder(Preprocessing(height=SIDE, width=SIDE), "encoded", LIMITS)(data)
    assert error.value.reason == "not_an_image"
    _, ok = decode_batch(tf.constant([data]), Preprocessing(height=SIDE, width=SIDE))
    assert not ok.numpy().any()


def test_a_frame_that_is_larger_than_its_canvas_is_judged_by_its_own_size() -> None:
    huge = chunk(b"ANMF", bytes(16) + webp(image(1, 200), lossless=True)[12:])
    data = riff(canvas(0x12, 8, 8), chunk(b"ANIM", bytes(6)), huge)
    with pytest.raises(ImageRejected, match="200 x 200 pixels, over the limit"):
        make_encoder(Preprocessing(height=SIDE, width=SIDE), "encoded", LIMITS)(data)
    _, ok = decode_batch(tf.constant([data]), Preprocessing(height=SIDE, width=SIDE), LIMITS)
    assert not ok.numpy().any()


def test_python_and_the_graph_make_the_same_of_any_bytes() -> None:
    chance = random.Random(7)
    known = [*FILES.values(), small_frame_first()]
    plain = 0
    for _ in range(1500):
        data = bytearray(chance.choice(known))
        for _ in range(chance.choice((0, 1, 3))):
            place = chance.choice((chance.randrange(len(data)), chance.randrange(min(90, len(data)))))
            data[place] = chance.choice((0, 2, 0x10, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        file = bytes(data[: chance.choice((len(data), chance.randrange(13, len(data))))])
        made = plain_webp(file)
        assert bytes(plain_webp_in_graph(tf.constant(file)).numpy()) == made
        assert made[12:16] != b"VP8X" or not made[20:21] or not made[20] & 0x02, "an animation must not be decoded"
        plain += made == file
    assert 200 < plain < 1300
