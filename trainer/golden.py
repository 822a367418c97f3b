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
from serving.images.preprocessing import decode_image, decode_pixels, make_decoder, to_range
from serving.images.wire import WIRES, Wire
from trainer.images.labelled_images import read_again

Array = np.ndarray[Any, np.dtype[Any]]
Ask = Callable[[Wire, Any], Array]
"""A model's signature of a wire form, from its input to probabilities float32 [n, classes]."""

COUNT = 16
TOLERANCE = 0.02
"""The largest `golden_distance` that is accepted.

It is well above what arithmetic changes, and well below what such errors change. With MobileNetV2 and heads for 25
breeds from six splits, TF32 as GPUs compute it (simulated) gave 0.004 to 0.010, the smallest error 0.14 to 0.25.
"""
MARGIN = 3.0
"""How many times the tolerance an error should move the answers."""
_DRAWING_SEED = 20261126
_SCENES, _GRATINGS = 16, 24
"""Drawn images to choose from."""
_MAX_BYTES = 256 * 1024
"""The size of an image that is taken as it is: they all travel in the model's graph and in one answer."""
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


def draw_golden(preprocessing: Preprocessing, ask: Ask) -> list[bytes]:
    """Sixteen drawn image files: those of a pool on which the model's answers depend most on right preprocessing.

    The pool is always the same: scenes with smooth colours, hard edges and detail at every scale, and gratings of two
    colours; half of them under a fine screen.

    Args:
      preprocessing: the model's.
      ask: the model.
    """
    plain = [_drawing(np.random.default_rng([_DRAWING_SEED, number])) for number in range(_SCENES)]
    plain += [_grating(np.random.default_rng([_DRAWING_SEED, _SCENES + number])) for number in range(_GRATINGS)]
    pool = [_screened(data, preprocessing, number % COUNT) if number % 2 else data for number, data in enumerate(plain)]
    right = np.asarray(ask("float32", preprocessed(pool, preprocessing, "float32")))
    changes = [
        np.abs(np.asarray(ask("float32", wrong)) - right).max(axis=1)
        for wrong in _wrong_inputs(pool, preprocessing).values()
    ]
    return [pool[number] for number in _most_telling(np.stack(changes))]


def _most_telling(changes: Array) -> list[int]:
    """Numbers of sixteen images: each time, the one that best tells the error that is told least so far.

    Args:
      changes: float [errors, images], how far an error moves the answer to an image.
    """
    chosen: list[int] = []
    for _ in range(min(COUNT, changes.shape[1])):
        error = int(changes[:, chosen].sum(axis=1).argmin())
        order = np.argsort(-changes[error], kind="stable")
        chosen.append(next(int(number) for number in order if number not in chosen))
    return sorted(chosen)


def _drawing(chance: np.random.Generator) -> bytes:
    """A JPEG of discs and stripes of many colours and sizes over clouds, 240 to 400 pixels wide and high."""
    height, width = (int(side) for side in chance.integers(240, 401, size=2))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = _clouds(chance, height, width)
    for radius in np.geomspace(min(height, width) / 3, 6, 16):
        row, column = chance.uniform(0, height), chance.uniform(0, width)
        flat, angle = chance.uniform(0.4, 1), chance.uniform(0, np.pi)
        along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
        across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
        inside = (along**2 + (across / flat) ** 2) < radius**2
        stripes = 0.5 + 0.5 * np.sin(along[inside] * 2 * np.pi / max(3.0, radius / chance.uniform(2, 6)))
        shade = chance.uniform(0, 1, 3) + (chance.uniform(0, 1, 3) - 0.5) * stripes[:, np.newaxis]
        image[inside] = 0.3 * image[inside] + 0.7 * shade
    return _jpeg(image)


def _grating(chance: np.random.Generator) -> bytes:
    """A JPEG of waves of one length and direction, or two that cross, in two colours with a little noise."""
    height, width = (int(side) for side in chance.integers(240, 401, size=2))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle, length = chance.uniform(0, np.pi), chance.uniform(6, 40)
    along = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / length)
    across = np.sin((rows * np.cos(angle) - columns * np.sin(angle)) * 2 * np.pi / length)
    wave = (0.5 + 0.5 * (along if chance.random() < 0.5 else along * across))[..., np.newaxis]
    light, dark = chance.uniform(0.4, 1, 3), chance.uniform(0, 0.5, 3)
    return _jpeg(dark + (light - dark) * wave + chance.normal(0, 0.03, (height, width, 3)))


def _jpeg(image: Array) -> bytes:
    """A file of an image [h, w, 3] in 0..1."""
    encoded: bytes = tf.io.encode_jpeg((image.clip(0, 1) * 255).round().astype(np.uint8), quality=90).numpy()
    return encoded


def _clouds(chance: np.random.Generator, height: int, width: int) -> Array:
    """Noise whose amplitude falls with its frequency, as in photos: float32 [height, width, 3], about 0..1."""
    frequencies = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)) + 1 / max(height, width)
    colours = []
    for _ in range(3):
        spectrum = np.exp(2j * np.pi * chance.random(frequencies.shape)) / frequencies
        noise = np.fft.irfft2(spectrum, (height, width))
        colours.append(noise / noise.std())
    grey, *_ = colours
    return (0.5 + 0.2 * np.stack([0.7 * grey + 0.7 * colour for colour in colours], axis=-1)).astype(np.float32)


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
    return _jpeg(screen.over(image))


def _spaced(paths: Sequence[str], count: int) -> list[bytes]:
    """Up to `count` different files from all over the list, which is sorted by class."""
    chosen = sorted({round(place) for place in np.linspace(0, len(paths) - 1, min(count, len(paths)))})
    return [needed_bytes(read_again(paths[index])) for index in chosen]


def _wrong_inputs(files: Sequence[bytes], preprocessing: Preprocessing) -> dict[str, Array]:
    """The golden images as wrong clients would preprocess them: float32 [n, height, width, 3]."""
    right = preprocessed(files, preprocessing, "float32")
    unit = preprocessed(files, preprocessing.model_copy(update={"value_range": (0.0, 1.0)}), "float32")
    size = [preprocessing.height, preprocessing.width]
    pixels = [decode_pixels(tf.constant(data), preprocessing) for data in files]

    def resized(**how: Any) -> Array:
        images = np.stack([tf.image.resize(image, size, **how).numpy() for image in pixels])
        return np.asarray(to_range(images, preprocessing.value_range))

    ranges = {"range_0_1": (0.0, 1.0), "range_-1_1": (-1.0, 1.0), "range_0_255": (0.0, 255.0)}
    return {
        "channel_order": right[..., ::-1],
        **{
            name: np.asarray(to_range(unit, other))
            for name, other in ranges.items()
            if other != preprocessing.value_range
        },
        "antialias": resized(antialias=True),
        "bicubic": resized(method="bicubic"),
    }
