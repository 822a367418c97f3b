"""The model: a TensorFlow Hub module and a dense softmax head."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from serving.errors import UsageError
from trainer.data import IMG_SIZE
from trainer.hub import hub, hub_layer
from trainer.options import MODEL_URL

__all__ = ["INPUT_SHAPE", "MODEL_URL", "OUTPUT_SHAPE", "create_model", "load_model"]

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
      A model from float32 [batch, height, width, 3] in 0..1 to float32 [batch, classes].

    Raises:
      UsageError: the module can't be had, is none, or takes images of another size.
      MayPass: the module can't be had now.
    """
    layer = hub_layer(hub_url, fine_tune, note)
    _check_size(layer.resolved_object, hub_url, input_shape)
    model = tf_keras.Sequential([layer, tf_keras.layers.Dense(units=output_shape, activation="softmax")])
    model.compile(
        loss=tf_keras.losses.CategoricalCrossentropy(),
        optimizer=tf_keras.optimizers.Adam(learning_rate),
        metrics=["accuracy"],
    )
    try:
        model.build(list(input_shape))
    except (TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"`hub_model` {hub_url} can't be used on a batch of images as [0, 1] floats: {reason}"
        ) from error
    if model.output_shape != (None, output_shape):
        raise UsageError(
            f"`hub_model` {hub_url} gives more than one row of features an image ({layer.output_shape}): "
            "take a feature_vector or classification module"
        )
    if fine_tune and not layer.trainable_weights:
        raise UsageError(f"`hub_model` {hub_url} has no weights that can be trained: leave out `fine_tune`")
    return model


def load_model(model_path: str) -> tf_keras.Model:
    """Loads a model that was saved with `model.save`, hub layer included."""
    return tf_keras.models.load_model(model_path, custom_objects={"KerasLayer": hub.KerasLayer})


def _check_size(module: Any, handle: str, input_shape: Sequence[int | None]) -> None:
    sizes = {
        tuple(spec.shape[1:3])
        for function in getattr(module.__call__, "concrete_functions", ())
        for spec in tf.nest.flatten(function.structured_input_signature[0])[:1]
        if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4
    }
    wanted = tuple(input_shape[1:3])
    fits = any(all(have in (None, want) for have, want in zip(size, wanted, strict=True)) for size in sizes)
    if sizes and not fits:
        takes = " or ".join(f"{size[0]} x {size[1]}" for size in sorted(sizes, key=str))
        raise UsageError(f"`image_size` {wanted[0]}: the hub module {handle} takes images of {takes} pixels")
