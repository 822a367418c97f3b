"""Draws images and makes a hub module, for a demonstration and tests without internet.

They stand in for Kaggle's photos and the TF Hub URL. Classes differ in texture, at any place, size, angle
and brightness, under noise, and a little in tint: a model has to look at structure, and at the order of the channels.
"""

import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]


def _stripes(u: Array, v: Array) -> Array:
    return np.sin(u)


def _checks(u: Array, v: Array) -> Array:
    return np.sin(u) * np.sin(v)


def _dots(u: Array, v: Array) -> Array:
    return np.where((np.sin(u) > 0.3) & (np.sin(v) > 0.3), 1.0, -1.0)


def _rings(u: Array, v: Array) -> Array:
    return np.sin(np.hypot(u, v))


def _waves(u: Array, v: Array) -> Array:
    return np.sin(u + 2.5 * np.sin(v / 2))


def _clouds(u: Array, v: Array) -> Array:
    return np.sin(u / 4 + np.sin(v / 5)) + np.sin(v / 3 + np.sin(u / 7))


TEXTURES: dict[str, Callable[[Array, Array], Array]] = {
    "checks": _checks, "clouds": _clouds, "dots": _dots, "rings": _rings, "stripes": _stripes, "waves": _waves,
}  # fmt: skip


def draw_image(texture: str, random: np.random.Generator) -> Image.Image:
    """One RGB image of a texture, 240 to 420 pixels wide and high."""
    width, height = (int(n) for n in random.integers(240, 421, size=2))
    angle, wavelength = random.uniform(0, np.pi), random.uniform(9, 28)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x -= random.uniform(0, width)
    y -= random.uniform(0, height)
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / wavelength
    v = (y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / wavelength
    pattern = TEXTURES[texture](u, v)[..., np.newaxis]
    tint = 30.0 * np.array(list(itertools.permutations((-1, 0, 1)))[list(TEXTURES).index(texture) % 6])
    light, dark = random.uniform(120, 255, size=3) + tint, random.uniform(0, 120, size=3) + tint
    pixels = dark + (light - dark) * (pattern - pattern.min()) / np.ptp(pattern)
    pixels += random.normal(0, random.uniform(2, 22), size=pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_images(folder: str | Path, *, per_class: int = 25, seed: int = 0) -> Path:
    """Draws labelled images in Kaggle's layout: `labels.csv` with id,breed and `train/<id>.jpg`.

    Returns:
      The path of labels.csv.
    """
    root, random = Path(folder), np.random.default_rng(seed)
    (root / "train").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(per_class * len(TEXTURES)):
        texture = list(TEXTURES)[number % len(TEXTURES)]
        name = f"{seed:02}{number:05}"
        draw_image(texture, random).save(root / "train" / f"{name}.jpg", quality=int(random.integers(75, 96)))
        rows.append((name, texture))
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "breed"), *rows])
    return root / "labels.csv"


def make_hub_module(folder: str | Path, *, image_size: int = 224, seed: int = 0) -> Path:
    """Writes a small module in TF Hub's reusable form: the energy of Gabor filters, whatever the angle of a texture.

    Gabor filters: J. G. Daugman, "Uncertainty relation for resolution in space, spatial frequency, and orientation",
    J. Opt. Soc. Am. A 2 (1985). The features are standardised over drawn images, so a dense layer learns fast.

    Args:
      folder: where the SavedModel is written.
      image_size: height and width that it takes.
      seed: of the images that it is standardised on.

    Returns:
      The folder.
    """
    import tensorflow as tf

    filters = tf.Variable(_gabor_filters(), name="filters")
    centre = tf.Variable(tf.zeros([_FEATURES]), trainable=False, name="centre")
    scale = tf.Variable(tf.ones([_FEATURES]), trainable=False, name="scale")

    def features(images: Any) -> Any:
        grey = tf.reduce_mean(images, axis=3, keepdims=True)
        grey -= tf.reduce_mean(grey, axis=[1, 2], keepdims=True)
        grey /= tf.math.reduce_std(grey, axis=[1, 2], keepdims=True) + 0.02
        energy = tf.abs(tf.nn.conv2d(grey, filters, strides=2, padding="VALID"))
        mean, variance = tf.nn.moments(energy, axes=[1, 2])
        rows = [tf.reduce_mean(images, axis=[1, 2])]
        for values in (mean, tf.sqrt(variance + 1e-6)):
            by_angle = tf.reshape(values, [-1, _SCALES, _ANGLES])
            # Turning an image rotates the angles: neither their order by size nor their spectrum changes.
            rows.append(tf.reshape(tf.sort(by_angle, axis=2), [-1, _SCALES * _ANGLES]))
            rows.append(tf.reshape(tf.abs(tf.signal.rfft(by_angle)), [-1, _SCALES * (_ANGLES // 2 + 1)]))
        return tf.concat(rows, axis=1)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name="inputs"),
            tf.TensorSpec([], tf.bool, name="training"),
        ]
    )
    def call(inputs: Any, training: Any = False) -> Any:
        return (features(inputs) - centre) / scale

    random = np.random.default_rng(seed + 1)
    drawn = [
        np.asarray(draw_image(texture, random).resize((image_size, image_size)), np.float32) / 255
        for texture in TEXTURES
        for _ in range(6)
    ]
    raw = features(np.stack(drawn)).numpy()
    centre.assign(raw.mean(axis=0))
    scale.assign(raw.std(axis=0) / _WEIGHTS + 1e-6)
    module = tf.train.Checkpoint(variables=[filters, centre, scale], trainable_variables=[filters])
    module.__call__ = call
    module.regularization_losses = []
    tf.saved_model.save(module, str(folder))
    return Path(folder)


_SCALES, _ANGLES, _KERNEL = 4, 8, 15
_FEATURES = 3 + 2 * _SCALES * (_ANGLES + _ANGLES // 2 + 1)
_WEIGHTS = np.where(np.arange(_FEATURES) < 3, 7.5, 1.5)
"""Larger for the three colours: among a hundred features the model would ignore them, and RGB and BGR look alike."""


def _gabor_filters() -> Array:
    """float32 [kernel, kernel, 1, scales × angles], each with mean 0 and norm 1."""
    y, x = np.mgrid[-(_KERNEL // 2) : _KERNEL // 2 + 1, -(_KERNEL // 2) : _KERNEL // 2 + 1]
    filters = []
    for wavelength in np.geomspace(3, 14, _SCALES):
        for angle in np.linspace(0, np.pi, _ANGLES, endpoint=False):
            along = x * np.cos(angle) + y * np.sin(angle)
            wave = np.exp(-(x**2 + y**2) / (2 * (0.5 * wavelength) ** 2)) * np.cos(2 * np.pi * along / wavelength)
            wave -= wave.mean()
            filters.append(wave / np.linalg.norm(wave))
    return np.stack(filters, axis=-1)[:, :, np.newaxis, :].astype(np.float32)
