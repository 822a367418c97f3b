"""What is sent of an image: TensorFlow's numbers without TensorFlow, and the model's own decoder for doubtful files."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from serving.contract import Preprocessing
from serving.images.encoder import make_encoder
from serving.images.limits import ImageLimits, ImageRejected
from serving.images.preprocessing import make_decoder
from serving.images.wire import Wire
from tests.serving.images.test_decoder import chunk, png


def photo(format_: str = "JPEG", orientation: int = 1) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    tags = Image.Exif()
    tags[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(noise).resize((301, 203)).save(stream, format_, exif=tags)
    return stream.getvalue()


SMALL = Preprocessing(height=64, width=48, orientation="exif", value_range=(-1.0, 1.0))


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_the_numbers_are_those_of_tensorflow(format_: str, orientation: int) -> None:
    data = photo(format_, orientation)
    floats = make_encoder(SMALL, "float32", ImageLimits())(data)
    assert isinstance(floats, np.ndarray)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, make_decoder(SMALL, "float32")(data), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(make_encoder(SMALL, "uint8", ImageLimits())(data), make_decoder(SMALL, "uint8")(data))


def truncated() -> bytes:
    return photo()[:-50]


@pytest.mark.parametrize("wire", ["float32", "uint8"])
def test_a_doubtful_image_is_sent_as_its_file_or_decided_by_tensorflow(wire: Wire) -> None:
    assert make_encoder(SMALL, wire, ImageLimits(), sends_doubtful=True)(truncated()) == truncated()
    with pytest.raises(ImageRejected) as error:
        make_encoder(SMALL, wire, ImageLimits())(truncated())
    assert error.value.reason == "corrupt"
    assert error.value.message.startswith("the file is cut off (")


def test_without_tensorflow_whole_images_are_decoded_and_doubtful_ones_undecided() -> None:
    script = f"""
import sys
sys.modules["tensorflow"] = None
from serving.contract import Preprocessing
from serving.images.encoder import Undecided, make_encoder
from serving.images.limits import ImageLimits
encode = make_encoder(Preprocessing(height=64, width=48), "float32", ImageLimits())
print(encode({photo()!r}).shape)
try:
    encode({truncated()!r})
except Undecided as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shape, message = done.stdout.splitlines()
    assert shape == "(64, 48, 3)"
    assert "pip install tensorflow" in message


def test_where_memory_is_short_the_model_s_decoder_is_asked() -> None:
    """Pillow needs more than TensorFlow, so a limit for the one must not reject what the other could decode."""
    data = photo("PNG")
    memory = 3 * 301 * 203 * 2 + 1000
    assert make_encoder(SMALL, "uint8", ImageLimits(), memory=memory, sends_doubtful=True)(data) == data
    with pytest.raises(ImageRejected, match="`max_memory`"):
        make_encoder(SMALL, "uint8", ImageLimits(), memory=1000, sends_doubtful=True)(data)


def test_what_the_server_would_refuse_for_its_size_is_not_sent() -> None:
    """The run allows more than the model was exported with, so TensorFlow decides here."""
    header = struct.pack(">IIBBBBB", 10, 1, 8, 2, 0, 0, 0)
    file = png(header, chunk(b"a123", bytes(64 * 2**20)), rows=bytes(31))
    with pytest.raises(ImageRejected) as error:
        make_encoder(SMALL, "uint8", ImageLimits(max_image_bytes=2 * len(file)), sends_doubtful=True)(file)
    assert error.value.reason == "corrupt"
