"""Fine-tunes the model: splits the images, fits, and reports each epoch."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from serving.console.terminal import printable
from serving.contract import Preprocessing
from serving.errors import FlowImagesError, UsageError
from serving.images.preprocessing import make_decoder
from trainer.data import create_data_batches, one_hot
from trainer.labelled_images import LabelledImage, class_names, read_again, stratified_split
from trainer.model import create_model
from trainer.options import TrainOptions

_LOG = logging.getLogger(__name__)


class Trained(NamedTuple):
    """A trained model, and the images that it was trained and validated on."""

    model: tf_keras.Model
    labels: list[str]
    preprocessing: Preprocessing
    training: list[LabelledImage]
    validation: list[LabelledImage]


class Epoch(NamedTuple):
    """The results of one pass over the training images."""

    number: int
    loss: float
    accuracy: float
    validation_accuracy: float


def train(
    images: Sequence[LabelledImage],
    options: TrainOptions,
    *,
    on_batch: Callable[[], None] = lambda: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    note: Callable[[str], None] = _LOG.warning,
) -> Trained:
    """Trains on one part of the images and validates on the other.

    On a CPU the same images, options and library versions give the same weights.

    Args:
      images: checked by `trainer.labelled_images.check_images`.
      options: hyperparameters.
      on_batch: called after each step.
      on_epoch: called after each epoch.
      note: is told what of the hub module is waited for.

    Raises:
      UsageError: the hub module can't be used, or an image can't be decoded.
      MayPass: the hub module can't be had now.
      FlowImagesError: training needs more memory than there is, or the loss is no number any more.
    """
    tf_keras.utils.set_random_seed(options.seed)
    labels = class_names(images)
    preprocessing = options.preprocessing()
    training, validation = stratified_split(images, share=options.validation_share, seed=options.seed)
    size = options.image_size
    model = create_model(
        [None, size, size, 3],
        len(labels),
        options.hub_model,
        fine_tune=options.fine_tune,
        learning_rate=options.rate,
        note=note,
    )
    try:
        model.fit(
            _batches(training, labels, options),
            validation_data=_batches(validation, labels, options, valid_data=True),
            epochs=options.epochs,
            callbacks=[_Report(on_batch, on_epoch)],
            verbose=0,
        )
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise FlowImagesError(
            f"there is too little memory for `batch_size` {options.batch_size} of {size} x {size} pixels: take smaller "
            "batches; nothing was published"
        ) from error
    except tf.errors.OpError as error:
        _name_damaged(images, preprocessing, error)
        reason = str(error.message).strip().partition("\n")[0]
        raise FlowImagesError(f"TensorFlow can't train: {reason}; nothing was published") from error
    served = tf_keras.Sequential(model.layers)  # without the optimizer, which a server has no use for
    served.build(model.input_shape)
    return Trained(served, labels, preprocessing, training, validation)


def _batches(
    images: Sequence[LabelledImage], labels: Sequence[str], options: TrainOptions, *, valid_data: bool = False
) -> tf.data.Dataset:
    return create_data_batches(
        [image.path for image in images],
        one_hot([image.label for image in images], labels),
        batch_size=options.batch_size,
        valid_data=valid_data,
        seed=options.seed,
        img_size=options.image_size,
        orientation=options.orientation,
    )


class _Report(tf_keras.callbacks.Callback):
    def __init__(self, on_batch: Callable[[], None], on_epoch: Callable[[Epoch], None]) -> None:
        super().__init__()
        self._on_batch, self._on_epoch = on_batch, on_epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._on_batch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise FlowImagesError(
                f"the loss is {logs['loss']} after epoch {epoch + 1}: take a smaller `learning_rate`; nothing was "
                "published"
            )
        self._on_epoch(Epoch(epoch + 1, logs["loss"], logs["accuracy"], logs["val_accuracy"]))


def _name_damaged(images: Sequence[LabelledImage], preprocessing: Preprocessing, error: Exception) -> None:
    """Looks for images that can't be decoded: a valid header proves little, and TensorFlow names no file.

    Raises:
      UsageError: some can't.
    """
    decode = make_decoder(preprocessing, "float32")
    broken = []
    for image in images:
        try:
            decode(read_again(image.path))
        except tf.errors.InvalidArgumentError:
            broken.append(printable(image.path))
    if broken:
        more = f" (and {len(broken) - 1} more: {', '.join(broken[1:10])})" if len(broken) > 1 else ""
        raise UsageError(
            f"{broken[0]} is damaged and can't be decoded{more}; mend or remove it, and its label"
        ) from error
