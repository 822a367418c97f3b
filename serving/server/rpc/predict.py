"""Predict: a signature's inputs in, its outputs out.

Checks run in this order: model, signature, method name, number of inputs, names and decoding, output filter, run.

| Condition | Code | Message |
| --- | --- | --- |
| no model_spec | INVALID_ARGUMENT | `Missing ModelSpec` |
| signature missing | FAILED_PRECONDITION | `Serving signature key "<name>" not found.` |
| too many or too few inputs | INVALID_ARGUMENT | `input size does not match signature: …` |
| right number, wrong name | INVALID_ARGUMENT | `Signature input alias: <alias>(feed name: <tensor>) not found …` |
| an input that does not decode | INVALID_ARGUMENT | `tensor parsing error: <alias>` |
| output_filter names no output | INVALID_ARGUMENT | `output tensor alias not found in signature: <alias> …` |
| output_filter repeats a name | INVALID_ARGUMENT | `duplicate output tensor alias: <alias>` |
| wrong dtype, a kernel's refusal | TensorFlow's own | TensorFlow's own |

Shapes of the signature are not enforced, dtypes never converted.
"""

from collections.abc import Mapping, Sequence

from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving.server.models.servable import DEFAULT_SIGNATURE, Servable
from serving.server.rpc import message_codec, tensors
from serving.server.rpc.status_error import Code, StatusError, invalid_argument
from serving.server.rpc.tensors import Array

_METHODS = tuple(f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))
NO_CONTENTS: Mapping[str, memoryview] = {}


def predict(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    contents: Mapping[str, memoryview],
    timeout_s: float | None,
    *,
    check_method: bool = False,
    as_content: bool = False,
) -> bytes:
    """Answers a PredictRequest.

    Args:
      servable: the model and version that the request chose.
      request: perhaps without its large contents.
      contents: those contents by input alias (`message_codec.parse_predict`).
      timeout_s: what is left of the client's deadline.
      check_method: --enable_signature_method_name_check.
      as_content: --enable_serialization_as_tensor_content.

    Returns:
      A serialised PredictResponse.

    Raises:
      StatusError: see the table above.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    check(signature, request.inputs, check_method)
    feeds = _feeds(signature, request.inputs, contents)
    aliases = _fetched(signature, request.output_filter)
    outputs = servable.run(feeds, [signature.outputs[alias].name for alias in aliases], timeout_s)
    return message_codec.predict_response(
        model_spec(request.model_spec.name, servable.version, name),
        ((alias, tensors.encode(o, as_content=as_content)) for alias, o in zip(aliases, outputs, strict=True)),
    )


def model_spec(name: str, version: int, signature: str = "") -> model_pb2.ModelSpec:
    """The model_spec of a response: what ran. Labels are not echoed."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    return spec


def _feeds(
    signature: meta_graph_pb2.SignatureDef,
    inputs: Mapping[str, tensor_pb2.TensorProto],
    contents: Mapping[str, memoryview],
) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    for alias in sorted(signature.inputs):
        info = signature.inputs[alias]
        if alias in inputs:
            proto = inputs[alias]
        elif alias in signature.defaults:
            proto = signature.defaults[alias]
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_braced(inputs)}, or default input alias set: "
                + ",".join(sorted(signature.defaults))
            )
        try:
            feeds[info.name] = tensors.decode(proto, contents.get(alias))
        except (StatusError, MemoryError, OverflowError, ValueError) as error:
            raise invalid_argument(f"tensor parsing error: {alias}") from error
    extra = set(inputs) - set(signature.inputs)
    if extra:
        used = ",".join(sorted(set(inputs) - extra))
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {used}, request input: {','.join(sorted(inputs))}"
        )
    return feeds


def check(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, object], check_method: bool) -> None:
    """Refuses a signature of another method, if that is asked for, and too many or too few inputs."""
    if check_method and signature.method_name not in _METHODS:
        wanted = ", ".join(_METHODS)
        raise StatusError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{wanted}}}. Was: {signature.method_name}",
        )
    sent, known = set(inputs), set(signature.inputs)
    if len(sent) > len(known) or (len(sent) < len(known) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(known)} "
            f"len({_braced(sent)}) != len({_braced(known)}). "
            f"Sent extra: {_braced(sent - known)}. Missing but required: {_braced(known - sent)}."
        )


def _fetched(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """The aliases of the outputs to run and return."""
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_braced(signature.outputs)}."
            )
        if alias in chosen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen or sorted(signature.outputs)


def _braced(names: Mapping[str, object] | set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
