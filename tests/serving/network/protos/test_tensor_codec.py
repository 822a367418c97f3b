"""Requests that are joined from their pieces say what a message that is filled and serialised would."""

from typing import Any

import numpy as np
import pytest

from serving.network.protos import prediction_pb2 as pb
from serving.network.protos import tensor_codec


def sent(**inputs: Any) -> pb.PredictRequest:
    """What a server reads."""
    pieces = [piece for name, value in inputs.items() for piece in tensor_codec.input_entry(name, value)]
    return pb.PredictRequest.FromString(b"".join(pieces))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.array([[1, 2], [3, 4]], np.float32), id="matrix"),
        pytest.param(np.array(3.5), id="scalar"),
        pytest.param(np.array([True, False]), id="bool"),
        pytest.param(np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2], id="not contiguous"),
        pytest.param(np.zeros([300, 5], np.uint8), id="lengths of two bytes"),
    ],
)
def test_an_array_arrives_as_it_is(value: np.ndarray[Any, Any]) -> None:
    tensor = sent(x=value).inputs["x"]
    assert tensor_codec.dtype_name(tensor.dtype) == value.dtype.name
    assert tensor_codec.unpack(tensor).tolist() == value.tolist()


def test_no_rows_are_a_tensor_without_content() -> None:
    tensor = sent(x=np.zeros([0, 3], np.uint8)).inputs["x"]
    assert [dim.size for dim in tensor.tensor_shape.dim] == [0, 3]
    assert tensor.tensor_content == b""


def test_rows_one_by_one_are_one_tensor() -> None:
    rows = [np.full([2, 3], number, np.float32) for number in range(5)]
    assert tensor_codec.unpack(sent(images=rows).inputs["images"]).tolist() == np.stack(rows).tolist()


def test_several_inputs_and_strings() -> None:
    inputs = sent(images=[np.zeros([1], np.float32)], keys=[b"a", b"", b"\xff"]).inputs
    assert set(inputs) == {"images", "keys"}
    assert tensor_codec.unpack(inputs["keys"]).tolist() == [b"a", b"", b"\xff"]
