"""What Classify, Regress and MultiInference say of the signature that ran, with a model that is three lines long."""

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, model_pb2, regression_pb2

from serving.server.models.servable import Servable
from serving.server.rpc.examples import classify, multi_inference, regress
from tests.serving.server.client import examples

SCORES = meta_graph_pb2.TensorInfo(name="y:0", dtype=types_pb2.DT_FLOAT)


def servable(output: str, value: np.ndarray) -> Servable:
    """Its only signature is serving_default, and every run gives `value`."""
    signature = meta_graph_pb2.SignatureDef(
        inputs={"inputs": meta_graph_pb2.TensorInfo(name="x:0")}, outputs={output: SCORES}
    )
    return Servable(
        name="m",
        version=1,
        path="",
        signatures={"serving_default": signature},
        run=lambda _feeds, _fetches, _timeout_s: [value],
        close=lambda: None,
    )


@pytest.mark.parametrize("asked", ["", "serving_default"])
def test_the_signature_that_ran_is_named(asked: str) -> None:
    spec = model_pb2.ModelSpec(name="m", signature_name=asked)
    row = examples(1)
    scores = servable("scores", np.array([[1]], np.float32))
    numbers = servable("outputs", np.array([1], np.float32))
    task = inference_pb2.InferenceTask(model_spec=spec, method_name="tensorflow/serving/regress")
    answered = [
        classify(scores, classification_pb2.ClassificationRequest(model_spec=spec, input=row), None).model_spec,
        regress(numbers, regression_pb2.RegressionRequest(model_spec=spec, input=row), None).model_spec,
        multi_inference(numbers, inference_pb2.MultiInferenceRequest(tasks=[task], input=row), None)
        .results[0]
        .model_spec,
    ]
    found = [(each.name, each.version.value, each.signature_name) for each in answered]
    assert found == [("m", 1, "serving_default")] * 3
