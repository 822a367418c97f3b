"""Classify, Regress and MultiInference."""

import pytest
from tensorflow_serving.apis import inference_pb2, input_pb2, regression_pb2

from tests.serving.server.client import Client, examples, refused

NAN = float("nan")


def test_classify_gives_labels_and_scores(client: Client) -> None:
    response = client.classify("classify", examples(1, 2))
    rows = [[(c.label, c.score) for c in row.classes] for row in response.result.classifications]
    assert rows == [[("plus", 1), ("minus", -1)], [("plus", 2), ("minus", -2)]]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 2, "classify")


def test_classify_without_labels(half_plus_two: Client) -> None:
    response = half_plus_two.classify("classify_x_to_y", examples(2))
    assert [(c.label, c.score) for c in response.result.classifications[0].classes] == [("", 3)]


def test_regress_gives_one_number_each(client: Client, half_plus_two: Client) -> None:
    response = client.regress("regress", examples(1, 2))
    assert [regression.value for regression in response.result.regressions] == [1.5, 2.5]
    response = half_plus_two.regress("regress_x_to_y", examples(2, 4))
    assert [regression.value for regression in response.result.regressions] == [3, 4]


def test_a_context_is_merged_into_each_example(half_plus_two: Client) -> None:
    request_input = examples(NAN, 4, context={"x": 2})
    response = half_plus_two.regress("regress_x_to_y", request_input)
    assert [regression.value for regression in response.result.regressions] == [3, 4]


@pytest.mark.parametrize("request_input", [input_pb2.Input(), examples(), examples(context={"x": 1})])
def test_no_examples(half_plus_two: Client, request_input: input_pb2.Input) -> None:
    for ask in (half_plus_two.classify, half_plus_two.regress):
        signature = "classify_x_to_y" if ask == half_plus_two.classify else "regress_x_to_y"
        with refused("INVALID_ARGUMENT", "Input is empty.", exact=True):
            ask(signature, request_input)


def test_an_unknown_signature_is_another_error_than_predicts(client: Client) -> None:
    with refused("INVALID_ARGUMENT", "No signature was found with the name: other", exact=True):
        client.classify("other", examples(1))
    with refused("INVALID_ARGUMENT", "No signature was found with the name: other", exact=True):
        client.regress("other", examples(1))


def test_the_signature_must_fit(client: Client, half_plus_two: Client) -> None:
    with refused("INVALID_ARGUMENT", "Expected one input Tensor.", exact=True):
        client.classify("two", examples(1))
    with refused("INVALID_ARGUMENT", "Expected one or two output Tensors, found 3", exact=True):
        client.classify("three", examples(1))
    with refused("INVALID_ARGUMENT", "Expected one output Tensor.", exact=True):
        client.regress("classify", examples(1))


@pytest.mark.parametrize(
    ("method", "signature", "message"),
    [
        ("classify", "bad_classify", "No classification inputs found in SignatureDef:"),
        ("regress", "bad_regress", "No regression inputs found in SignatureDef:"),
        ("classify", "regress_x_to_y", "Expected classification signature outputs to contain at least one of "),
        ("regress", "classify_x_to_y", "No regression outputs found in SignatureDef:"),
    ],
)
def test_the_aliases_of_a_signature_must_fit(half_plus_two: Client, method: str, signature: str, message: str) -> None:
    with refused("INVALID_ARGUMENT", message):
        getattr(half_plus_two, method)(signature, examples(1))
    with refused("INVALID_ARGUMENT", message):
        half_plus_two.multi(examples(1), [(signature, method)])


def test_examples_that_the_graph_refuses(half_plus_two: Client) -> None:
    with refused("INVALID_ARGUMENT", "Feature: x (data type: float) is required but could not be found"):
        half_plus_two.regress("regress_x_to_y", examples(NAN))


def test_a_refusal_may_quote_bytes_that_are_no_text(client: Client) -> None:
    with refused("INVALID_ARGUMENT", "Could not parse example input, value: "):
        client.predict("classify", inputs=[b"\xff\xfe"])


def test_multi_inference_answers_in_task_order(half_plus_two: Client) -> None:
    tasks = [("regress_x_to_y", "regress"), ("classify_x_to_y", "classify"), ("regress_x2_to_y2", "regress")]
    results = half_plus_two.multi(examples(2), tasks).results
    assert [result.WhichOneof("result") for result in results] == [
        "regression_result",
        "classification_result",
        "regression_result",
    ]
    assert results[0].regression_result.regressions[0].value == 3
    assert results[1].classification_result.classifications[0].classes[0].score == 3
    assert results[2].regression_result.regressions[0].value == 3
    assert [result.model_spec.signature_name for result in results] == [signature for signature, _ in tasks]
    assert {result.model_spec.version.value for result in results} == {123}


def test_multi_inference_feeds_every_signature_its_own_placeholder(client: Client) -> None:
    results = client.multi(examples(1, 2), [("classify", "classify"), ("regress", "regress")]).results
    assert [row.classes[1].score for row in results[0].classification_result.classifications] == [-1, -2]
    assert [regression.value for regression in results[1].regression_result.regressions] == [1.5, 2.5]


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ([("regress_x_to_y", "regress")] * 2, "INVALID_ARGUMENT", "Duplicate evaluation of signature: regress_x_to_y"),
        ([("other", "regress")], "INVALID_ARGUMENT", "Requested signature not found in model graph: other"),
        (
            [("regress_x_to_y", "predict")],
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        ([], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ],
)
def test_multi_inference_refuses(half_plus_two: Client, tasks: list[tuple[str, str]], code: str, message: str) -> None:
    with refused(code, message, exact=True):
        half_plus_two.multi(examples(2), tasks)


def test_multi_inference_is_about_one_model(half_plus_two: Client) -> None:
    request = inference_pb2.MultiInferenceRequest(input=examples(2))
    for name in ("half_plus_two", "m"):
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = name, f"regress_{name}"
    request.tasks[0].model_spec.signature_name = "regress_x_to_y"
    with refused("INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same model name."):
        half_plus_two.prediction.MultiInference(request)
    request.tasks[1].model_spec.name = ""
    with refused("INVALID_ARGUMENT", "Found ModelSpec with an empty model name."):
        half_plus_two.prediction.MultiInference(request)


def test_a_missing_model_spec(client: Client) -> None:
    with refused("INVALID_ARGUMENT", "Missing ModelSpec", exact=True):
        client.prediction.Regress(regression_pb2.RegressionRequest(input=examples(1)))
