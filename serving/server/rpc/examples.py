"""Classify, Regress and MultiInference: tf.Examples in, labels and numbers out.

The examples, serialised, are fed as one string vector [n] to the signature's only input, `inputs`.

| Condition | Code | Message |
| --- | --- | --- |
| signature missing | INVALID_ARGUMENT | `No signature was found with the name: <name>` |
| not exactly one input | INVALID_ARGUMENT | `Expected one input Tensor.` |
| it isn't called `inputs` | INVALID_ARGUMENT | `No classification|regression inputs found in SignatureDef: …` |
| Classify: not one or two outputs | INVALID_ARGUMENT | `Expected one or two output Tensors, found <n>` |
| Regress: not one output | INVALID_ARGUMENT | `Expected one output Tensor.` |
| Classify: no `classes`, no `scores` | INVALID_ARGUMENT | `Expected classification signature outputs to contain …` |
| Regress: no output `outputs` | INVALID_ARGUMENT | `No regression outputs found in SignatureDef: …` |
| no examples | INVALID_ARGUMENT | `Input is empty.` |
| an output's dtype or shape | INVALID_ARGUMENT | see `_classifications` and `_regressions` |
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.dtypes import as_dtype
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2

from serving.server.models.servable import DEFAULT_SIGNATURE, Servable
from serving.server.rpc.predict import model_spec
from serving.server.rpc.status_error import Code, StatusError, invalid_argument
from serving.server.rpc.tensors import Array

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_NOUNS = {CLASSIFY: "classification", REGRESS: "regression"}
Signature: TypeAlias = meta_graph_pb2.SignatureDef


def classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    timeout_s: float | None,
    *,
    check_method: bool = False,
) -> classification_pb2.ClassificationResponse:
    """Answers a ClassificationRequest.

    Args:
      servable: the model and version that the request chose.
      request: with its examples.
      timeout_s: what is left of the client's deadline.
      check_method: --enable_signature_method_name_check.

    Raises:
      StatusError: see the table above, or whatever the graph's parser says of the examples.
    """
    signature = _signature(servable, request.model_spec.signature_name)
    fed, fetched = _wiring(signature, CLASSIFY, check_method)
    outputs, count = _run(servable, request.input, [fed], fetched, timeout_s)
    response = classification_pb2.ClassificationResponse()
    response.result.CopyFrom(_classifications(signature, outputs, count))
    response.model_spec.CopyFrom(_ran(servable, request.model_spec))
    return response


def regress(
    servable: Servable,
    request: regression_pb2.RegressionRequest,
    timeout_s: float | None,
    *,
    check_method: bool = False,
) -> regression_pb2.RegressionResponse:
    """Answers a RegressionRequest; as `classify`."""
    signature = _signature(servable, request.model_spec.signature_name)
    fed, fetched = _wiring(signature, REGRESS, check_method)
    outputs, count = _run(servable, request.input, [fed], fetched, timeout_s)
    response = regression_pb2.RegressionResponse()
    response.result.CopyFrom(_regressions(signature, outputs, count))
    response.model_spec.CopyFrom(_ran(servable, request.model_spec))
    return response


def multi_inference(
    servable: Servable,
    request: inference_pb2.MultiInferenceRequest,
    timeout_s: float | None,
    *,
    check_method: bool = False,
) -> inference_pb2.MultiInferenceResponse:
    """Answers several classifications and regressions of the same examples with a single run of the graph.

    Raises:
      StatusError: INVALID_ARGUMENT for tasks that don't go together, UNIMPLEMENTED for another method, or as
        `classify`.
    """
    planned: dict[str, Signature] = {}
    fed, fetched = set[str](), set[str]()
    for task in request.tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = _task_signature(servable, request, task, name, planned)
        task_fed, task_fetched = _wiring(signature, task.method_name, check_method)
        fed.add(task_fed)  # TensorFlow 2 gives each signature a placeholder of its own
        fetched.update(task_fetched)
        planned[name] = signature
    outputs, count = _run(servable, request.input, sorted(fed), sorted(fetched), timeout_s)
    response = inference_pb2.MultiInferenceResponse()
    for task, signature in zip(request.tasks, planned.values(), strict=True):
        result = response.results.add()
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(_classifications(signature, outputs, count))
        else:
            result.regression_result.CopyFrom(_regressions(signature, outputs, count))
        result.model_spec.CopyFrom(_ran(servable, task.model_spec))
    return response


def _task_signature(
    servable: Servable,
    request: inference_pb2.MultiInferenceRequest,
    task: inference_pb2.InferenceTask,
    name: str,
    planned: Mapping[str, object],
) -> Signature:
    if not task.model_spec.name:
        raise invalid_argument("Found ModelSpec with an empty model name.")
    if task.model_spec.name != request.tasks[0].model_spec.name:
        raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    if name in planned:
        raise invalid_argument(f"Duplicate evaluation of signature: {name}")
    if name not in servable.signatures:
        raise invalid_argument(f"Requested signature not found in model graph: {name}")
    if task.method_name not in _NOUNS:
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
    return servable.signatures[name]


def _signature(servable: Servable, name: str) -> Signature:
    name = name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return servable.signatures[name]


def _ran(servable: Servable, asked: model_pb2.ModelSpec) -> model_pb2.ModelSpec:
    """The model_spec of a response, as Predict's: with the name of the signature that ran."""
    return model_spec(asked.name, servable.version, asked.signature_name or DEFAULT_SIGNATURE)


