"""JSON as the binary's parser reads it: what it complains of and where, and which numbers it takes."""

from __future__ import annotations

import re

import pytest
from tensorflow.core.framework import types_pb2

from serving.server.ports import json_tensors, json_text
from serving.server.rpc.status import StatusError


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b" \n", "The document is empty. at offset: 2"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b"}', "Missing a comma or } after an object member. at offset: 7"),
        (b'{"a":[1, {"b": "]"} 3]}', "Missing a comma or ] after an array element. at offset: 20"),
        (b'{"a":[1,]}', "Invalid value. at offset: 8"),
        (b'{"a":"x', "Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a":"\x01"}', "Invalid encoding in string. at offset: 6"),
        (b'{"a":"\\q"}', "Invalid escape character in string. at offset: 6"),
        ('{"é":1 "b"}'.encode(), "Missing a comma or } after an object member. at offset: 8"),  # bytes are counted
        (b'{"a":"\\ud800"}', "The surrogate pair in string is invalid. at offset: 6"),
        (b'{"a":"\\\\ud800 \\udc00"}', "The surrogate pair in string is invalid. at offset: 14"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_parse_errors(body: bytes, message: str) -> None:
    with pytest.raises(StatusError, match=re.escape(f"JSON Parse error: {message}") + "$"):
        json_text.parse(body)


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


def test_escapes_of_whole_characters() -> None:
    assert json_text.parse(b'{"a": "\\ud83d\\ude00 \\\\ud800 \\u00e9"}') == {"a": "\U0001f600 \\ud800 é"}


def test_values_are_shown_as_the_binary_prints_them() -> None:
    values: tuple[object, ...] = (1e39, 0.123456789, float("nan"), [])
    assert [json_text.shown(value) for value in values] == [
        "1e+39", "0.123456791", "NaN", "[]",
    ]  # fmt: skip


def test_more_dimensions_than_a_tensor_has() -> None:
    value: object = 1
    for _ in range(300):
        value = [value]
    with pytest.raises(StatusError, match="rank 300"):
        json_tensors.array(value, types_pb2.DT_FLOAT)


def test_white_space_in_base64() -> None:
    assert json_tensors.b64({"b64": "YW\nJj\n"}) == b"abc"
