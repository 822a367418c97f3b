"""The model: a TensorFlow Hub module and a dense softmax head."""

import logging
from collections.abc import Callable, Sequence

import tf_keras

from serving.errors import UsageError
from trainer.data import IMG_SIZE
from trainer.head import Head
from trainer.hub.module import HubModule, hub, load_module
from trainer.progress import Progress
from trainer.train_options import MODEL_URL

__all__ = [
    "INPUT_SHAPE",
    "MODEL_URL",
    "OUTPUT_SHAPE",
    "create_model",
    "load_model",
    "model_of",
    "with_head",
    "with_temperature",
]

INPUT_SHAPE = [None, IMG_SIZE, IMG_SIZE, 3]
OUTPUT_SHAPE = 120
"""Kaggle's dog breeds."""

_LOG = logging.getLogger(__name__)


def create_model(
    input_shape: Sequence[int | None] = tuple(INPUT_SHAPE),
    output_shape: int = OUTPUT_SHAPE,
    hub_url: str = MODEL_URL,
    *,
    fine_tune: bool = False,
    learning_rate: float = 1e-3,
    note: Callable[[str], None] = _LOG.warning,
) -> tf_keras.Model:
    """A compiled Keras model: hub module, then a dense layer with softmax.

    Args:
      input_shape: [None, height, width, 3].
      output_shape: number of classes.
      hub_url: TF Hub URL, SavedModel folder or archive.
      fine_tune: train the module's weights, too.
      learning_rate: of Adam.
      note: is told what of the module is waited for.

    Returns:
      A model from float32 [batch, height, width, 3] in the module's value range to float32 [batch, classes].

    Raises:
      UsageError: the module can't be had, is none, or takes images of another size.
      MayPass: the module can't be had now.
    """
    height, width = input_shape[1:3]
    if height is None or height != width:
        raise UsageError(f"a model takes square images, not {height} x {width}")
    module = load_module(hub_url, trainable=fine_tune, image_size=height, progress=_Notes(note))
    return _compiled(model_of(module, output_shape), learning_rate)


class _Notes(Progress):
    """Passes notes on."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def note(self, text: str) -> None:
        self._note(text)


def model_of(module: HubModule, classes: int, dropout: float = 0.0) -> tf_keras.Model:
    """The layers of a model: the hub module, dropout where it is wanted, and a dense layer with softmax."""
    layers = [module.layer]
    if dropout:
        layers.append(tf_keras.layers.Dropout(dropout))
    layers.append(tf_keras.layers.Dense(classes, activation="softmax", dtype="float32"))
    model = tf_keras.Sequential(layers)
    model.build([None, module.image_size, module.image_size, 3])
    return model


def _compiled(model: tf_keras.Model, learning_rate: float) -> tf_keras.Model:
    """The model, ready for `fit` on one-hot labels by Adam."""
    model.compile(
        loss=tf_keras.losses.CategoricalCrossentropy(),
        optimizer=tf_keras.optimizers.Adam(learning_rate),
        metrics=["accuracy"],
    )
    return model


def with_head(model: tf_keras.Model, head: Head) -> tf_keras.Model:
    """The model, with a trained head's weights in its last layer."""
    model.layers[-1].set_weights([head.kernel, head.bias])
    return model


def with_temperature(model: tf_keras.Model, temperature: float) -> tf_keras.Model:
    """A model of the same layers whose probabilities are softmax(logits / temperature), with no optimizer.

    The temperature divides the last layer's weights, so the served graph has no further step (Guo et al. 2017).
    """
    *layers, last = model.layers
    head = tf_keras.layers.Dense(last.units, activation="softmax", dtype="float32")
    served = tf_keras.Sequential([*(layer for layer in layers if not isinstance(layer, tf_keras.layers.Dropout)), head])
    served.build(model.input_shape)
    head.set_weights([weights / temperature for weights in last.get_weights()])
    return served


def load_model(model_path: str) -> tf_keras.Model:
    """Loads a model that was saved with `model.save`, hub layer included."""
    return tf_keras.models.load_model(model_path, custom_objects={"KerasLayer": hub.KerasLayer})
