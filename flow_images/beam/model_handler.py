"""A handler of Beam's RunInference for a model on a TensorFlow Serving server."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from serving.client.client_options import Endpoint, TlsOptions, make_endpoint
from serving.client.model_calls import Signature, TensorSpec
from serving.client.predict_client import PredictClient, pinned
from serving.console.option_fields import Options, option, options_class
from serving.errors import ContractError, InvalidRequest, MalformedAnswer, RequestTooLarge, UsageError
from serving.network.protos.tensor_codec import Value
from serving.network.retry import RetryPolicy, retry_rejected

Array = np.ndarray[Any, np.dtype[Any]]
Field = Array | np.generic | bytes | float
"""One example's value of one tensor: the row without the batch axis, or a byte string of a string tensor."""
Example = Field | Mapping[str, Field]
"""One example: the value of the signature's only input, or a value for each input by its name."""


@options_class
class _HandlerOptions(Options):
    """What is asked for, and how many examples at once."""

    signature: str = option("Name of the signature.")
    outputs: Sequence[str] = option("Names of the outputs.")
    batch_size: int = option("Examples a request.", least=1)
    max_batch_duration_secs: float | None = option("Seconds to wait for a batch to fill.", least=0)


class TFServingModelHandler(ModelHandler[Example, PredictionResult, "ServedSignature"]):
    """Asks a signature of a model on a TensorFlow Serving server, over gRPC.

        handler = fi.beam.TFServingModelHandler("serving:8500", "dogs")
        results = arrays | RunInference(handler)
        keyed_results = keyed_arrays | RunInference(KeyedModelHandler(handler))

    Any signature and any model will do. An example is an array without the batch axis (such as float32 or uint8
    [height, width, 3]), or `bytes` for a string input (such as `serving_encoded`, which takes whole image files); for
    a signature of several inputs a dict of such values by input name. The dtype must be the signature's: nothing is
    cast.

    A result is a `PredictionResult` with the example, `inference`: a dict of the example's row of each output, and
    `model_id`: `NAME/VERSION` of the model that answered. Where a signature has an output such as `ok` of
    `serving_encoded`, an image that can't be decoded is a result with `ok` False, and costs the other images nothing.

    An example has exactly one result, or the bundle fails: an answer that lacks rows, a refused request (after a few
    tries, because where the server batches requests together, another client's bad one can fail ours), and a server
    that is away for `patience_s`. Beam's own retrying of remote handlers is not used.

    The version is resolved and pinned when a worker's process loads the handler; all of its requests ask for that
    version and all answers are checked to be of it. Give `version` so that workers which start at different times ask
    the same one. A bearer token is taken from the variable FLOW_IMAGES_TOKEN on the worker.
    """

    def __init__(
        self,
        server: str,
        model_name: str,
        *,
        version: int | None = None,
        signature: str = "serving_default",
        outputs: Sequence[str] = (),
        tls: TlsOptions | bool | None = None,
        deadline_s: float = RetryPolicy().deadline_s,
        patience_s: float = RetryPolicy().patience_s,
        batch_size: int = 32,
        max_batch_duration_secs: float | None = None,
    ) -> None:
        """Checks the arguments; nothing is asked before `load_model`.

        Args:
          server: HOST:PORT of the gRPC port, several IP:PORT with commas, `dns:///HOST:PORT` or `unix:/PATH`.
          model_name: the model's name on the server.
          version: the version to ask; None for the latest when a process loads the handler.
          signature: its name.
          outputs: names of the outputs wanted; empty for all.
          tls: True or TlsOptions for a server with TLS.
          deadline_s: seconds that one request may take.
          patience_s: seconds to go on trying while the server is away or overloaded.
          batch_size: examples a request; the last one of a bundle may have fewer.
          max_batch_duration_secs: seconds to wait for a batch of a stream to fill, over bundles. None: a batch does
            not cross bundles.

        Raises:
          UsageError: a wrong value.
        """
        options = _HandlerOptions(
            signature=signature,
            outputs=outputs,
            batch_size=batch_size,
            max_batch_duration_secs=max_batch_duration_secs,
        )
        super().__init__(
            min_batch_size=options.batch_size,
            max_batch_size=options.batch_size,
            max_batch_duration_secs=options.max_batch_duration_secs,
        )
        self._endpoint = make_endpoint(server, model_name, version, tls)
        self._retry = RetryPolicy(deadline_s=deadline_s, patience_s=patience_s)
        self._signature = options.signature
        self._outputs = options.outputs

    def load_model(self) -> "ServedSignature":
        """Opens a channel, pins the version and asks for the signature.

        Raises:
          ContractError: the model has no such signature or outputs.
          ServingError: the server can't be asked, or has no such model or version.
        """
        return ServedSignature(self._endpoint, self._retry, self._signature, self._outputs)

    def run_inference(
        self, batch: Sequence[Example], model: "ServedSignature", inference_args: dict[str, Any] | None = None
    ) -> list[PredictionResult]:
        """One result for each example, in their order.

        Raises:
          InvalidRequest: an example of the wrong shape, dtype or names (seen before sending), or the server refuses;
            MalformedAnswer where an output has not one row for each example.
          ServingError: see `serving.client.predict_client.PredictClient.predict`.
        """
        rows = model.ask(batch)
        return [PredictionResult(example, row, model.id) for example, row in zip(batch, rows, strict=True)]

    def get_num_bytes(self, batch: Sequence[Example]) -> int:
        """Bytes of the examples' values."""
        return sum(_bytes_of(field) for example in batch for field in _fields(example))

    def get_metrics_namespace(self) -> str:
        """The namespace of the metrics that Beam counts for this handler: `flow_images`."""
        return "flow_images"

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        """A request has no arguments besides its tensors.

        Raises:
          UsageError: some are given.
        """
        if inference_args:
            raise UsageError(
                f"inference_args {', '.join(inference_args)}: a signature takes tensors alone; leave them out"
            )

    def share_model_across_processes(self) -> bool:
        """False: a channel belongs to its process, and costs little."""
        return False


