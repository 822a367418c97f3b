"""JSON to arrays and back, for the REST API.

Shapes come from the JSON's nesting, dtypes from the signature. A whole number will do for a float, but 1.0 for no
integer; `{"b64": "…"}` stands for bytes.
"""

import base64
import binascii
import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.dtypes import as_dtype

from serving.server.ports.json_text import Json, decimal, json_type, quoted, shown
from serving.server.rpc.status_error import Code, StatusError, invalid_argument
from serving.server.rpc.tensors import MAX_RANK, Array

_INT32 = (-(2**31), 2**31 - 1)
_INTEGERS = {
    **dict.fromkeys([types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8], _INT32),
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
_EXACT = {types_pb2.DT_FLOAT: 2**24 - 1, types_pb2.DT_DOUBLE: 2**53 - 1}
"""The largest integer that every smaller one can be told from."""
_WRITTEN = {*_INTEGERS, *_EXACT, types_pb2.DT_BOOL, types_pb2.DT_STRING}


def is_b64(value: Json) -> bool:
    """Whether this object stands for bytes."""
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def b64(value: Json) -> bytes:
    """The bytes of `{"b64": "…"}`."""
    if not is_b64(value):
        raise invalid_argument(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def array(value: Json, dtype: int) -> Array:
    """A value or nested lists of values as an array.

    Raises:
      StatusError: INVALID_ARGUMENT for ragged lists or a value of another type; UNIMPLEMENTED for a dtype that JSON
        can't carry.
    """
    shape, values = _nested_shape(value), list[Json]()
    _collect(value, 0, shape, dtype, values)
    return _typed(values, dtype).reshape(shape)


def _nested_shape(value: Json) -> list[int]:
    """The lengths of nested lists, as the first ones have them."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    if len(shape) > MAX_RANK:
        raise invalid_argument(f"Can't make a tensor of rank {len(shape)}")
    return shape


def _collect(value: Json, level: int, shape: Sequence[int], dtype: int, values: list[Json]) -> None:
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid_argument(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} "
                f"in the JSON DOM. Expected at level: {rank}"
            )
        values.append(_checked(value, dtype))
        return
    if level >= rank:
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    if level == rank - 1 and _are_fit_numbers(value, dtype):
        values.extend(value)  # the common case, at the speed of C
        return
    for item in value:
        _collect(item, level + 1, shape, dtype, values)


def _are_fit_numbers(values: list[Json], dtype: int) -> bool:
    """Whether all values are numbers that fit the dtype; False also where that takes a closer look."""
    kinds = set(map(type, values))
    if dtype in _EXACT:
        low, high = -_EXACT[dtype], _EXACT[dtype]
        known = kinds <= {int, float}
    else:
        low, high = _INTEGERS.get(dtype, (0, 0))
        known = dtype in _INTEGERS and kinds == {int}
    return known and (int not in kinds or (low <= min(values) and max(values) <= high))


def _checked(value: Json, dtype: int) -> Json:
    """The value if it fits the dtype."""
    kind = type(value)
    fits = False
    if dtype in _EXACT:
        fits = kind in (int, float)
        if kind is int and abs(value) > _EXACT[dtype]:
            raise invalid_argument(
                f"Cannot convert JSON value: {shown(value)} to {_name(dtype)} without loss of precision."
            )
    elif dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        fits = kind is int and low <= value <= high
    elif dtype == types_pb2.DT_BOOL:
        fits = kind is bool
    elif dtype == types_pb2.DT_STRING:
        if kind is dict:
            return b64(value)
        if kind is str:
            return value.encode("utf-8", "surrogateescape")
    elif kind is not dict:
        raise StatusError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown(value)} to type: {_name(dtype)}")
    if not fits:
        raise invalid_argument(
            f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: {_name(dtype)}"
        )
    return value


def _typed(values: list[Json], dtype: int) -> Array:
    if dtype == types_pb2.DT_STRING:
        strings: Array = np.empty(len(values), object)
        strings[:] = values
        return strings
    numpy_dtype = np.dtype(as_dtype(dtype).as_numpy_dtype)
    if dtype in (types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8):
        return np.array(values, np.int32).astype(numpy_dtype)  # wraps, as the binary does
    with np.errstate(over="ignore"):  # what is too large for a float becomes an infinity
        return np.array(values, numpy_dtype)


def rows(instances: list[Json], inputs: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Array]:
    """`instances`: one array per input alias, each with a batch dimension in front."""
    objects = _is_object(instances[0])
    if len(inputs) > 1 and not isinstance(instances[0], dict):
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    if not objects:
        alias, info = next(iter(inputs.items()))
        with contextlib.suppress(StatusError):  # what is wrong is said of a row, below
            return {alias: array(instances, info.dtype)}
    columns: dict[str, _Column] = {}
    dtypes = {alias: info.dtype for alias, info in inputs.items()}
    for index, element in enumerate(instances):
        if objects and not _is_object(element):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        if not objects and _is_object(element):
            raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
        named = element if objects else {next(iter(inputs)): element}
        for alias, value in named.items():
            try:
                _add_row(columns, alias, value, dtypes)
            except StatusError as error:
                key = f" key: {alias}" if objects else ""
                raise invalid_argument(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: {error}"
                ) from error
        if objects and named.keys() != dtypes.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {shown(element)} "
                f"keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {
        alias: _typed(column.values, dtypes[alias]).reshape([len(instances), *column.shape])
        for alias, column in columns.items()
    }


class _Column(NamedTuple):
    """The values of an input, of all rows so far; an array for each row would cost ten times more."""

    shape: list[int]
    """The shape of each row."""
    values: list[Json]


def _add_row(columns: dict[str, _Column], alias: str, value: Json, dtypes: Mapping[str, int]) -> None:
    if alias not in dtypes:
        raise invalid_argument(f"JSON object: does not have named input: {alias}")
    shape = _nested_shape(value)
    column = columns.get(alias)
    if column is None:
        column = columns[alias] = _Column(shape, [])
    _collect(value, 0, shape, dtypes[alias], column.values)
    if shape != column.shape:
        size, wanted = math.prod(shape), math.prod(column.shape)
        if size != wanted:
            raise invalid_argument(f"Expecting tensor size: {wanted} but got: {size}")
        raise invalid_argument(f"Expecting shape {_shape(column.shape)} but got: {_shape(shape)}")


def column(value: Json, inputs: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Array]:
    """`inputs`: one array per input alias, as they stand."""
    if not _is_object(value):
        if len(inputs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        alias, info = next(iter(inputs.items()))
        return {alias: array(value, info.dtype)}
    arrays = {}
    for alias in sorted(inputs):
        if alias not in value:
            raise invalid_argument(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = array(value[alias], inputs[alias].dtype)
    return arrays


def written_rows(outputs: Mapping[str, Array]) -> str:
    """The answer to `instances`: a list of values, or of objects if there is more than one output."""
    size: int | None = None
    for alias, output in outputs.items():
        if output.ndim == 0:
            raise invalid_argument(f"Tensor name: {alias} has no shape information ")
        if size is not None and output.shape[0] != size:
            raise invalid_argument(
                f"Tensor name: {alias} has inconsistent batch size: {output.shape[0]} expecting: {size}"
            )
        size = output.shape[0]
    several = len(outputs) > 1
    columns = {
        alias: [_in_line(row, write, 3 if several else 2) for row in output.tolist()]
        for alias, output in outputs.items()
        for write in [_writer(output, alias)]
    }
    if several:
        rows = [_object({alias: texts[row] for alias, texts in columns.items()}, 2) for row in range(size or 0)]
        inside = ",".join(_INDENT[2] + row for row in rows)
    else:
        inside = ", ".join(*columns.values())
    return _object({"predictions": f"[{inside}{_INDENT[1] if size else ''}]"}, 0)


def written_column(outputs: Mapping[str, Array]) -> str:
    """The answer to `inputs`: the value of the one output, or an object of them."""
    several = len(outputs) > 1
    depth = 2 if several else 1
    texts = {alias: _in_lines(output.tolist(), _writer(output, alias), depth) for alias, output in outputs.items()}
    return _object({"outputs": _object(texts, 1) if several else next(iter(texts.values()))}, 0)


_INDENT = ["\n" + "    " * depth for depth in range(MAX_RANK + 4)]
_Write: TypeAlias = Callable[[Json, int], str]
"""Writes one value of a tensor that stands so many brackets deep."""


def _object(members: Mapping[str, str], depth: int) -> str:
    """An object of values that are written already, within `depth` brackets."""
    lines = [f"{_INDENT[depth + 1]}{quoted(key)}: {text}" for key, text in members.items()]
    return "{" + ",".join(lines) + _INDENT[depth] + "}"


def _in_line(value: Json, write: _Write, depth: int) -> str:
    """A tensor on one line."""
    if isinstance(value, list):
        return "[" + ", ".join([_in_line(item, write, depth + 1) for item in value]) + "]"
    return write(value, depth)


def _in_lines(value: Json, write: _Write, depth: int) -> str:
    """A tensor with a line for each value and each bracket."""
    if not isinstance(value, list):
        return write(value, depth)
    lines = [_INDENT[depth + 1] + _in_lines(item, write, depth + 1) for item in value]
    return "[" + ",".join(lines) + (_INDENT[depth] if lines else "") + "]"


def _writer(output: Array, alias: str) -> _Write:
    """What writes one value of this output."""
    number = types_pb2.DT_STRING if output.dtype == object else as_dtype(output.dtype).as_datatype_enum
    if number not in _WRITTEN and output.size:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {_name(number)}")
    if number in _EXACT:
        return lambda item, _: decimal(item, double=number == types_pb2.DT_DOUBLE)
    if number != types_pb2.DT_STRING:
        return lambda item, _: json.dumps(item)
    if alias.endswith("_bytes"):
        return lambda item, depth: _object({"b64": f'"{base64.b64encode(item).decode()}"'}, depth)
    return lambda item, _: quoted(item.decode("utf-8", "surrogateescape"))


def _is_object(value: Json) -> bool:
    return isinstance(value, dict) and not is_b64(value)


def _name(dtype: int) -> str:
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()


def _shape(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
