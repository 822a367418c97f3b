"""JSON as text: read, and printed, as the binary's parser and printer do.

NaN and the infinities are written bare, and read so, too.
"""

import json
import math
import re
from decimal import Decimal
from typing import Any

import numpy as np

from serving.server.rpc.status_error import invalid_argument

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
      StatusError: INVALID_ARGUMENT if it isn't JSON, or no object.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(" \t\r\n\ufeff"))
    if start == len(text):
        raise invalid_argument(f"JSON Parse error: The document is empty. at offset: {len(body)}")
    _check_surrogates(text)
    try:
        document = _decoded(text, start)
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: {_parse_error(error)}") from error
    except OverflowError as error:
        offset = len(text[: text.index(str(error))].encode("utf-8", "surrogateescape"))
        words = f"JSON Parse error: Number too big to be stored in double. at offset: {offset}"
        raise invalid_argument(words) from error
    except RecursionError as error:
        raise invalid_argument("JSON Parse error: nested too deeply") from error
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {shown(document)} Is not object")
    return document


def _check_surrogates(text: str) -> None:
    """Refuses an escape of half a character, which no UTF-8 has."""
    if "\\ud" not in text.lower():
        return
    for escape in _SURROGATES.finditer(text):
        if escape["half"]:
            offset = len(text[: escape.start()].encode("utf-8", "surrogateescape"))
            raise invalid_argument(f"JSON Parse error: The surrogate pair in string is invalid. at offset: {offset}")


_SURROGATES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F])|.)", re.DOTALL
)


def _decoded(text: str, start: int) -> Json:
    try:
        return _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError:
        renamed = _NON_FINITE.sub(lambda found: _NON_FINITE_NAMES.get(found[0], found[0]), text)
        if renamed == text:
            raise
        return _DECODER.raw_decode(renamed, start)[0]


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
    number = int(text) if len(text) <= 20 else _float(text)
    return number if -(1 << 63) <= number < 1 << 64 else float(number)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise OverflowError(text)
    return number


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """An object of its pairs; where keys are equal, the first one counts."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, object_pairs_hook=_object)
_NON_FINITE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\b(?:Infinity|Inf|NaN)\b', re.DOTALL)
_NON_FINITE_NAMES = {"Inf": "Infinity", "-Inf": "-Infinity", "-NaN": "NaN"}
"""What the binary's parser takes, too, and Python's doesn't."""


def shown(value: Json) -> str:
    """A value as error messages show it; a very long one breaks off, as gRPC's messages do."""
    if isinstance(value, float):
        single = abs(value) <= _FLOAT_MAX
        return decimal(float(np.float32(value)) if single else value, double=not single)
    pieces: list[str] = []
    _write(value, "\n", pieces)
    return "".join(pieces) + ("...TRUNCATED" if len(pieces) > _MOST_PIECES else "")


_MOST_PIECES = 100_000
"""Values and brackets of a message: it would take longer to write than the request to read, and be longer."""


def _write(value: Json, line: str, pieces: list[str]) -> bool:
    """Appends the value; False where it breaks off: as the binary's printer does, at a number that isn't finite."""
    if isinstance(value, float):
        if math.isfinite(value):
            pieces.append(_shortest(value))
        return math.isfinite(value)
    if isinstance(value, dict):
        brackets, items = "{}", [(f"{quoted(key)}: ", item) for key, item in value.items()]
    elif isinstance(value, list):
        brackets, items = "[]", [("", item) for item in value]
    else:
        pieces.append(quoted(value) if isinstance(value, str) else json.dumps(value))
        return True
    pieces.append(brackets[0])
    for number, (key, item) in enumerate(items):
        pieces.append(f"{',' if number else ''}{line}    {key}")
        if not _write(item, line + "    ", pieces) or len(pieces) > _MOST_PIECES:
            return False
    pieces.append((line if items else "") + brackets[1])
    return True


def _shortest(value: float) -> str:
    """The fewest digits that read back, with an exponent only from 1e21 on and below 1e-6."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + int(exponent)
    if not value:
        text = "0.0"
    elif point <= 21 and int(exponent) >= 0:
        text += "0" * int(exponent) + ".0"
    elif 0 < point <= 21:
        text = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + text
    else:
        text = text[0] + ("." + text[1:] if len(text) > 1 else "") + f"e{point - 1}"
    return "-" + text if sign else text


def quoted(text: str) -> str:
    """A string in JSON, escaped where it must be, as the binary escapes it."""
    escaped = json.dumps(text, ensure_ascii=False)
    return _ESCAPE.sub(lambda found: f"\\u{found[1].upper()}" if found[1] else found[0], escaped)


_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|.)")


def json_type(value: Json) -> str:
    """How the binary's messages call a value: by its type, but `True` or `False` for a truth value."""
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
