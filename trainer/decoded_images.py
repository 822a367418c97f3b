"""Decoded images of a training that goes over them many times: each is read and decoded once, where there is room."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from serving.contract import Preprocessing
from serving.errors import DiskFull
from serving.images.preprocessing import to_uint8
from trainer.data import create_data_batches, decoding, image_options, process_image
from trainer.kept_rows import KeptRows
from trainer.progress import Progress
from trainer.work_folder import WorkFolder

Array = np.ndarray[Any, np.dtype[Any]]

_IN_MEMORY = 512 * 2**20
"""Bytes of images that are kept in the process. More are in a file in the work folder, mapped into memory, of which
the system keeps as much in memory as there is room for, and gives it up where it is needed."""
_BATCH = 32
_BATCHES_A_RECORD = 8
"""After so many the file says how far it is: what a kill costs."""


class DecodedImages:
    """Images of a list of files, as `process_image` reads them.

    They are in memory, or in a file in the work folder; where there is no room for that either, they are decoded anew
    each time.
    """

    def __init__(
        self,
        paths: Sequence[str],
        preprocessing: Preprocessing,
        *,
        name: str,
        rounded: bool = False,
        work: WorkFolder | None = None,
        progress: Progress | None = None,
        in_memory: int = _IN_MEMORY,
    ) -> None:
        """Decodes them; goes on where a killed run with the same work folder stopped.

        Args:
          paths: of the images.
          preprocessing: the model's.
          name: of the file in the work folder; another list of images needs another one.
          rounded: to uint8, a quarter of the room: it moves MobileNetV2's scores by 0.004 in the mean, which is nothing
            beside augmentation and too much for images that say how good a model is.
          work: has room for those that don't fit into memory.
          progress: is told of each image, and where there is no room.
          in_memory: bytes that are kept in the process, if there is a work folder.

        Raises:
          tf.errors.OpError: an image can't be decoded.
        """
        self._paths = np.array([os.fsencode(path) for path in paths], object)
        self._rounded = rounded
        self._options = image_options(preprocessing)
        if rounded:
            self._options["value_range"] = (0.0, 1.0)
        self._decode = tf.function(self._decoded, input_signature=[tf.TensorSpec([None], tf.string)])
        shape = (len(paths), preprocessing.height, preprocessing.width, 3)
        dtype = np.uint8 if rounded else np.float32
        progress = progress or Progress()
        file: KeptRows | None = None
        self._kept: Array | None = None
        if work is None or np.prod(shape) * dtype().itemsize <= in_memory:
            self._kept = np.empty(shape, dtype)
        else:
            try:
                file = KeptRows(work, name, shape, dtype)
                self._kept = file.rows
            except DiskFull as error:
                progress.note(f"{error}: the images are decoded again in each epoch, which is slower")
        if self._kept is not None and len(paths):
            self._fill(self._kept, list(paths), file, progress)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: Array) -> Array:
        """Images of some rows, int [n].

        Returns:
          float32 [n, height, width, 3] in the value range; rounded, uint8.
        """
        if self._kept is not None:
            return self._kept[rows]
        with decoding():
            found: Array = self._decode(tf.constant(self._paths[rows], tf.string)).numpy()
        return found

    def _fill(self, kept: Array, paths: list[str], file: KeptRows | None, progress: Progress) -> None:
        done = file.done if file else 0
        progress.advance(done)
        if done == len(paths):
            return
        batches = create_data_batches(paths[done:], batch_size=_BATCH, test_data=True, **self._options)
        with decoding():
            for number, images in enumerate(batches, start=1):
                kept[done : done + len(images)] = (to_uint8(images) if self._rounded else images).numpy()
                done += len(images)
                progress.advance(len(images))
                if file and (number % _BATCHES_A_RECORD == 0 or done == len(paths)):
                    file.record(done)

    def _decoded(self, paths: tf.Tensor) -> tf.Tensor:
        images = tf.map_fn(
            lambda path: process_image(path, **self._options), paths, parallel_iterations=_BATCH,
            fn_output_signature=tf.float32,
        )  # fmt: skip
        return to_uint8(images) if self._rounded else images