class ServedSignature:
    """A signature of one version of a model, and the channel to ask it; safe to use from several threads."""

    def __init__(self, endpoint: Endpoint, retry: RetryPolicy, name: str, outputs: Sequence[str]) -> None:
        """Opens the channel; see `TFServingModelHandler.load_model`."""
        self._endpoint = pinned(endpoint, retry)
        self._client = PredictClient(self._endpoint, retry=retry)
        self._name = name
        self._signature = self._find()
        self._outputs = list(outputs) or list(self._signature.outputs)
        if unknown := set(self._outputs) - self._signature.outputs.keys():
            raise ContractError(
                f"signature {name} has no output {', '.join(unknown)}, but {', '.join(self._signature.outputs)}"
            )
        sizes = {spec.shape[0] for spec in self._signature.inputs.values() if spec.shape}
        self._batch = max(sizes, default=-1)

    @property
    def id(self) -> str:
        """`NAME/VERSION`."""
        return f"{self._endpoint.model_name}/{self._endpoint.version}"

    def ask(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        """The row of each output, by its name, for each example; a request that is too large is halved."""
        rows: list[dict[str, Any]] = []
        size = self._batch if self._batch > 0 else len(examples)
        todo = [examples[start : start + size] for start in range(0, len(examples), size)][::-1]
        while todo:
            part = todo.pop()
            try:
                rows += self._ask_once(part)
            except RequestTooLarge:
                if len(part) == 1 or self._batch > 0:
                    raise
                todo += [part[len(part) // 2 :], part[: len(part) // 2]]
        return rows

    def _find(self) -> Signature:
        signatures = self._client.metadata().signatures
        if self._name not in signatures:
            raise ContractError(f"the model has no signature {self._name}; it has {', '.join(signatures)}")
        return signatures[self._name]

    def _ask_once(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        """One request; it is filled up with its last example where the signature takes so many and no fewer."""
        sent = [*examples, *[examples[-1]] * (self._batch - len(examples))]
        columns = {name: self._column(name, spec, sent) for name, spec in self._signature.inputs.items()}
        answer = retry_rejected(
            lambda: self._client.predict(columns, signature=self._name, outputs=self._outputs), lambda: _REFUSALS
        )
        for name, values in answer.items():
            if values.ndim == 0 or len(values) != len(sent):
                raise MalformedAnswer(
                    f"output {name} is {values.dtype} {list(values.shape)} for a request of {len(sent)} examples: it "
                    "has not one row for each. Choose other outputs with `outputs`",
                    self._endpoint.address,
                )
        return [{name: values[index] for name, values in answer.items()} for index in range(len(examples))]

    def _column(self, name: str, spec: TensorSpec, examples: Sequence[Example]) -> Value:
        """The values that the examples have for an input."""
        fields = [self._field(name, example) for example in examples]
        if spec.dtype == "string":
            if not all(isinstance(field, bytes) for field in fields):
                raise self._refusal(name, spec, next(field for field in fields if not isinstance(field, bytes)))
            return [field for field in fields if isinstance(field, bytes)]
        arrays = [
            np.asarray(field, dtype=spec.dtype if isinstance(field, (int, float)) else None)
            for field in fields
            if not isinstance(field, bytes)
        ]
        wrong = [
            array
            for array in arrays
            if array.dtype != spec.dtype or array.shape != arrays[0].shape or not _is_row(array.shape, spec)
        ]
        if len(arrays) < len(fields) or wrong:
            raise self._refusal(name, spec, wrong[0] if wrong else b"")
        return arrays

    def _field(self, name: str, example: Example) -> Field:
        names = sorted(self._signature.inputs)
        if not isinstance(example, Mapping):
            if len(names) > 1:
                raise InvalidRequest(
                    f"signature {self._name} has the inputs {', '.join(names)}: an example must be a dict of them; "
                    "nothing was sent"
                )
            return example
        if set(example) != set(names):
            raise InvalidRequest(
                f"an example has {', '.join(sorted(example))}; signature {self._name} has the inputs "
                f"{', '.join(names)}; nothing was sent"
            )
        return example[name]

    def _refusal(self, name: str, spec: TensorSpec, field: Array | Field) -> InvalidRequest:
        got = f"{field.dtype} {list(field.shape)}" if isinstance(field, np.ndarray) else type(field).__name__
        row = "" if spec.shape is None else f" {['?' if size < 0 else size for size in spec.shape[1:]]}"
        return InvalidRequest(
            f"an example is {got}; input {name} of signature {self._name} takes "
            f"{'bytes' if spec.dtype == 'string' else spec.dtype + row}, the same shape for a whole batch; nothing was "
            "sent"
        )


_REFUSALS = 3
"""How often a request is sent that is refused, as another client's may be the cause."""


def _is_row(shape: Sequence[int], spec: TensorSpec) -> bool:
    """Can an example of this shape be a row of an input? True where the server doesn't tell."""
    if not spec.shape:
        return True
    wanted = spec.shape[1:]
    return len(shape) == len(wanted) and all(size in (-1, found) for size, found in zip(wanted, shape, strict=True))


def _fields(example: Example) -> Sequence[Field]:
    return list(example.values()) if isinstance(example, Mapping) else [example]


def _bytes_of(field: Field) -> int:
    return len(field) if isinstance(field, bytes) else np.asarray(field).nbytes
