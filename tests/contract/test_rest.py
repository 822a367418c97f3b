"""REST, byte for byte where TensorFlow Serving's printer leaves no choice."""

import base64
import json
from typing import Any

import httpx
import pytest

M = "/v1/models/m"


def predict(rest: httpx.Client, signature: str, **body: Any) -> str:
    """The answer as text."""
    answer = rest.post(f"{M}:predict", content=json.dumps({"signature_name": signature, **body}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.text


def refusal(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.startswith('{\n    "error": "')
    return str(answer.json()["error"])


def test_rows_of_one_output_are_on_one_line(rest: httpx.Client) -> None:
    assert predict(rest, "same_float32", instances=[2.5, 3, 0.1]) == ('{\n    "predictions": [2.5, 3.0, 0.1\n    ]\n}')
    assert predict(rest, "serving_default", instances=[[1, 2], [3, 4]]) == (
        '{\n    "predictions": [[3.0, 4.0], [5.0, 6.0]\n    ]\n}'
    )


def test_rows_of_several_outputs_are_objects(rest: httpx.Client) -> None:
    text = predict(rest, "two", instances=[{"a": 1, "b": 2}, {"a": 3, "b": 4}])
    assert json.loads(text) == {"predictions": [{"product": 2, "sum": 3}, {"product": 12, "sum": 7}]}
    assert text.startswith('{\n    "predictions": [\n        {\n            "')
    assert text.endswith("\n        }\n    ]\n}")
    assert text.count("\n        },\n        {\n            ") == 1


def test_columns_have_a_line_for_each_value(rest: httpx.Client) -> None:
    assert predict(rest, "same_int32", inputs=[1, 2]) == '{\n    "outputs": [\n        1,\n        2\n    ]\n}'
    assert predict(rest, "total", inputs=[[1, 2]]) == '{\n    "outputs": 3.0\n}'
    assert predict(rest, "serving_default", inputs=[[1, 2]]) == (
        '{\n    "outputs": [\n        [\n            3.0,\n            4.0\n        ]\n    ]\n}'
    )
    assert predict(rest, "same_string", inputs=['é\u001f/"']) == (
        '{\n    "outputs": [\n        "é\\u001F/\\""\n    ]\n}'
    )


def test_bytes_are_objects(rest: httpx.Client) -> None:
    text = predict(rest, "three", inputs=[[1, 2]])
    raw = base64.b64encode(b"1.000000").decode()
    assert f'"text_bytes": [\n            {{\n                "b64": "{raw}"\n            }}\n        ]' in text


def test_numbers_beyond_a_float_are_infinities(rest: httpx.Client) -> None:
    text = predict(rest, "same_float32", instances=[1e39, -1e39, 10**39, 1])
    assert text == '{\n    "predictions": [Infinity, -Infinity, Infinity, 1.0\n    ]\n}'


def test_integers_that_a_float_cannot_hold_are_refused(rest: httpx.Client) -> None:
    answer = rest.post(f"{M}:predict", json={"signature_name": "same_float32", "inputs": [16777217]})
    assert refusal(answer) == "Cannot convert JSON value: 16777217 to float without loss of precision."


def test_classify_and_regress(rest: httpx.Client) -> None:
    body: dict[str, Any] = {"signature_name": "classify", "examples": [{"x": 1.0}, {"x": 2.0}]}
    rows = '[["plus", 1.0], ["minus", -1.0]], [["plus", 2.0], ["minus", -2.0]]'
    assert rest.post(f"{M}:classify", json=body).text == f'{{\n    "results": [{rows}\n    ]\n}}'
    body["signature_name"] = "regress"
    assert rest.post(f"{M}:regress", json=body).text == '{\n    "results": [1.5, 2.5]\n}'


def test_aliases_that_do_not_fit(rest: httpx.Client) -> None:
    body = {"signature_name": "bad_classify", "examples": [{"x": 1.0}]}
    answer = rest.post("/v1/models/half_plus_two:classify", json=body)
    assert refusal(answer).startswith("No classification inputs found in SignatureDef: ")


@pytest.mark.parametrize(
    ("verb", "target"),
    [
        ("POST", f"{M}:predict?a=b"),
        ("POST", f"{M}/versions/1:classify?a"),
        ("POST", f"{M}:Predict"),
        ("POST", M),
        ("GET", f"{M}:predict"),
        ("GET", f"{M}/metadata?a=b"),
        ("GET", f"{M}/versions/1?a=b"),
        ("GET", f"{M}/versions/99999999999999999999:predict"),
        ("GET", f"{M}/"),
        ("PUT", f"{M}:predict"),
        ("DELETE", M),
        ("PATCH", "/v1/else"),
    ],
)
def test_malformed_requests(rest: httpx.Client, verb: str, target: str) -> None:
    answer = rest.request(verb, target, content=b'{"instances": [[1, 2]]}')
    assert refusal(answer) == f"Malformed request: {verb} {target}"


def test_a_query_behind_a_name_is_part_of_it(rest: httpx.Client) -> None:
    assert refusal(rest.get(f"{M}?a=b"), 404) == "Could not find any versions of model m?a=b"
    assert rest.get(f"{M}/labels/any?a=b").json()["model_version_status"]


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/versions/1", "/v1/models/labels/x/metadata"])
def test_a_missing_name(rest: httpx.Client, target: str) -> None:
    assert refusal(rest.get(target)) == "Missing model name in request."


@pytest.mark.parametrize(("verb", "path"), [("POST", ":predict"), ("GET", ""), ("GET", "/metadata")])
def test_a_version_beyond_64_bits(rest: httpx.Client, verb: str, path: str) -> None:
    answer = rest.request(verb, f"{M}/versions/9223372036854775808{path}", content=b"{}")
    assert (answer.status_code, answer.text) == (400, "")


def test_case_does_not_count_but_for_what_is_to_be_done(rest: httpx.Client) -> None:
    assert rest.get("/V1/Models/m/Versions/1").json()["model_version_status"][0]["version"] == "1"
    assert "model_version_status" in rest.get(f"{M}/METADATA").json()


def test_other_paths(rest: httpx.Client) -> None:
    for path in ("/", "/metrics", "/v2/models/m"):
        answer = rest.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html")
        assert "<H1>Not Found</H1>" in answer.text
    options = rest.options(f"{M}:predict")
    assert (options.status_code, options.text) == (400, "")
    assert options.headers["content-type"].startswith("text/html")


def test_status_and_metadata(rest: httpx.Client) -> None:
    status = rest.get(f"{M}/versions/2").text
    assert status == (
        '{\n "model_version_status": [\n  {\n   "version": "2",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )
    metadata = rest.get(f"{M}/metadata")
    assert metadata.text.startswith('{\n"model_spec":{\n "')
    assert '\n}\n,\n"metadata": {"signature_def": {\n "signature_def": {\n' in metadata.text
    assert metadata.json()["model_spec"] == {"name": "m", "signature_name": "", "version": "2"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        ('{"instances": [1e400]}', "JSON Parse error: Number too big to be stored in double. at offset: 15"),
        (
            '{"signature_name": 7, "x": [1, 2.50, 1e22, {}]}',
            'JSON Value: {\n    "signature_name": 7,\n    "x": [\n        1,\n        2.5,\n        1e22,\n        {}\n'
            "    ]\n} not formatted correctly. 'signature_name' key must be a string value.",
        ),
        ('{"inputs": [[{"a": 1}]]}', 'JSON Value: {\n    "a": 1\n} Type: Object is not of expected type: float'),
    ],
)
def test_bodies_that_are_refused(rest: httpx.Client, body: str, message: str) -> None:
    assert refusal(rest.post(f"{M}:predict", content=body)) == message


def test_of_equal_keys_the_first_counts(rest: httpx.Client) -> None:
    body = '{"inputs": [1], "inputs": [2], "signature_name": "same_float32"}'
    assert rest.post(f"{M}:predict", content=body).json() == {"outputs": [1]}


def test_every_spelling_of_what_is_not_finite(rest: httpx.Client) -> None:
    body = '{"signature_name": "same_float32", "instances": [Inf, -Inf, -Infinity, -NaN, NaN]}'
    text = rest.post(f"{M}:predict", content=body).text
    assert text == '{\n    "predictions": [Infinity, -Infinity, -Infinity, NaN, NaN\n    ]\n}'
