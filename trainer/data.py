"""Batches of images and one-hot labels for training, validation and testing."""

import contextlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf

from serving.contract import Orientation, Preprocessing
from serving.images.decoding_cost import first_frame
from serving.images.preprocessing import decode_image, to_range
from serving.process.decoder_messages import without_decoder_messages

IMG_SIZE = 224
BATCH_SIZE = 32

Array = np.ndarray[Any, np.dtype[Any]]


@tf.autograph.experimental.do_not_convert
def process_image(
    image_path: tf.Tensor,
    img_size: int = IMG_SIZE,
    orientation: Orientation = "ignore",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> tf.Tensor:
    """Reads an image file as the model sees it.

    Args:
      image_path: string scalar.
      img_size: height and width of the result.
      orientation: `ignore`, or `exif` to turn it upright.
      value_range: what black and white become.

    Returns:
      float32 [img_size, img_size, 3], RGB, values in the range.
    """
    preprocessing = Preprocessing(height=img_size, width=img_size, orientation=orientation)
    return to_range(decode_image(first_frame(tf.io.read_file(image_path)), preprocessing), value_range)


def image_options(preprocessing: Preprocessing) -> dict[str, Any]:
    """The options of `process_image` by which it does what a model's preprocessing says."""
    return {
        "img_size": preprocessing.height,
        "orientation": preprocessing.orientation,
        "value_range": preprocessing.value_range,
    }


def get_image_label(image_path: tf.Tensor, label: tf.Tensor, **options: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """An image as `process_image` reads it (which takes the options), with its label untouched."""
    return process_image(image_path, **options), label


def decoding() -> AbstractContextManager[None]:
    """Entered while images are decoded that are checked: what the decoders print is held back.

    But not where there is a GPU, whose driver may end the process with its last words.
    """
    return contextlib.nullcontext() if tf.config.list_physical_devices("GPU") else without_decoder_messages()


def one_hot(labels: Sequence[str], names: Sequence[str]) -> Array:
    """bool [images, classes]: True where the image shows the class."""
    return np.array(labels)[:, np.newaxis] == np.array(names)


def create_data_batches(
    X: Sequence[str],
    y: Array | None = None,
    batch_size: int = BATCH_SIZE,
    valid_data: bool = False,
    test_data: bool = False,
    *,
    seed: int | None = None,
    **options: Any,
) -> tf.data.Dataset:
    """Batches of images, read and decoded in parallel.

    Training data are shuffled anew in each epoch, over paths, so before any image is read. Validation and test
    data keep their order.

    Args:
      X: paths of images.
      y: bool [images, classes]; unused for test data.
      batch_size: images a batch; the last may be smaller.
      valid_data: validation data.
      test_data: data without labels.
      seed: makes the shuffle the same in each run.
      options: of `process_image`.

    Returns:
      float32 [batch, img_size, img_size, 3], for test data; else with bool [batch, classes].
    """
    paths = tf.constant([os.fsencode(path) for path in X], tf.string)
    if test_data:
        data = tf.data.Dataset.from_tensor_slices(paths)
        data = data.map(lambda path: process_image(path, **options), num_parallel_calls=tf.data.AUTOTUNE)
    else:
        data = tf.data.Dataset.from_tensor_slices((paths, tf.constant(y, tf.bool)))
        if not valid_data:
            data = data.shuffle(len(X), seed=seed, reshuffle_each_iteration=True)
        data = data.map(
            lambda path, label: get_image_label(path, label, **options), num_parallel_calls=tf.data.AUTOTUNE
        )
    return data.batch(batch_size).prefetch(tf.data.AUTOTUNE)
