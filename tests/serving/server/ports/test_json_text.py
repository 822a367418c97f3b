"""JSON as the binary's parser reads it: what it complains of and where, and which numbers it takes."""

import math
import re

import numpy as np
import pytest

from serving.server.ports import json_text
from serving.server.rpc.status_error import StatusError


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


def test_escapes_of_whole_characters() -> None:
    assert json_text.parse(b'{"a": "\\ud83d\\ude00 \\\\ud800 \\u00e9"}') == {"a": "\U0001f600 \\ud800 é"}


def test_values_are_shown_as_the_binary_prints_them() -> None:
    values: tuple[object, ...] = (1e39, 0.123456789, float("nan"), [])
    assert [json_text.shown(value) for value in values] == [
        "1e+39",
        "0.123456791",
        "NaN",
        "[]",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (np.float32(0.1), "0.1"),
        (np.float32(1 / 3), "0.333333343"),
        (9e6, "9e+06"),
        (-0.0, "-0.0"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
    ],
)
def test_how_floats_are_written(value: float, text: str) -> None:
    assert json_text.decimal(float(value)) == text


def test_doubles_keep_their_digits() -> None:
    assert json_text.decimal(1 / 3, double=True) == "0.33333333333333331"
