"""Exports a trained model with its contract: one SavedModel in an integer version folder, published whole.

A version is first written aside and checked there; then the caller can measure it before it is published.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from serving.contract import (
    CONTRACT_ASSET,
    CONTRACT_INPUT,
    CONTRACT_KEY,
    CONTRACT_OUTPUT,
    CONTRACT_SIGNATURE,
    STANDARD_SIGNATURES,
    ModelContract,
    Preprocessing,
    golden_distance,
    golden_key,
)
from serving.errors import FlowImagesError
from serving.images.preprocessing import decode_batch, from_uint8, to_range
from serving.images.wire import Wire
from serving.model_store.publish import Publication
from serving.storage.stores import Stores
from trainer.golden import choose_golden, draw_golden, preprocessed, reference_answers
from trainer.tensorflow_errors import explaining
from trainer.warmup_requests import write_warmup

Array = np.ndarray[Any, np.dtype[Any]]
Model = Callable[[tf.Tensor], tf.Tensor]
"""float32 [n, height, width, 3] in the value range to float32 [n, classes]; trackable, so its variables are saved."""

_EXTRA = "assets.extra"
_SAME = 1e-3
"""Largest `golden_distance` between the model in memory and what was written of it."""
_AT_ONCE = 256
"""Files of a request that are decoded and asked about together: a request of 100 KB may have 50,000 empty ones, which
would be 30 GB of pixels."""
_LIBRARIES = ("flow-images", "tensorflow", "tf-keras", "tensorflow-hub", "numpy")


class Certainty(NamedTuple):
    """What a contract says of answers that are not sure; see `ModelContract`."""

    threshold: float | None = None
    target_precision: float | None = None
    groups: Mapping[str, str] | None = None


class Exported:
    """A version that is written, loads, and answers as the model did; not published yet."""

    def __init__(self, folder: str, contract: ModelContract) -> None:
        self.folder, self.contract = folder, contract
        self._loaded = tf.saved_model.load(folder)

    def ask(self, wire: Wire, value: Any) -> Array:
        """Probabilities [n, classes] from the signature of a wire form."""
        reference = STANDARD_SIGNATURES[wire]
        answer: Array = self._loaded.signatures[reference.name](tf.constant(value))[reference.output].numpy()
        return answer

    def look_up(self, keys: Sequence[str]) -> list[bytes]:
        """Values of the `contract` signature."""
        answer = self._loaded.signatures[CONTRACT_SIGNATURE](tf.constant(list(keys)))[CONTRACT_OUTPUT]
        values: list[bytes] = answer.numpy().tolist()
        return values

    def add(self, name: str, text: str, folder: str = _EXTRA) -> None:
        """Writes one more file, beside the contract or in another folder of the version."""
        with _writing(self.folder):
            (Path(self.folder) / folder / name).write_text(text, encoding="utf-8")

    def check(self, golden: Sequence[bytes]) -> None:
        """Asks the written model all that a client would.

        Raises:
          FlowImagesError: an answer is not that of the model in memory.
        """
        expected = self.contract.golden
        assert expected is not None
        for wire, rows in expected.references.items():
            value = preprocessed(golden, self.contract.preprocessing, wire)
            distance = golden_distance(self.ask(wire, value).tolist(), rows)
            if not distance < _SAME:
                raise FlowImagesError(
                    f"the exported model does not answer as the trained one (`wire` {wire}: a probability differs by "
                    f"{distance:.4f} in the mean); nothing was published"
                )
        stored, *files = self.look_up([CONTRACT_KEY, *map(golden_key, range(len(golden)))])
        if ModelContract.from_json(stored) != self.contract or files != list(golden):
            raise FlowImagesError("the exported model answers with another contract; nothing was published")


def export(
    model: Model,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    images: Sequence[str] | None,
    *,
    store: str,
    name: str,
    version: int | None = None,
) -> str:
    """Publishes a model as `<store>/<name>/<version>/` and returns that path; see `exporting` and `Publication`."""
    target = Publication(store, name, version, Stores().writable(store))
    with exporting(model, labels, preprocessing, images, target):
        pass
    return target.path


@contextlib.contextmanager
def exporting(
    model: Model,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    images: Sequence[str] | None,
    version: Publication,
    certainty: Certainty | None = None,
) -> Iterator[Exported]:
    """Writes a version aside, and publishes it when the block ends without an error.

    Args:
      model: what the signatures call.
      labels: class names in the order of the outputs.
      preprocessing: what the model was trained with.
      images: paths to choose golden images from, which become part of the model; None to draw them.
      version: where it will be published.
      certainty: what the contract says of unsure answers.

    Raises:
      FlowImagesError: the written model does not answer as the one in memory.
      UsageError: the version was published by somebody else meanwhile, or can't be written.
      DiskFull, StorageUnavailable: a disk is full, or the store can't be reached.
    """
    module = _Module(model, preprocessing)
    golden = draw_golden(preprocessing, module.answer) if images is None else choose_golden(images, preprocessing)
    certainty = certainty or Certainty()
    contract = ModelContract(
        labels=list(labels),
        preprocessing=preprocessing,
        golden=reference_answers(golden, preprocessing, module.answer),
        threshold=certainty.threshold,
        target_precision=certainty.target_precision if certainty.threshold is not None else None,
        groups=dict(certainty.groups) if certainty.groups else None,
        versions={library: metadata.version(library) for library in _LIBRARIES},
    )
    with version.staging() as folder:
        with _writing(folder):
            _write(module, contract, golden, folder)
        exported = Exported(folder, contract)
        exported.check(golden)
        yield exported
        version.publish(folder)


def _writing(folder: str) -> contextlib.AbstractContextManager[None]:
    return explaining(f"the model can't be written to {folder}")


def _write(module: "_Module", contract: ModelContract, golden: Sequence[bytes], folder: str) -> None:
    contents = {CONTRACT_KEY: contract.to_json().encode()}
    contents |= {golden_key(index): data for index, data in enumerate(golden)}
    tf.saved_model.save(module, folder, signatures=module.signatures(contents))
    extra = Path(folder) / _EXTRA
    extra.mkdir()
    (extra / CONTRACT_ASSET).write_text(contract.to_json(), encoding="utf-8")
    write_warmup(extra, contract.preprocessing, golden[0])


class _Module(tf.Module):
    """The functions behind the signatures. Each checks its input's shape: a wrong rank may kill a real server."""

    def __init__(self, model: Model, preprocessing: Preprocessing) -> None:
        super().__init__()
        shape = [None, preprocessing.height, preprocessing.width, 3]
        self.model = model
        self.table: tf.lookup.StaticHashTable | None = None

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
        def from_float32(images: tf.Tensor) -> tf.Tensor:
            return tf.cast(model(tf.ensure_shape(images, shape)), tf.float32)

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="images")])
        def from_bytes(images: tf.Tensor) -> tf.Tensor:
            return from_float32(to_range(from_uint8(tf.ensure_shape(images, shape)), preprocessing.value_range))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def from_files(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            files = tf.ensure_shape(image_bytes, [None])
            parts = tf.maximum(-(-tf.size(files) // _AT_ONCE), 1)
            probabilities = tf.TensorArray(tf.float32, parts, infer_shape=False)
            oks = tf.TensorArray(tf.bool, parts, infer_shape=False)
            for part in tf.range(parts):
                images, ok = decode_batch(files[part * _AT_ONCE : (part + 1) * _AT_ONCE], preprocessing)
                ranged = to_range(images, preprocessing.value_range)
                probabilities = probabilities.write(part, from_float32(ranged))
                oks = oks.write(part, ok)
            classes = from_float32.get_concrete_function().output_shapes[1:]
            return tf.ensure_shape(probabilities.concat(), [None, *classes]), tf.ensure_shape(oks.concat(), [None])

        self.from_float32, self.from_bytes, self.from_files = from_float32, from_bytes, from_files

    def answer(self, wire: Wire, value: Any) -> Array:
        """Probabilities [n, classes] for the input of a wire form."""
        answer: Array
        if wire == "encoded":
            answer = self.from_files(tf.constant(value))[0].numpy()
        else:
            answer = (self.from_float32 if wire == "float32" else self.from_bytes)(tf.constant(value)).numpy()
        return answer

    def signatures(self, contents: dict[str, bytes]) -> dict[str, Any]:
        """The four signatures as `serving.contract` names them."""
        keys, values = tf.constant(list(contents)), tf.constant(list(contents.values()))
        table = self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), "")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=CONTRACT_INPUT)])
        def look_up(keys: tf.Tensor) -> dict[str, tf.Tensor]:
            return {CONTRACT_OUTPUT: table.lookup(tf.ensure_shape(keys, [None]))}

        functions = {"float32": self.from_float32, "uint8": self.from_bytes, "encoded": self.from_files}
        signatures: dict[str, Any] = {CONTRACT_SIGNATURE: look_up}
        for wire, reference in STANDARD_SIGNATURES.items():
            signatures[reference.name] = _named(functions[wire], reference.output, reference.ok)
        return signatures


def _named(function: Any, output: str, ok: str | None) -> Any:
    @tf.function(input_signature=function.input_signature)
    def signature(value: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = function(value)
        return {output: answer[0], ok: answer[1]} if ok else {output: answer}

    return signature
