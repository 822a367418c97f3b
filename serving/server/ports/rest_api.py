"""The REST API as a function from request to answer; `rest_port.py` puts it on a port.

| Verb | Path |
| --- | --- |
| POST | `/v1/models/<name>[/versions/<n>|/labels/<l>]:predict`, `:classify`, `:regress` |
| GET | `/v1/models/<name>[/versions/<n>|/labels/<l>]`, the status |
| GET | `/v1/models/<name>[/versions/<n>|/labels/<l>]/metadata` |

Case is ignored, but for what is to be done. Anything else under `/v1/` is `Malformed request: <VERB> <path>`; a query
belongs to the path.
"""

import dataclasses
import re
import zlib
from collections.abc import Mapping
from urllib.parse import unquote

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server.models.servable import DEFAULT_SIGNATURE
from serving.server.ports import json_tensors, json_text
from serving.server.ports.json_text import Json
from serving.server.rpc import predict
from serving.server.rpc.core import ServerCore
from serving.server.rpc.status_error import Code, StatusError, from_exception, invalid_argument

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_ACTION = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<action>classify|regress|predict)", re.I | re.A)
_ABOUT = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<action>metadata))?", re.I | re.A)
_MAX_UNPACKED = 100 * 1024 * 1024

HTTP_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""All other codes are 500."""
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_NOT_FOUND = """<HTML><HEAD>
<TITLE>404 Not Found</TITLE>
</HEAD><BODY>
<H1>Not Found</H1>
</BODY></HTML>
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Further ones."""


class RestApi:
    """Answers REST requests for a ServerCore."""

    def __init__(self, core: ServerCore) -> None:
        self._core = core
        self._timeout_s = core.options.rest_api_timeout_in_ms / 1000

    def answer(self, verb: str, target: str, body: bytes, encoding: str = "") -> Answer:
        """Answers one request.

        Args:
          verb: GET, POST, …
          target: path and query as they came, still percent-encoded.
          body: as it came.
          encoding: the Content-Encoding header.
        """
        if not target.lower().startswith("/v1/"):
            return Answer(404, _NOT_FOUND, "text/html")
        cors = self._core.options.rest_api_enable_cors_support
        headers = CORS if cors else {}
        if verb == "OPTIONS":
            return Answer(200 if cors else 400, "", "text/html; charset=ISO-8859-1", headers)
        pattern = {"POST": _ACTION, "GET": _ABOUT}.get(verb)
        found = pattern.fullmatch(target) if pattern else None
        if found and found["version"] and not _is_int64(found["version"]):
            return Answer(400, "", headers=headers)
        try:
            if found is None or (verb == "POST" and found["action"] not in ("classify", "regress", "predict")):
                raise invalid_argument(f"Malformed request: {verb} {target}")
            return Answer(200, self._answer(found, body, encoding), headers=headers)
        except Exception as error:
            refusal = from_exception(error)
            if isinstance(error, UnicodeEncodeError):  # a name that is not UTF-8, where protobuf wants text
                refusal = invalid_argument(f"Not UTF-8: {error.object}")
            if isinstance(error, RecursionError):
                refusal = invalid_argument("JSON Parse error: nested too deeply")
            text = json_text.shown({"error": refusal.message})
            return Answer(HTTP_STATUS.get(refusal.code, 500), text, headers=headers)

    def _answer(self, found: re.Match[str], body: bytes, encoding: str) -> str:
        if not found["name"]:
            raise invalid_argument("Missing model name in request.")
        spec = _spec(found)
        if found.re is _ACTION:
            body = _unpacked(body, encoding)
            if found["action"] == "predict":
                with self._core.metrics.request(spec.name, "predict", "REST"):
                    return self._predict(spec, body)
            return self._classify(spec, body) if found["action"] == "classify" else self._regress(spec, body)
        if found["action"] == "metadata":
            with self._core.metrics.request(spec.name, "metadata", "REST"):
                return self._metadata(spec)
        with self._core.metrics.request(spec.name, "status", "REST"):
            request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
            return _as_json(self._core.get_model_status(request))

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        document = json_text.parse(body)
        name = _signature_name(document) or DEFAULT_SIGNATURE
        with self._core.serving(spec, "Predict") as servable:
            if name not in servable.signatures:
                raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
            signature = servable.signatures[name]
            if not signature.inputs:
                raise invalid_argument(f"Failed to get input map for signature: {name}")
            by_row = _by_row(document)
            if by_row:
                arrays = json_tensors.rows(document["instances"], signature.inputs)
            else:
                arrays = json_tensors.column(document["inputs"], signature.inputs)
            predict.check(signature, arrays, self._core.options.enable_signature_method_name_check)
            feeds = {signature.inputs[alias].name: array for alias, array in arrays.items()}
            aliases = sorted(signature.outputs)
            fetches = [signature.outputs[alias].name for alias in aliases]
            values = servable.run(feeds, fetches, self._timeout_s)
        outputs = dict(zip(aliases, map(np.asarray, values), strict=True))
        if self._core.options.strict and self._core.options.enable_serialization_as_tensor_content:
            # The binary looks for the values in the typed fields, which are empty then.
            outputs = {alias: np.full_like(o, b"" if o.dtype == object else 0) for alias, o in outputs.items()}
        return json_tensors.written_rows(outputs) if by_row else json_tensors.written_column(outputs)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        _fill_examples(json_text.parse(body), request)
        response = self._core.classify(request, self._timeout_s, "REST")
        lines = [
            "[" + ", ".join(f"[{json_text.quoted(c.label)}, {json_text.decimal(c.score)}]" for c in row.classes) + "]"
            for row in response.result.classifications
        ]
        return '{\n    "results": [' + ", ".join(lines) + "\n    ]\n}"

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        _fill_examples(json_text.parse(body), request)
        response = self._core.regress(request, self._timeout_s, "REST")
        values = ", ".join(json_text.decimal(regression.value) for regression in response.result.regressions)
        return '{\n    "results": [' + values + "]\n}"

    def _metadata(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._core.get_model_metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec_text, signatures_text = _as_json(response.model_spec), _as_json(signatures)
        return f'{{\n"model_spec":{spec_text},\n"metadata": {{"signature_def": {signatures_text}}}\n}}\n'


def _as_json(message: Message) -> str:
    text: str = json_format.MessageToJson(
        message,
        indent=1,
        ensure_ascii=False,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return text + "\n"


def _spec(found: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(found["name"]))
    if found["version"]:
        spec.version.value = int(found["version"].lstrip("0") or "0")
    elif found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _is_int64(digits: str) -> bool:
    significant = digits.lstrip("0")
    return len(significant) < 20 and int(significant or "0") < 1 << 63


def _unpacked(body: bytes, encoding: str) -> bytes:
    if "gzip" not in encoding.lower():
        return body
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, _MAX_UNPACKED)
    except zlib.error as error:
        raise invalid_argument(f"Failed to unpack the gzip body: {error}") from error
    if unpacker.unconsumed_tail:
        raise invalid_argument(f"The gzip body has more than {_MAX_UNPACKED} bytes")
    return plain


def _signature_name(document: Mapping[str, Json]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _misformatted(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def _misformatted(document: Mapping[str, Json], what: str) -> StatusError:
    return invalid_argument(f"JSON Value: {json_text.shown(document)} {what}")


def _by_row(document: Mapping[str, Json]) -> bool:
    """Whether the request is in row form; says what is wrong if it is in neither."""
    if "instances" in document and "inputs" in document:
        raise _misformatted(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        if not isinstance(document["instances"], list):
            raise _misformatted(document, "Excepting 'instances' to be an list/array")
        if not document["instances"]:
            raise _misformatted(document, "No values in 'instances' array")
        return True
    if "inputs" in document:
        return False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _fill_examples(
    document: Mapping[str, Json], request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest
) -> None:
    """Puts `signature_name`, `context` and `examples` of the JSON into the request."""
    request.model_spec.signature_name = _signature_name(document)
    if "examples" not in document:
        raise _misformatted(document, "When method is classify, key 'examples' is expected and was not found")
    if not isinstance(document["examples"], list):
        raise _misformatted(document, "Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise _misformatted(document, "'examples' value is an empty array")
    if "context" in document:
        request.input.example_list_with_context.context.CopyFrom(_example(document["context"]))
        filled = request.input.example_list_with_context.examples
    else:
        filled = request.input.example_list.examples
    filled.extend(_example(value) for value in document["examples"])


def _example(value: Json) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {json_text.json_type(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        values = content if isinstance(content, list) else [content]
        example.features.feature[name].CopyFrom(_feature(name, values))
    return example


_KIND_NAMES = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


def _feature(name: str, values: list[Json]) -> feature_pb2.Feature:
    feature = feature_pb2.Feature()
    if set(map(type, values)) == {float}:
        feature.float_list.value.extend(values)  # the common case, at the speed of C
        return feature
    for value in values:
        kind, item = _feature_value(name, value)
        known = feature.WhichOneof("kind")
        if known is not None and known != kind:
            raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[known]}")
        getattr(feature, kind).value.append(item)
    return feature


def _feature_value(name: str, value: Json) -> tuple[str, Json]:
    """The list of a Feature that this value belongs to, and the value as it stands there."""
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, int):
        if value >= 1 << 63:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64_list", value
    if isinstance(value, float):
        return "float_list", value
    if isinstance(value, str):
        return "bytes_list", value.encode("utf-8", "surrogateescape")
    if json_tensors.is_b64(value):
        return "bytes_list", json_tensors.b64(value)
    raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {json_text.json_type(value)}")
