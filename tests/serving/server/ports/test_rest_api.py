"""The REST API: paths, row and column form, examples, errors, and how numbers are written."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.server import EmbeddedServer, ServerOptions
from tests.serving.server.conftest import Gate

CONFIG = """
model_config_list {{
  config {{
    name: "m" base_path: "{folder}/m" model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
    version_labels {{ key: "old" value: 2 }}
  }}
  config {{ name: "half_plus_two" base_path: "{folder}/half_plus_two" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="module")
def rest(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    file = tmp_path_factory.mktemp("rest") / "models.config"
    file.write_text(CONFIG.format(folder=written))
    options = ServerOptions(
        model_config_file=str(file),
        port=-1,
        rest_api_port=-1,
        host="127.0.0.1",
        allow_version_labels_for_unavailable_models=True,
    )
    with (
        EmbeddedServer(options=options) as server,
        httpx.Client(base_url=f"http://{server.rest_address}", timeout=60) as client,
    ):
        yield client


def predict(rest: httpx.Client, body: Any, path: str = "/v1/models/m") -> Any:
    response = rest.post(f"{path}:predict", content=json.dumps(body))
    assert response.headers["content-type"].startswith("application/json")
    return response.json()


def error(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"])


def test_row_form(rest: httpx.Client) -> None:
    assert predict(rest, {"instances": [[1, 2], [3.5, 4]]}) == {"predictions": [[4, 5], [6.5, 7]]}
    assert predict(rest, {"instances": [{"x": [1, 2]}]}) == {"predictions": [[4, 5]]}


def test_row_form_with_several_inputs_and_outputs(rest: httpx.Client) -> None:
    body = {"signature_name": "two", "instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}
    assert predict(rest, body) == {"predictions": [{"product": 2, "sum": 3}, {"product": 12, "sum": 7}]}


def test_column_form(rest: httpx.Client) -> None:
    assert predict(rest, {"inputs": [[1, 2]]}) == {"outputs": [[4, 5]]}
    assert predict(rest, {"inputs": {"x": [[1, 2]]}}) == {"outputs": [[4, 5]]}
    body = {"signature_name": "two", "inputs": {"a": [1, 3], "b": [2, 4]}}
    assert predict(rest, body) == {"outputs": {"product": [2, 12], "sum": [3, 7]}}


def test_scalar_outputs_go_in_columns_only(rest: httpx.Client) -> None:
    body: dict[str, Any] = {"signature_name": "total", "inputs": [[1, 2]]}
    assert predict(rest, body) == {"outputs": 3}
    body["instances"] = [body.pop("inputs")[0]]
    assert "Tensor name: y has no shape information" in predict(rest, body)["error"]


def test_bytes(rest: httpx.Client) -> None:
    raw = base64.b64encode(b"contract").decode()
    body: dict[str, Any] = {"signature_name": "lookup", "instances": [{"b64": raw}, "contract", "Grüße"]}
    assert predict(rest, body) == {"predictions": ["{}", "{}", "missing"]}
    body = {"signature_name": "three", "inputs": [[1, 2]]}
    assert predict(rest, body)["outputs"]["text_bytes"] == [{"b64": base64.b64encode(b"1.000000").decode()}]
    body = {"signature_name": "same_string", "instances": ["Grüße", {"b64": "!!"}]}
    assert "Unable to base64 decode" in predict(rest, body)["error"]


def test_versions_and_labels(rest: httpx.Client) -> None:
    body = {"instances": [[0, 0]]}
    for path, version in {"": 3, "/versions/2": 2, "/versions/3": 3, "/labels/old": 2}.items():
        assert predict(rest, body, f"/v1/models/m{path}") == {"predictions": [[version, version]]}
    missing = rest.post("/v1/models/m/versions/9:predict", json=body)
    assert error(missing, 404) == "Servable not found for request: Specific(m, 9)"
    unknown = rest.post("/v1/models/m/labels/x:predict", json=body)
    assert error(unknown) == "Unrecognized servable version label: x"


def test_half_plus_two(rest: httpx.Client) -> None:
    assert predict(rest, {"instances": [2, 4]}, "/v1/models/half_plus_two") == {"predictions": [3, 4]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("{", "JSON Parse error: "),
        ("[1]", "Is not object"),
        ('{"signature_name": 7}', "not formatted correctly. 'signature_name' key must be a string value."),
        ('{"signature_name": "x"}', 'Serving signature name: "x" not found in signature def'),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (
            '{"inputs": 1, "instances": 2}',
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        ('{"instances": 7}', "'instances' to be an list/array"),
        ('{"instances": []}', "No values in 'instances' array"),
        ('{"instances": [[1, 2], [1]]}', "Expecting tensor size: 2 but got: 1"),
        ('{"instances": [[[1], [2]], [[1, 2]]]}', "Expecting shape [2,1] but got: [1,2]"),
        ('{"instances": [["a", "b"]]}', 'JSON Value: "a" Type: String is not of expected type: float'),
        ('{"instances": [[true, 1]]}', "Type: True is not of expected type: float"),
        ('{"instances": [[1, [2]]]}', "Encountered list at unexpected level: 1 expected < 1"),
        ('{"instances": [[[1], 2]]}', "found at incorrect level: 2"),
        ('{"instances": [{"x": [1, 2]}, [1, 2]]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": [[1, 2], {"x": [1, 2]}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [{"c": [1, 2]}]}', "does not have named input: c"),
        ('{"instances": [{"x": [1, 2], "c": 1}]}', "does not have named input: c"),
        ('{"signature_name": "two", "instances": [1]}', "instances is a plain list, but expecting list of objects"),
        ('{"signature_name": "two", "instances": [{"a": 1}]}', "keys must be equal to: a,b"),
        ('{"signature_name": "two", "inputs": {"a": [1]}}', "Missing named input: b in 'inputs' object."),
        ('{"signature_name": "same_int32", "inputs": [1.0]}', "is not of expected type: int32"),
        ('{"signature_name": "same_int64", "inputs": [9223372036854775808]}', "is not of expected type: int64"),
        ('{"inputs": [[16777217, 1]]}', "to float without loss of precision"),
        ('{"signature_name": "constant", "inputs": {}}', "Failed to get input map for signature: constant"),
    ],
)
def test_bodies_that_are_refused(rest: httpx.Client, body: str, message: str) -> None:
    assert message in error(rest.post("/v1/models/m:predict", content=body))


def test_lenient_where_the_binary_is(rest: httpx.Client) -> None:
    answer = rest.post("/v1/models/m:predict", content='{"instances": [[1, 2]], "more": 1} and text')
    assert answer.json() == {"predictions": [[4, 5]]}
    small = {"signature_name": "same_uint8", "instances": [256, 255]}
    assert predict(rest, small) == {"predictions": [0, 255]}
    zipped = rest.post(
        "/v1/models/m:predict",
        content=gzip.compress(b'{"instances": [[1, 2]]}'),
        headers={"Content-Encoding": "gzip", "Content-Type": "text/anything"},
    )
    assert zipped.json() == {"predictions": [[4, 5]]}


def test_nan_and_infinity_are_bare(rest: httpx.Client) -> None:
    body = '{"signature_name": "same_float32", "instances": [NaN, Infinity, -Infinity, 0.1]}'
    text = rest.post("/v1/models/m:predict", content=body).text
    assert "[NaN, Infinity, -Infinity, 0.1\n" in text


def test_types_that_json_cannot_carry(rest: httpx.Client) -> None:
    body = '{"signature_name": "same_float16", "instances": [1.0]}'
    assert error(rest.post("/v1/models/m:predict", content=body)).startswith("Failed to process element")


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/v1/models/m:predict"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:Predict"),
        ("POST", "/v1/models/m:predict/"),
        ("PUT", "/v1/models/m:predict"),
        ("GET", "/v1/other"),
        ("GET", "/v1/models/m/"),
        ("POST", "/v1/models/m/versions/x:predict"),
    ],
)
def test_malformed_requests(rest: httpx.Client, verb: str, path: str) -> None:
    assert error(rest.request(verb, path)) == f"Malformed request: {verb} {path}"


def test_other_paths(rest: httpx.Client) -> None:
    assert rest.get("/").status_code == 404
    assert rest.get("/metrics").headers["content-type"].startswith("text/html")
    assert error(rest.get("/v1/models")) == "Missing model name in request."
    for version in ("9223372036854775808", "9" * 5000):
        beyond = rest.get(f"/v1/models/m/versions/{version}")
        assert (beyond.status_code, beyond.text) == (400, "")
    assert rest.get("/v1/models/m/versions/" + "0" * 5000 + "3").status_code == 200
    assert rest.options("/v1/models/m:predict").status_code == 400
    assert rest.post("/V1/MODELS/m:predict", json={"instances": [[1, 2]]}).status_code == 200


def test_bad_json_is_reported_before_an_unknown_model(rest: httpx.Client) -> None:
    assert "JSON Parse error" in error(rest.post("/v1/models/nobody:predict", content="{"))
    answer = rest.post("/v1/models/nobody:predict", json={"instances": [1]})
    assert error(answer, 404) == "Servable not found for request: Latest(nobody)"


def test_status(rest: httpx.Client) -> None:
    status = rest.get("/v1/models/m").json()["model_version_status"]
    assert status == [
        {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for version in ("3", "2")
    ]
    assert len(rest.get("/v1/models/m/versions/2").json()["model_version_status"]) == 1
    assert error(rest.get("/v1/models/nobody"), 404) == "Could not find any versions of model nobody"


def test_metadata(rest: httpx.Client) -> None:
    document = rest.get("/v1/models/m/versions/2/metadata").json()
    assert document["model_spec"] == {"name": "m", "signature_name": "", "version": "2"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }
    assert signature["defaults"] == {}
    rank = document["metadata"]["signature_def"]["signature_def"]["row_sizes"]["inputs"]["x"]["tensor_shape"]
    assert rank["unknown_rank"] is True


def test_classify_and_regress(rest: httpx.Client) -> None:
    body: dict[str, Any] = {"signature_name": "classify", "examples": [{"x": 1.0}, {"x": [2.0]}]}
    answer = rest.post("/v1/models/m:classify", json=body).json()
    assert answer == {"results": [[["plus", 1], ["minus", -1]], [["plus", 2], ["minus", -2]]]}
    body["signature_name"] = "regress"
    assert rest.post("/v1/models/m:regress", json=body).json() == {"results": [1.5, 2.5]}
    body = {"signature_name": "regress_x_to_y", "context": {"x": 2.0}, "examples": [{}, {"x": 4.0}]}
    assert rest.post("/v1/models/half_plus_two:regress", json=body).json() == {"results": [3, 4]}


@pytest.mark.parametrize("body", [b'{"signature_name": "\xff", "examples": [{}]}', b'{"examples": [{"\xff": 1}]}'])
def test_names_that_are_no_text(rest: httpx.Client, body: bytes) -> None:
    answer = rest.post("/v1/models/m:regress", content=body)
    assert answer.status_code == 400
    assert b"Not UTF-8: \xff" in answer.content


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"x": [1.0, "a"]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1.0]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64 element. Only int64 is supported."),
        ({"examples": [{"x": 1}]}, "Data types don't match"),
    ],
)
def test_examples_that_are_refused(rest: httpx.Client, body: dict[str, Any], message: str) -> None:
    answer = rest.post("/v1/models/m:regress", json={"signature_name": "regress", **body})
    assert message in error(answer)


def test_time_out(written: Path, gate: Gate) -> None:
    flags: dict[str, Any] = {"rest_api_port": -1, "rest_api_timeout_in_ms": 100}
    with EmbeddedServer(written / "m", model_name="m", **flags) as server:
        body = {"signature_name": "gate", "instances": [gate.path]}
        answer = httpx.post(f"http://{server.rest_address}/v1/models/m:predict", json=body, timeout=60)
        assert answer.status_code == 504
        gate.open()


def test_cross_origin(written: Path) -> None:
    with EmbeddedServer(written / "m", model_name="m", rest_api_port=-1, rest_api_enable_cors_support=True) as server:
        url = f"http://{server.rest_address}/v1/models/m"
        preflight = httpx.options(url + ":predict")
        for answer in (preflight, httpx.get(url), httpx.get(url + "/nonsense"), httpx.post(url + ":predict")):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["access-control-allow-methods"] == "POST, GET"
            assert answer.headers["access-control-allow-headers"] == "Content-Type"
        assert (preflight.status_code, preflight.text) == (200, "")


def test_equal_ports_leave_rest_out(written: Path, free_port: int) -> None:
    with EmbeddedServer(written / "m", model_name="m", port=free_port, rest_api_port=free_port) as server:
        assert server.rest_address == ""