def _wiring(signature: Signature, method: str, check_method: bool) -> tuple[str, list[str]]:
    """The tensor to feed and those to fetch."""
    noun = _NOUNS[method]
    if check_method and signature.method_name != method:
        raise invalid_argument(f"Expected {noun} signature method_name to be {method}. Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if method == CLASSIFY and len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if method == REGRESS and len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No {noun} inputs found in SignatureDef: {signature}")
    aliases = ("classes", "scores") if method == CLASSIFY else ("outputs",)
    fetched = [signature.outputs[alias].name for alias in aliases if alias in signature.outputs]
    if not fetched:
        text = (
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was:'
            if method == CLASSIFY
            else "No regression outputs found in SignatureDef:"
        )
        raise invalid_argument(f"{text} {signature}")
    return signature.inputs["inputs"].name, fetched


def serialized_examples(request_input: input_pb2.Input) -> list[bytes]:
    """The examples as the graph gets them; a context is put before each, which protobuf reads as a merge.

    Raises:
      StatusError: INVALID_ARGUMENT if there are none.
    """
    kind = request_input.WhichOneof("kind")
    examples = getattr(request_input, kind).examples if kind else ()
    if not examples:
        raise invalid_argument("Input is empty.")
    context = b""
    if kind == "example_list_with_context":
        context = request_input.example_list_with_context.context.SerializeToString()
    return [context + example.SerializeToString() for example in examples]


def _run(
    servable: Servable,
    request_input: input_pb2.Input,
    fed: Sequence[str],
    fetched: Sequence[str],
    timeout_s: float | None,
) -> tuple[dict[str, Array], int]:
    """Feeds the examples to each tensor of `fed`. Tensor name to array of the outputs, and the number of examples."""
    examples = serialized_examples(request_input)
    vector = np.empty(len(examples), object)
    vector[:] = examples
    outputs = servable.run(dict.fromkeys(fed, vector), fetched, timeout_s)
    return dict(zip(fetched, map(np.asarray, outputs), strict=True)), len(examples)


def _classifications(
    signature: Signature, outputs: Mapping[str, Array], count: int
) -> classification_pb2.ClassificationResult:
    """Labels and scores, [n, k] each; a missing one of the two stays "" or 0."""

    def output(alias: str, wanted: int) -> Array | None:
        if alias not in signature.outputs:
            return None
        array = outputs[signature.outputs[alias].name]
        if array.ndim != 2:
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if _type(array) != wanted:
            named = types_pb2.DataType.Name
            raise invalid_argument(f"Expected {alias} Tensor of {named(wanted)}. Got: {named(_type(array))}")
        if array.shape[0] != count:
            raise invalid_argument(f"Expected {alias} output batch size of {count}. Got: {array.shape[0]}")
        return array

    classes = output("classes", types_pb2.DT_STRING)
    scores = output("scores", types_pb2.DT_FLOAT)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    known = classes if classes is not None else scores
    width = 0 if known is None else known.shape[1]
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        labels = [""] * width if classes is None else [_text(label) for label in classes[row]]
        values = [0.0] * width if scores is None else scores[row].tolist()
        added = result.classifications.add()
        for label, value in zip(labels, values, strict=True):
            added.classes.add(label=label, score=value)
    return result


def _regressions(signature: Signature, outputs: Mapping[str, Array], count: int) -> regression_pb2.RegressionResult:
    """One float per example, from an output [n] or [n, 1]."""
    array = outputs[signature.outputs["outputs"].name]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}"
        )
    if array.shape[0] != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {array.shape[0]}")
    if _type(array) != types_pb2.DT_FLOAT:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {types_pb2.DataType.Name(_type(array))}")
    result = regression_pb2.RegressionResult()
    for value in array.reshape(-1).tolist():
        result.regressions.add(value=value)
    return result


def _type(array: Array) -> int:
    return int(as_dtype(array.dtype if array.dtype != object else "string").as_datatype_enum)


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _text(label: bytes) -> str:
    """A label as the proto's string field holds it; bytes that aren't UTF-8 can't be sent as they are."""
    return label.decode("utf-8", "replace")
