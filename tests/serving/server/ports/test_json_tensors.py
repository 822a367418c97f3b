"""Numbers, strings and lists of JSON as tensors."""

import pytest
from tensorflow.core.framework import types_pb2

from serving.server.ports import json_tensors, json_text
from serving.server.rpc.status import StatusError


@pytest.mark.parametrize(
    ("text", "dtype", "read"),
    [
        ("99999999999999999999", types_pb2.DT_DOUBLE, 1e20),
        ("-9223372036854775808", types_pb2.DT_INT64, -(2**63)),
        ("18446744073709551615", types_pb2.DT_UINT64, 2**64 - 1),
    ],
)
def test_integers_beyond_64_bits_are_floats(text: str, dtype: int, read: float) -> None:
    value = json_text.parse(b'{"a": %s}' % text.encode())["a"]
    assert json_tensors.array(value, dtype) == read
    with pytest.raises(StatusError, match="is not of expected type: int32"):
        json_tensors.array(value, types_pb2.DT_INT32)


def test_more_dimensions_than_a_tensor_has() -> None:
    value: object = 1
    for _ in range(300):
        value = [value]
    with pytest.raises(StatusError, match="rank 300"):
        json_tensors.array(value, types_pb2.DT_FLOAT)


def test_white_space_in_base64() -> None:
    assert json_tensors.b64({"b64": "YW\nJj\n"}) == b"abc"
