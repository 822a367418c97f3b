"""The features of images: each image is read, decoded and run through the hub module once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from serving.contract import Preprocessing
from trainer.data import create_data_batches, decoding, image_options
from trainer.kept_rows import KeptRows
from trainer.progress import Progress
from trainer.work_folder import WorkFolder

Array = np.ndarray[Any, np.dtype[Any]]

_IN_MEMORY = 2 * 2**30
"""Bytes of features; more stay in a file that is mapped into memory."""
_BATCHES_A_RECORD = 8
"""After so many the file says how far it is: what a kill costs."""


def extract_features(
    layer: tf_keras.layers.Layer,
    features: int,
    paths: Sequence[str],
    preprocessing: Preprocessing,
    *,
    name: str,
    batch_size: int = 32,
    work: WorkFolder | None = None,
    progress: Progress | None = None,
) -> Array:
    """Runs images through a layer, in batches; goes on where a killed run with the same work folder stopped.

    Args:
      layer: from float32 [n, height, width, 3] in the value range to float32 [n, features].
      features: how many.
      paths: of the images.
      preprocessing: from an image's bytes to the layer's input.
      name: of the file in the work folder; another list of images needs another one.
      batch_size: images that are run at once.
      work: keeps the features; None to keep them in memory only.
      progress: is told of each image.

    Returns:
      float32 [images, features], in the order of the paths.

    Raises:
      tf.errors.OpError: an image can't be decoded, or there is too little memory.
      DiskFull: the features don't fit into the work folder.
    """
    progress = progress or Progress()
    shape = (len(paths), features)
    file = KeptRows(work, name, shape, np.float32) if work is not None and paths else None
    found, done = (file.rows, file.done) if file else (np.empty(shape, np.float32), 0)
    progress.advance(done)

    @tf.function(input_signature=[tf.TensorSpec([None, preprocessing.height, preprocessing.width, 3], tf.float32)])
    def run(images: tf.Tensor) -> tf.Tensor:
        return layer(images, training=False)

    batches = create_data_batches(paths[done:], batch_size=batch_size, test_data=True, **image_options(preprocessing))
    with decoding():
        for number, images in enumerate(batches if done < len(paths) else (), start=1):
            rows = run(images).numpy()
            found[done : done + len(rows)] = rows
            done += len(rows)
            progress.advance(len(rows))
            if file and (number % _BATCHES_A_RECORD == 0 or done == len(paths)):
                file.record(done)
    return np.array(found) if found.nbytes <= _IN_MEMORY else found
