"""Exports a trained model with its contract: one SavedModel in an integer version folder, published whole.

A version is first written aside and checked there; then the caller can measure it before it is published.
"""

import contextlib
import functools
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
    EMBEDDING_SIGNATURES,
    STANDARD_SIGNATURES,
    Embeddings,
    ModelContract,
    Preprocessing,
    SignatureRef,
    golden_distance,
    golden_key,
)
from serving.errors import FlowImagesError
from serving.images.preprocessing import decode_batch, from_uint8, to_range
from serving.images.wire import Wire
from serving.model_store.publish import Publication
from serving.model_store.versions import EXTRA
from serving.storage.stores import Stores
from trainer.before_head import PartedModel, part_before_head
from trainer.golden import choose_golden, draw_golden, preprocessed, reference_answers
from trainer.tensorflow_errors import explaining
from trainer.warmup_requests import write_warmup

Array = np.ndarray[Any, np.dtype[Any]]
Model = Callable[[tf.Tensor], tf.Tensor]
"""float32 [n, height, width, 3] in the value range to float32 [n, classes]; trackable, so its variables are saved."""

_SAME = 1e-3
"""Largest `golden_distance` between the model in memory and what was written of it."""
_AT_ONCE = 256
"""Files of a request that are decoded and asked about together: a request of 100 KB may have 50,000 empty ones, which
would be 30 GB of pixels."""
_SCORES, _OK, _EMBEDDINGS = "probabilities", "ok", "embeddings"
"""The outputs, as the signatures of `serving.contract` name them."""
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

    def ask(self, signature: SignatureRef, value: Any) -> Array:
        """Probabilities [n, classes] from a signature."""
        answer: Array = self._loaded.signatures[signature.name](tf.constant(value))[signature.output].numpy()
        return answer

    def look_up(self, keys: Sequence[str]) -> list[bytes]:
        """Values of the `contract` signature."""
        answer = self._loaded.signatures[CONTRACT_SIGNATURE](tf.constant(list(keys)))[CONTRACT_OUTPUT]
        values: list[bytes] = answer.numpy().tolist()
        return values

    def add(self, name: str, text: str, folder: str = EXTRA) -> None:
        """Writes one more file, beside the contract or in another folder of the version."""
        with _writing(self.folder):
            (Path(self.folder) / folder / name).write_text(text, encoding="utf-8")

    def check(self, golden: Sequence[bytes]) -> None:
        """Asks the written model all that a client would.

        Raises:
          FlowImagesError: an answer is not that of the model in memory.
        """
        expected, embeddings = self.contract.golden, self.contract.embeddings
        assert expected is not None
        signatures = [*self.contract.signatures.items(), *(embeddings.signatures.items() if embeddings else ())]
        for wire, signature in signatures:
            value = preprocessed(golden, self.contract.preprocessing, wire)
            distance = golden_distance(self.ask(signature, value).tolist(), expected.references[wire])
            if not distance < _SAME:
                raise FlowImagesError(
                    f"the exported model does not answer as the trained one (signature {signature.name}: a probability "
                    f"differs by {distance:.4f} in the mean); nothing was published"
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
        embeddings=Embeddings(width=module.width) if module.width else None,
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
    extra = Path(folder) / EXTRA
    extra.mkdir()
    (extra / CONTRACT_ASSET).write_text(contract.to_json(), encoding="utf-8")
    write_warmup(extra, contract.preprocessing, golden[0])


class _Module(tf.Module):
    """The functions behind the signatures, and the variables that they use."""

    def __init__(self, model: Model, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.table: tf.lookup.StaticHashTable | None = None
        self._scoring = _by_wire(lambda images: {_SCORES: model(images)}, preprocessing)
        parted = part_before_head(model)
        self.width = parted.width if parted else None
        self._embedding = _by_wire(functools.partial(_both, parted), preprocessing) if parted else {}

    def answer(self, wire: Wire, value: Any) -> Array:
        """Probabilities [n, classes] for the input of a wire form."""
        answer: Array = self._scoring[wire](tf.constant(value))[_SCORES].numpy()
        return answer

    def signatures(self, contents: dict[str, bytes]) -> dict[str, Any]:
        """The signatures as `serving.contract` names them."""
        keys, values = tf.constant(list(contents)), tf.constant(list(contents.values()))
        table = self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), "")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=CONTRACT_INPUT)])
        def look_up(keys: tf.Tensor) -> dict[str, tf.Tensor]:
            return {CONTRACT_OUTPUT: table.lookup(tf.ensure_shape(keys, [None]))}

        signatures: dict[str, Any] = {CONTRACT_SIGNATURE: look_up}
        signatures |= {STANDARD_SIGNATURES[wire].name: function for wire, function in self._scoring.items()}
        return signatures | {EMBEDDING_SIGNATURES[wire].name: function for wire, function in self._embedding.items()}


def _both(parted: PartedModel, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Probabilities and embeddings, from one pass."""
    features = parted.body(images)
    return {_SCORES: parted.head(features), _EMBEDDINGS: features}


def _by_wire(
    network: Callable[[tf.Tensor], dict[str, tf.Tensor]], preprocessing: Preprocessing
) -> dict[Wire, tf.types.experimental.PolymorphicFunction]:
    """For each wire form, the function from its input to a network's outputs, by their names.

    Each checks its input's shape: a wrong rank may kill a real server.
    """
    shape = [None, preprocessing.height, preprocessing.width, 3]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def from_float32(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = network(tf.ensure_shape(images, shape))
        return {name: tf.cast(output, tf.float32) for name, output in outputs.items()}

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="images")])
    def from_bytes(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return from_float32(to_range(from_uint8(tf.ensure_shape(images, shape)), preprocessing.value_range))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def from_files(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        files = tf.ensure_shape(image_bytes, [None])
        specs = from_float32.get_concrete_function().structured_outputs
        count = tf.maximum(-(-tf.size(files) // _AT_ONCE), 1)
        parts = [tf.TensorArray(tf.float32, count, infer_shape=False) for _ in specs]
        oks = tf.TensorArray(tf.bool, count, infer_shape=False)
        for number in tf.range(count):
            images, ok = decode_batch(files[number * _AT_ONCE : (number + 1) * _AT_ONCE], preprocessing)
            outputs = from_float32(to_range(images, preprocessing.value_range))
            parts = [part.write(number, outputs[name]) for part, name in zip(parts, specs, strict=True)]
            oks = oks.write(number, ok)
        found = {
            name: tf.ensure_shape(part.concat(), specs[name].shape) for part, name in zip(parts, specs, strict=True)
        }
        return found | {_OK: tf.ensure_shape(oks.concat(), [None])}

    return {"float32": from_float32, "uint8": from_bytes, "encoded": from_files}
