"""Takes a model apart before its head, so that one pass gives the probabilities and the layer that they come from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras


class PartedModel(NamedTuple):
    """Two parts which, one after the other, are the model; they share its variables."""

    body: Callable[[tf.Tensor], tf.Tensor]
    """From float32 [n, height, width, 3] in the value range to the features [n, width]."""
    head: Callable[[tf.Tensor], tf.Tensor]
    """From the features to probabilities [n, classes]."""
    width: int


def part_before_head(model: Any) -> PartedModel | None:
    """The parts of a model as `trainer.model` makes them; None for any other, whose head is not known.

    Args:
      model: layers one after another, of which the last one is dense; or anything that is called with images.
    """
    if not isinstance(model, tf_keras.Sequential) or len(model.layers) < 2:
        return None
    *layers, head = model.layers
    if not isinstance(head, tf_keras.layers.Dense):
        return None
    body = tf_keras.Sequential(layers)
    body.build(model.input_shape)
    shape = body.output_shape
    if len(shape) != 2 or shape[1] is None:
        return None
    return PartedModel(lambda images: body(images, training=False), head, shape[1])
