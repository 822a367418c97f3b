"""Logs for TensorBoard: loss and accuracy by epoch, on the training and the validation images."""

import math
from pathlib import Path

import tensorflow as tf

from serving.console.terminal import printable
from trainer.progress import Epoch, Progress
from trainer.tensorflow_errors import explaining

_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)
"""What `tf.summary.scalar` writes, which asks for TensorBoard to be installed; 1 is DATA_CLASS_SCALAR."""


class TensorBoardProgress(Progress):
    """Passes everything on to another progress, and writes each epoch to a folder."""

    def __init__(self, folder: str, other: Progress) -> None:
        """Makes the folder.

        Raises:
          UsageError, DiskFull: it can't be written.
        """
        self._folder, self._other = folder, other
        self._step = ""
        with explaining(f"`tensorboard` {printable(folder)} can't be written"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._writers = {
                name: tf.summary.create_file_writer(f"{folder}/{name}") for name in ("training", "validation")
            }

    def begin(self, step: str, total: int | None = None) -> None:
        """The step is the prefix of its figures."""
        self._step = step
        self._other.begin(step, total)

    def advance(self, count: int = 1) -> None:
        """Passed on."""
        self._other.advance(count)

    def note(self, text: str) -> None:
        """Passed on."""
        self._other.note(text)

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Written, and passed on."""
        figures = {
            "training": (epoch.loss, epoch.accuracy),
            "validation": (epoch.validation_loss, epoch.validation_accuracy),
        }
        for name, (loss, accuracy) in figures.items():
            if math.isfinite(loss):
                with self._writers[name].as_default(step=epoch.number):
                    tf.summary.write(f"{self._step}/loss", tf.constant(loss), metadata=_SCALAR)
                    tf.summary.write(f"{self._step}/accuracy", tf.constant(accuracy), metadata=_SCALAR)
                self._writers[name].flush()
        self._other.epoch(epoch, epochs)
