"""Variants of images: different, repeatable, within the range, and what an image shows is still seen."""

from typing import Any

import numpy as np
import tensorflow as tf

from trainer.augmentation import augment

Array = np.ndarray[Any, np.dtype[Any]]


def image() -> Array:
    """Rises from left to right in green, from top to bottom in red."""
    rows, columns = np.mgrid[:48, :64] / 64
    return np.stack([rows, columns, 0.5 + 0 * rows], axis=-1).astype(np.float32)


def variants(count: int, epoch: int = 0) -> Array:
    seeds = tf.constant([[number, epoch] for number in range(count)], tf.int32)
    found: Array = augment(tf.constant(np.stack([image()] * count)), seeds).numpy()
    return found


def test_a_seed_gives_one_variant_whatever_else_is_in_the_batch() -> None:
    many = variants(30)
    np.testing.assert_allclose(variants(4), many[:4], rtol=0, atol=1e-6)
    assert len({one.tobytes() for one in many}) == 30
    assert np.abs(variants(30, epoch=1) - many).max() > 0.1
    assert augment(tf.zeros([0, 8, 8, 3]), tf.zeros([0, 2], tf.int32)).shape == (0, 8, 8, 3)


def test_values_stay_within_the_range() -> None:
    white = tf.ones([30, 8, 8, 3])
    seeds = tf.constant([[number, 0] for number in range(30)], tf.int32)
    for found in (augment(white, seeds).numpy(), augment(white * 0, seeds).numpy(), variants(30)):
        assert found.min() >= 0
        assert found.max() <= 1
    assert 0.8 < augment(white, seeds).numpy().mean() < 1
    assert 0 < augment(white * 0, seeds).numpy().mean() < 0.2


def test_about_half_are_flipped_and_none_upside_down() -> None:
    found = variants(100)
    rises = found[:, :, -8:, 1].mean(axis=(1, 2)) > found[:, :, :8, 1].mean(axis=(1, 2))
    assert 30 < rises.sum() < 70
    assert (found[:, -8:, :, 0].mean(axis=(1, 2)) > found[:, :8, :, 0].mean(axis=(1, 2))).all()


def test_a_crop_shows_most_of_the_image() -> None:
    """The span of each ramp is what the crop kept of it, as contrast changes it by a fifth at most."""
    found = variants(100)
    wide = np.ptp(found[..., 1].mean(axis=1), axis=1) / np.ptp(image()[0, :, 1])
    high = np.ptp(found[..., 0].mean(axis=2), axis=1) / np.ptp(image()[:, 0, 0])
    assert wide.min() > 0.4
    assert high.min() > 0.4
    assert 0.7 < np.median(wide * high) < 0.95
    assert np.abs(wide - high).max() > 0.1  # of other proportions, too
