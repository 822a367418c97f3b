"""The model: a TensorFlow Hub module and a dense softmax head."""

import contextlib
import socket
import tarfile
import tempfile
import urllib.error
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from serving.errors import UsageError
from trainer.data import IMG_SIZE
from trainer.options import MODEL_URL

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    import tensorflow_hub as hub

__all__ = ["INPUT_SHAPE", "MODEL_URL", "OUTPUT_SHAPE", "create_model", "load_model"]

INPUT_SHAPE = [None, IMG_SIZE, IMG_SIZE, 3]
OUTPUT_SHAPE = 120
"""Kaggle's dog breeds."""

_DOWNLOAD_TIMEOUT_S = 60.0
"""Without an answer: a firewall that drops packets would keep a run hanging for ever."""
_ARCHIVES = (".tar.gz", ".tgz", ".tar")


def create_model(
    input_shape: Sequence[int | None] = tuple(INPUT_SHAPE),
    output_shape: int = OUTPUT_SHAPE,
    hub_url: str = MODEL_URL,
    *,
    fine_tune: bool = False,
    learning_rate: float = 1e-3,
) -> tf_keras.Model:
    """A compiled Keras model: hub module, then a dense layer with softmax.

    Args:
      input_shape: [None, height, width, 3].
      output_shape: number of classes.
      hub_url: TF Hub URL, SavedModel folder or archive.
      fine_tune: train the module's weights, too.
      learning_rate: of Adam.
    Returns:
      A model from float32 [batch, height, width, 3] in 0..1 to float32 [batch, classes].
    Raises:
      UsageError: the module can't be had, is none, or takes pictures of another size.
    """
    layer = _hub_layer(hub_url, fine_tune)
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
            f"--hub-model {hub_url} can't be used on a batch of pictures as [0, 1] floats: {reason}"
        ) from error
    if model.output_shape != (None, output_shape):
        raise UsageError(
            f"--hub-model {hub_url} gives more than one row of features a picture ({layer.output_shape}): "
            "take a feature_vector or classification module"
        )
    if fine_tune and not layer.trainable_weights:
        raise UsageError(f"--hub-model {hub_url} has no weights that can be trained: leave out --fine-tune")
    return model


def load_model(model_path: str) -> tf_keras.Model:
    """Loads a model that was saved with `model.save`, hub layer included."""
    return tf_keras.models.load_model(model_path, custom_objects={"KerasLayer": hub.KerasLayer})


def _hub_layer(handle: str, trainable: bool) -> hub.KerasLayer:
    try:
        if "://" in handle:
            with _network_timeout():
                hub.resolve(handle)  # into the cache, from where the layer takes it
            return hub.KerasLayer(handle, trainable=trainable)
        if handle.endswith(_ARCHIVES) and Path(handle).is_file():
            with _unpacked(handle) as folder:
                return hub.KerasLayer(hub.load(folder), trainable=trainable)
        if not (Path(handle) / "saved_model.pb").is_file():
            raise UsageError(
                f"--hub-model {handle}: no such SavedModel; expected a folder with saved_model.pb, an archive "
                f"({', '.join(_ARCHIVES)}) or a URL"
            )
        return hub.KerasLayer(handle, trainable=trainable)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise UsageError(
            f"--hub-model {handle} can't be reached ({getattr(error, 'reason', error)}). Where there is no internet, "
            "download the module's .tar.gz elsewhere and give its path"
        ) from error
    except (OSError, ValueError, RuntimeError, AttributeError, tarfile.TarError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"--hub-model {handle} is not a reusable TF 2 module: {reason}") from error


@contextlib.contextmanager
def _network_timeout() -> Iterator[None]:
    """TensorFlow Hub opens its connections without a limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _unpacked(archive: str) -> Iterator[str]:
    """The folder of the SavedModel in an archive, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="flow-images-hub-") as folder:
        with tarfile.open(archive) as members:
            members.extractall(folder, filter="data")  # no absolute paths, no links out of the folder
        found = sorted(Path(folder).rglob("saved_model.pb"))
        if not found:
            raise UsageError(f"--hub-model {archive}: there is no saved_model.pb in the archive")
        yield str(found[0].parent)


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
        raise UsageError(f"--image-size {wanted[0]}: the hub module {handle} takes pictures of {takes} pixels")
