"""How a training is spread over devices: over all GPUs of the machine where there are several."""

import functools

import tensorflow as tf


@functools.cache  # what is made in the scope of one is of no use in another's, and two mix up their sums
def training_strategy(kind: str = "GPU") -> tf.distribute.Strategy:
    """One replica a device where there is more than one of the kind, else TensorFlow's default of one device.

    A model has to be made in its `scope()`. See https://www.tensorflow.org/guide/distributed_training.
    """
    devices = tf.config.list_logical_devices(kind)
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()
