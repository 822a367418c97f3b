"""A thin test client: one method per RPC, numpy in and out, and the status of a refusal as a pair."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)


class Client:
    """Talks to a server under test."""

    def __init__(self, address: str, model: str = "m", credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if credentials is None:
            self.channel = grpc.insecure_channel(address, options)
        else:
            self.channel = grpc.secure_channel(address, credentials, options)
        self.address = address
        self.model = model
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def spec(self, signature: str = "", version: int | None = None, label: str = "") -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self.model, signature_name=signature)
        if version is not None:
            spec.version.value = version
        if label:
            spec.version_label = label
        return spec

    def request(self, signature: str = "", /, **inputs: Any) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest(model_spec=self.spec(signature))
        for alias, value in inputs.items():
            proto = value if isinstance(value, tensor_pb2.TensorProto) else _tensor(value)
            request.inputs[alias].CopyFrom(proto)
        return request

    def send(self, request: predict_pb2.PredictRequest, timeout: float = 60) -> predict_pb2.PredictResponse:
        return self.prediction.Predict(request, timeout=timeout)

    def predict(self, signature: str = "", /, **inputs: Any) -> dict[str, np.ndarray]:
        response = self.send(self.request(signature, **inputs))
        return {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}

    def status(self, version: int | None = None) -> list[tuple[int, str]]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self.spec(version=version))
        response = self.models.GetModelStatus(request, timeout=60)
        states = get_model_status_pb2.ModelVersionStatus.State
        return [(status.version, states.Name(status.state)) for status in response.model_version_status]

    def metadata(self, *fields: str) -> get_model_metadata_pb2.GetModelMetadataResponse:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=self.spec(), metadata_field=fields)
        return self.prediction.GetModelMetadata(request, timeout=60)

    def classify(self, signature: str, request_input: input_pb2.Input) -> classification_pb2.ClassificationResponse:
        request = classification_pb2.ClassificationRequest(model_spec=self.spec(signature), input=request_input)
        return self.prediction.Classify(request, timeout=60)

    def regress(self, signature: str, request_input: input_pb2.Input) -> regression_pb2.RegressionResponse:
        request = regression_pb2.RegressionRequest(model_spec=self.spec(signature), input=request_input)
        return self.prediction.Regress(request, timeout=60)

    def multi(
        self, request_input: input_pb2.Input, tasks: Sequence[tuple[str, str]]
    ) -> inference_pb2.MultiInferenceResponse:
        """`tasks`: signature and method, `classify` or `regress`."""
        request = inference_pb2.MultiInferenceRequest(input=request_input)
        for signature, method in tasks:
            request.tasks.add(model_spec=self.spec(signature), method_name=f"tensorflow/serving/{method}")
        return self.prediction.MultiInference(request, timeout=60)


def _tensor(value: Any) -> Any:
    if isinstance(value, tf.Tensor):
        return tf.make_tensor_proto(value)
    array = np.asarray(value)
    return tf.make_tensor_proto(array.astype(np.float32) if array.dtype == np.float64 else array)


def examples(*values: float, context: dict[str, float] | None = None) -> input_pb2.Input:
    """Examples with the float feature `x`, one per value; with a context, without x where the value is NaN."""
    made = [_example({} if np.isnan(value) else {"x": value}) for value in values]
    result = input_pb2.Input()
    if context is None:
        result.example_list.examples.extend(made)
    else:
        result.example_list_with_context.examples.extend(made)
        result.example_list_with_context.context.CopyFrom(_example(context))
    return result


def _example(features: dict[str, float]) -> example_pb2.Example:
    example = example_pb2.Example()
    for name, value in features.items():
        example.features.feature[name].float_list.value.append(value)
    return example


@contextlib.contextmanager
def refused(code: str, text: str = "", *, exact: bool = False) -> Iterator[None]:
    """The block's call must end in this status, with this text in its message, or as its message."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code().name == code, error.details()
    if exact:
        assert error.details() == text
    else:
        assert text in error.details()
