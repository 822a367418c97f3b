"""The hub module: a SavedModel folder, an archive, or a URL that is downloaded once."""

import contextlib
import dataclasses
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from serving.console.terminal import printable
from serving.errors import FlowImagesError, UsageError
from serving.model_store.versions import MODEL_FILE
from serving.storage.base import shown
from trainer.hub.download import downloaded, unpack
from trainer.hub.handle import check_hub_handle, is_archive, is_url, kaggle_url
from trainer.progress import Progress
from trainer.tensorflow_errors import explaining

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    import tensorflow_hub as hub

__all__ = ["HubModule", "hub", "load_module"]

_SIGNATURE = "serving_default"
_SIGNATURE_V1 = "default"
"""The signature of modules of TensorFlow 1 (https://www.tensorflow.org/hub/tf1_hub_module)."""
_PROBED = 2
"""Images of the first batch; a module that takes one at a time can't be trained on batches."""
_BLOCK = 2**20
_USUAL_OUTPUTS = ("default", "feature_vector", "features", "logits", "output_0")
_SIZE_OF_ANY = 224


@dataclasses.dataclass(frozen=True)
class HubModule:
    """A hub module, ready to be part of a model."""

    handle: str
    """The handle as the user gave it."""
    digest: str
    """SHA-256 of the SavedModel's files."""
    layer: tf_keras.layers.Layer
    """Maps float32 [n, image_size, image_size, 3] in the module's value range to float32 [n, features]."""
    image_size: int
    """Height and width in pixels."""
    features: int
    """Numbers that it gives for an image: a feature vector, or the scores of other classes."""


class _Callable(tf.Module):
    """What a SavedModel computes, as `hub.KerasLayer` expects it, for SavedModels that aren't TF Hub's own kind.

    Keras 3's `model.export()` has an endpoint `serve` and lists of its variables; any other SavedModel has signatures.
    A module that gives a map of features [n, h, w, features] is averaged over the map.
    """

    def __init__(self, loaded: Any) -> None:
        super().__init__()
        self.loaded = loaded
        endpoint = getattr(loaded, "serve", None)
        self._function = endpoint or loaded.signatures[_SIGNATURE]

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """All of the SavedModel's, where it lists them."""
        return tuple(getattr(self.loaded, "variables", ()))

    @property
    def trainable_variables(self) -> tuple[tf.Variable, ...]:
        """The variables that can be trained."""
        return tuple(getattr(self.loaded, "trainable_variables", ()))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        answer = self._function(images)
        if isinstance(answer, Mapping):
            answer = answer[_chosen_output(answer)]
        if answer.shape.rank == 4:
            answer = tf.reduce_mean(answer, [1, 2])
        return tf.cast(answer, tf.float32)


def _chosen_output(answer: Mapping[str, tf.Tensor]) -> str:
    """The one output, or the one of a usual name."""
    names = [name for name in _USUAL_OUTPUTS if name in answer] or list(answer)
    if len(names) > 1 and names[0] not in _USUAL_OUTPUTS:
        raise ValueError(f"it has {len(answer)} outputs ({', '.join(sorted(answer))}), and none of a usual name")
    return names[0]


def load_module(
    handle: str, *, trainable: bool = False, image_size: int | None = None, progress: Progress | None = None
) -> HubModule:
    """Loads a hub module, and finds out what images it takes and how many features it gives.

    Args:
      handle: TF Hub URL, Kaggle handle, SavedModel folder or archive.
      trainable: whether its weights are to be trained.
      image_size: height and width in pixels; None for what the module says, or 224 if it takes any.
      progress: is told of a download, and of what is tried again.

    Raises:
      UsageError: there is no such module, it is none, it takes images of another size, or it can't be trained.
      MayPass: it can't be had now, or there is no space for it.
    """
    name = f"`hub_model` {printable(shown(handle))}"
    check_hub_handle(handle)
    try:
        with _folder(handle, name, progress or Progress()) as folder:
            digest = _digest(folder)
            layer, loaded = _loaded(folder, trainable, stays=not is_archive(handle))
            sizes = _sizes(loaded)
    except (OSError, ValueError, RuntimeError, AttributeError, KeyError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"{name} is not a reusable TF 2 module: {reason}") from error
    fixed = UsageError(f"{name} has no weights that can be trained: leave out `fine_tune`")
    if trainable and _is_v1(loaded):
        raise fixed
    size = _chosen_size(name, sizes, image_size)
    features = _features(name, layer, size)
    if trainable and not layer.trainable_weights:
        raise fixed
    return HubModule(handle, digest, layer, size, features)


def _loaded(folder: str, trainable: bool, *, stays: bool) -> tuple[tf_keras.layers.Layer, Any]:
    """The layer of a SavedModel, and what it was made of.

    Args:
      folder: the SavedModel's.
      trainable: whether its weights are to be trained.
      stays: whether the folder is there later: a layer that knows it can be saved to an .h5 file.
    """
    if stays:
        with contextlib.suppress(ValueError):  # it is not TF Hub's own kind
            layer = hub.KerasLayer(folder, trainable=trainable)
            key = _output_key(layer.resolved_object)
            if key:
                layer = hub.KerasLayer(folder, trainable=trainable, output_key=key)
            return layer, layer.resolved_object
    loaded = hub.load(folder)
    return _layer(loaded, trainable), loaded


