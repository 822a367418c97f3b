"""Numbers, strings and lists of JSON as tensors."""

import json
import time
from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.ports import json_tensors, json_text
from serving.server.rpc.status_error import StatusError


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


NUMBERS = 300_000


@pytest.mark.parametrize(
    "instances",
    [
        [0.5] * NUMBERS,
        [7] * NUMBERS,
        [[0.5] * 3] * (NUMBERS // 3),
        [{"x": 0.5}] * NUMBERS,
    ],
    ids=["floats", "whole numbers", "short rows", "objects"],
)
def test_many_rows_cost_about_what_their_text_does(instances: list[Any]) -> None:
    started = time.process_time()
    document = json_text.parse(json.dumps({"instances": instances}).encode())
    read = time.process_time()
    inputs = {"x": meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_FLOAT)}
    array = json_tensors.rows(document["instances"], inputs)["x"]
    converted = time.process_time()
    values = [row["x"] if isinstance(row, dict) else row for row in instances]
    np.testing.assert_array_equal(array, np.array(values, np.float32))
    # An array for each row took a hundred times as long as the text.
    assert converted - read < 12 * (read - started)


def test_a_message_about_many_values_breaks_off() -> None:
    text = json_text.shown({"instances": {"x": [0.5] * 1_000_000}})
    assert text.startswith('{\n    "instances": {')
    assert text.endswith("0.5...TRUNCATED")
    assert len(text) < 3_000_000
