"""Golden images: whole files that travel with a model, its answers for them, and which errors they detect.

Each known error of preprocessing (channel order, value range, antialiasing, bicubic resizing) is tried on them at
export: a client's check against a live server notices exactly those that move the answers beyond the tolerance.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from serving.contract import Golden, Preprocessing, golden_distance
from serving.images.header import needed_bytes
from serving.images.preprocessing import decode_image, decode_pixels, make_decoder
from serving.wire import WIRES, Wire
from trainer.labelled_images import read_again

Array = np.ndarray[Any, np.dtype[Any]]
Ask = Callable[[Wire, Any], Array]
"""A model's signature of a wire form, from its input to probabilities float32 [n, classes]."""

COUNT = 16
TOLERANCE = 0.02
"""Of `golden_distance`: well above what arithmetic changes, well below what such errors do. With MobileNetV2 and heads
for 25 breeds from six splits, TF32 as GPUs compute it (simulated) gave 0.004 to 0.010, the smallest error 0.14 to 0.25.
"""
MARGIN = 3.0
"""How many times the tolerance an error should move the answers."""
_MAX_BYTES = 256 * 1024
"""Of an image that is taken as it is: they all travel in the model's graph and in one answer."""
_SCREEN_SCALE = 2.5
"""Size of a screened image, in the model's: well above 1, so that resizing leaves pixels out."""


def choose_golden(paths: Sequence[str], preprocessing: Preprocessing) -> list[bytes]:
    """Sixteen image files: up to eight as they are, the rest with a fine screen over them.

    How a photo is resized moves a model's answers little (bicubic for bilinear: 0.01 to 0.03), hardly more than a
    GPU's rounding does. Under a screen of about three pixels' period, enlarged, each way of resizing gives another
    image, while rounding stays what it was.

    Args:
      paths: images to choose from; evenly spaced ones are taken.
      preprocessing: the model's.
    """
    plain = [data for data in _spaced(paths, COUNT) if len(data) <= _MAX_BYTES][: COUNT // 2]
    to_screen = _spaced(paths, COUNT - len(plain))
    screened = [
        _screened(to_screen[number % len(to_screen)], preprocessing, number) for number in range(COUNT - len(plain))
    ]
    return plain + screened


def reference_answers(files: Sequence[bytes], preprocessing: Preprocessing, ask: Ask) -> Golden:
    """The model's answers to golden images, in each wire form, and the distances of each wrong preprocessing.

    Args:
      files: whole image files.
      preprocessing: the model's.
      ask: the model.
    """
    inputs: dict[Wire, Any] = {wire: preprocessed(files, preprocessing, wire) for wire in WIRES}
    answers = {wire: np.asarray(ask(wire, value), np.float64).round(6).tolist() for wire, value in inputs.items()}
    controls = {
        name: round(golden_distance(ask("float32", wrong).tolist(), answers["float32"]), 6)
        for name, wrong in _wrong_inputs(files, preprocessing).items()
    }
    return Golden(count=len(files), references=answers, tolerance=TOLERANCE, controls=controls)


def preprocessed(files: Sequence[bytes], preprocessing: Preprocessing, wire: Wire) -> Any:
    """What a client sends of images: a batch for the signature of the wire form."""
    if wire == "encoded":
        return np.array(files, object)
    decode = _decoder(preprocessing, wire)
    return np.stack([decode(data) for data in files])


_decoder = functools.lru_cache(make_decoder)  # tracing takes longer than decoding sixteen images


def undetected_errors(golden: Golden) -> list[str]:
    """Wrong preprocessings that a check against the golden images would not notice with its margin."""
    return [name for name, distance in golden.controls.items() if distance < MARGIN * golden.tolerance]


class _Screen(NamedTuple):
    """A pattern of two waves, whose periods are in pixels. They are not whole numbers, so no pixel grid hides them."""

    across: float
    down: float

    def over(self, image: Array) -> Array:
        """The image [h, w, 3] in 0..1, darkened and brightened in turns."""
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
        wave = np.sin(columns * 2 * np.pi / self.across) * np.sin(rows * 2 * np.pi / self.down)
        return (image * (1 + 0.8 * wave[..., np.newaxis])).clip(0, 1)


def _screened(data: bytes, preprocessing: Preprocessing, number: int) -> bytes:
    size = {name: round(_SCREEN_SCALE * getattr(preprocessing, name)) for name in ("height", "width")}
    image = decode_image(tf.constant(data), preprocessing.model_copy(update=size)).numpy()
    screen = _Screen(across=2.7 + 0.07 * number, down=3.1 + 0.05 * number)
    pixels = (screen.over(image) * 255).round().astype(np.uint8)
    encoded: bytes = tf.io.encode_jpeg(pixels, quality=90).numpy()
    return encoded


def _spaced(paths: Sequence[str], count: int) -> list[bytes]:
    """Up to `count` different files from all over the list, which is sorted by class."""
    chosen = sorted({round(place) for place in np.linspace(0, len(paths) - 1, min(count, len(paths)))})
    return [needed_bytes(read_again(paths[index])) for index in chosen]


def _wrong_inputs(files: Sequence[bytes], preprocessing: Preprocessing) -> dict[str, Array]:
    """The golden images as wrong clients would preprocess them: float32 [n, height, width, 3]."""
    right = preprocessed(files, preprocessing, "float32")
    size = [preprocessing.height, preprocessing.width]
    pixels = [decode_pixels(tf.constant(data), preprocessing) for data in files]
    return {
        "channel_order": right[..., ::-1],
        "range_0_255": right * 255,
        "range_-1_1": right * 2 - 1,
        "antialias": np.stack([tf.image.resize(image, size, antialias=True).numpy() for image in pixels]),
        "bicubic": np.stack([tf.image.resize(image, size, method="bicubic").numpy() for image in pixels]),
    }
