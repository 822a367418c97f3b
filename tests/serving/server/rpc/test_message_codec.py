"""Requests and responses on the wire, against protobuf's own reading of them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving.server.rpc import message_codec, tensors
from serving.server.rpc.status_error import StatusError


def request(*sizes: int, typed: bool = False) -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="m"), output_filter=["y"])
    for index, size in enumerate(sizes):
        array = np.arange(size, dtype=np.float32)
        if typed:
            made.inputs[f"x{index}"].CopyFrom(
                tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=array.tolist())
            )
        else:
            made.inputs[f"x{index}"].CopyFrom(tf.make_tensor_proto(array))
    return made


@pytest.mark.parametrize("sizes", [(), (3,), (100_000,), (100_000, 3, 50_000)])
@pytest.mark.parametrize("typed", [False, True])
def test_requests_are_read_as_protobuf_reads_them(sizes: tuple[int, ...], typed: bool) -> None:
    whole = request(*sizes, typed=typed)
    parsed, contents = message_codec.parse_predict(whole.SerializeToString())
    assert set(contents) == {f"x{i}" for i, size in enumerate(sizes) if size > 20_000 and not typed}
    for alias, content in contents.items():
        assert not parsed.inputs[alias].tensor_content
        parsed.inputs[alias].tensor_content = bytes(content)
    assert parsed == whole


def test_contents_are_views() -> None:
    data = request(100_000).SerializeToString()
    _, contents = message_codec.parse_predict(data)
    assert contents["x0"].obj is data


def test_unusual_messages_go_the_usual_way() -> None:
    once = request(100_000)
    again = request(50_000)
    data = once.SerializeToString() + again.SerializeToString()  # the same key twice: the later entry wins
    parsed, contents = message_codec.parse_predict(data)
    assert not contents
    assert parsed == predict_pb2.PredictRequest.FromString(data)


@pytest.mark.parametrize("position", [0, 1, 5, 20, 40])
def test_cut_messages_are_refused(position: int) -> None:
    data = request(100_000).SerializeToString()
    with pytest.raises(StatusError):
        message_codec.parse_predict(data[: len(data) - 1 - position])


def test_responses_are_what_protobuf_would_write() -> None:
    outputs = {
        "y": np.array([[1, 2]], np.float32),
        "words": np.array([b"a"], object),
        "large": np.zeros(100_000, np.float32),
    }
    spec = model_pb2.ModelSpec(name="m", signature_name="s")
    data = message_codec.predict_response(spec, ((alias, tensors.encode(array)) for alias, array in outputs.items()))
    response = predict_pb2.PredictResponse.FromString(data)
    assert response.model_spec == spec
    assert {alias: tf.make_ndarray(proto).tolist() for alias, proto in response.outputs.items()} == {
        alias: array.tolist() for alias, array in outputs.items()
    }