def _layer(loaded: Any, trainable: bool) -> tf_keras.layers.Layer:
    if callable(loaded):
        return hub.KerasLayer(loaded, trainable=trainable, output_key=_output_key(loaded))
    if _is_v1(loaded):
        return hub.KerasLayer(loaded, signature=_SIGNATURE_V1, output_key="default")
    return hub.KerasLayer(_Callable(loaded), trainable=trainable)


def _is_v1(loaded: Any) -> bool:
    """Is it a module of TensorFlow 1, whose weights TF Hub does not train any more?"""
    return getattr(loaded, "_is_hub_module_v1", False) is True


def _output_key(loaded: Any) -> str | None:
    """The name of the output to take, of a module that can be called and gives several."""
    functions = getattr(loaded.__call__, "concrete_functions", ()) if callable(loaded) else ()
    answers = [function.structured_outputs for function in functions]
    return next((_chosen_output(answer) for answer in answers if isinstance(answer, Mapping)), None)


def _sizes(loaded: Any) -> set[tuple[int | None, int | None]]:
    """Heights and widths of the images that the module says to take; empty if it says nothing."""
    called = [getattr(loaded, name, None) for name in ("serve", "__call__")]
    functions = [one for function in called for one in getattr(function, "concrete_functions", ())]
    signatures = getattr(loaded, "signatures", {})
    if not functions:
        functions = [signatures[name] for name in (_SIGNATURE, _SIGNATURE_V1) if name in signatures][:1]
    return {
        (spec.shape[1], spec.shape[2])
        for function in functions
        for spec in tf.nest.flatten(function.structured_input_signature)
        if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4
    }


def _chosen_size(name: str, sizes: set[tuple[int | None, int | None]], wanted: int | None) -> int:
    if wanted is None:
        square = sorted(height for height, width in sizes if height is not None and height == width)
        return square[0] if square else _SIZE_OF_ANY
    if sizes and not any(height in (None, wanted) and width in (None, wanted) for height, width in sizes):
        takes = " or ".join(f"{height} x {width}" for height, width in sorted(sizes, key=str))
        raise UsageError(f"`image_size` {wanted}: {name} takes images of {takes} pixels")
    return wanted


def _features(name: str, layer: tf_keras.layers.Layer, size: int) -> int:
    try:
        strategy = tf.distribute.get_strategy()  # in whose scope a layer is called as its replicas do
        answers = strategy.run(lambda: layer(tf.zeros([_PROBED, size, size, 3]), training=False))
        answer = strategy.experimental_local_results(answers)[0]
    except tf.errors.ResourceExhaustedError as error:
        raise FlowImagesError(
            f"there is too little memory to run one image through {name}: take a smaller one"
        ) from error
    except (TypeError, ValueError, tf.errors.OpError) as error:
        lines = [line for line in str(error).strip().splitlines() if line and not line.startswith("Exception enc")]
        reason = lines[0] if lines else type(error).__name__
        raise UsageError(f"{name} can't be used on a batch of images of {size} x {size} floats: {reason}") from error
    shape = answer.shape if tf.is_tensor(answer) else None
    if shape is None or len(shape) != 2:
        what = f"a {type(answer).__name__}" if shape is None else str(tuple(shape[1:]))
        raise UsageError(
            f"{name} gives {what} for an image, and not one row of features: take a feature_vector or classification "
            "module"
        )
    return int(shape[1])


def _digest(folder: str) -> str:
    """SHA-256 over the names and bytes of a SavedModel's files; the folder may be in a bucket that TensorFlow reads."""
    files = {
        os.path.relpath(os.path.join(parent, name), folder): os.path.join(parent, name)
        for parent, _, names in tf.io.gfile.walk(folder)
        for name in names
    }
    digest = hashlib.sha256()
    for relative, path in sorted(files.items()):
        content = hashlib.sha256()
        with tf.io.gfile.GFile(path, "rb") as file:
            while data := file.read(_BLOCK):
                content.update(data)
        digest.update(f"{relative}\0{content.hexdigest()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@contextlib.contextmanager
def _folder(handle: str, name: str, progress: Progress) -> Iterator[str]:
    """The SavedModel's folder, while the block runs."""
    if is_url(handle) and (kaggle_url(handle) or handle.startswith(("http://", "https://"))):
        yield str(downloaded(handle, progress))
    elif is_url(handle):  # a bucket, which TensorFlow reads itself
        with explaining(f"{name} can't be read"):
            folder = hub.resolve(handle)
        yield folder
    elif is_archive(handle):
        with contextlib.ExitStack() as stack:
            with explaining(f"{name} can't be unpacked"):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flow-images-hub-"))
                unpack(Path(handle), Path(folder), name)
            found = sorted(Path(folder).rglob(MODEL_FILE))
            if not found:
                raise UsageError(f"{name}: there is no {MODEL_FILE} in the archive")
            yield str(found[0].parent)
    else:
        yield handle
