"""JSON as text: read, and printed, as the binary's parser and printer do.

NaN and the infinities are written bare, and read so, too.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from serving.server.status import invalid_argument

Json = Any
_TYPES = {str: "String", float: "Number", int: "Number", dict: "Object", list: "Array", type(None): "Null"}
_FLOAT_MAX = float(np.finfo(np.float32).max)
_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name": "Missing a name for object member.",
    "Expecting ':'": "Missing a colon after a name of object member.",
    "Unterminated string": "Missing a closing quotation mark in string.",
    "Invalid control character": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX": "Incorrect hex digit after \\u escape in string.",
}
"""Python's complaints and, for the same faults, those of the binary's parser."""


def parse(body: bytes) -> dict[str, Json]:
    """The request's object; what follows it is ignored.

    Raises:
      ServingError: INVALID_ARGUMENT if it isn't JSON, or no object.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(" \t\r\n\ufeff"))
    if start == len(text):
        raise invalid_argument(f"JSON Parse error: The document is empty. at offset: {len(body)}")
    try:
        document, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: {_parse_error(error)}") from error
    except RecursionError as error:
        raise invalid_argument("JSON Parse error: nested too deeply") from error
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {shown(document)} Is not object")
    return document


def _parse_error(error: json.JSONDecodeError) -> str:
    position = error.pos
    words = next((words for start, words in _PARSE_ERRORS.items() if error.msg.startswith(start)), None)
    if error.msg.startswith("Unterminated"):
        position = len(error.doc)
    elif words is None:  # a comma is missing; in what, only the text before tells
        words = "Missing a comma or } after an object member."
        if _innermost(error.doc[:position]) == "[":
            words = "Missing a comma or ] after an array element."
    return f"{words} at offset: {len(error.doc[:position].encode('utf-8', 'surrogateescape'))}"


def _innermost(text: str) -> str:
    """The bracket that is still open at the end of this beginning of a JSON text."""
    opened = [""]
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
        if token[0] in ("[", "{"):
            opened.append(token[0])
        elif token[0] in ("]", "}"):
            opened.pop()
    return opened[-1]


def _integer(text: str) -> float:
    """What doesn't fit 64 bits is a float, as for the binary's parser."""
    number = int(text) if len(text) <= 20 else float(text)
    return number if -(1 << 63) <= number < 1 << 64 else float(number)


_DECODER = json.JSONDecoder(parse_int=_integer)


def shown(value: Json) -> str:
    """A value as error messages show it."""
    if isinstance(value, float):
        single = abs(value) <= _FLOAT_MAX
        return decimal(float(np.float32(value)) if single else value, double=not single)
    return json.dumps(value, indent=4, ensure_ascii=False)


def json_type(value: Json) -> str:
    return str(value) if isinstance(value, bool) else _TYPES[type(value)]


def decimal(value: float, *, double: bool = False) -> str:
    """A float as the binary writes it: six digits if they read back, else 9 (17 for a double); whole ones get `.0`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    exact = float(text) == value if double else np.float32(text) == np.float32(value)
    if not exact:
        text = f"{value:.17g}" if double else f"{value:.9g}"
    return text if "." in text or "e" in text else text + ".0"
