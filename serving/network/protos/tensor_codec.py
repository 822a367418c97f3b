"""numpy arrays to and from the tensors of TensorFlow Serving's requests.

Numbers of data types and the meaning of the typed fields are those of TensorFlow's `types.proto` and
`tensor.proto`.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

from serving.network.protos import prediction_pb2 as pb

STRING = 7
_NUMPY_BY_DTYPE: dict[int, type[np.generic]] = {
    1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8,
    9: np.int64, 10: np.bool_, 17: np.uint16, 19: np.float16, 22: np.uint32, 23: np.uint64,
}  # fmt: skip
_UNREAD = {8: "complex64", 14: "bfloat16", 18: "complex128"}
_DTYPE_BY_NUMPY = {np.dtype(kind): number for number, kind in _NUMPY_BY_DTYPE.items()}
_FIELD_BY_DTYPE = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val",
    9: "int64_val", 10: "bool_val", 17: "int_val", 22: "uint32_val", 23: "uint64_val",
}  # fmt: skip

Array = np.ndarray[Any, np.dtype[Any]]


def dtype_name(dtype: int) -> str:
    """The name of a data type's number, as TensorFlow writes it: 1 is `float32`, 7 is `string`."""
    if dtype == STRING:
        return "string"
    if dtype in _NUMPY_BY_DTYPE:
        return np.dtype(_NUMPY_BY_DTYPE[dtype]).name
    return _UNREAD.get(dtype, f"dtype {dtype}")


Value = Array | Sequence[Array] | Sequence[bytes]
"""A tensor's value: an array, its rows one by one, or byte strings (shape [n])."""


def input_entry(name: str, value: Value) -> list[bytes | memoryview]:
    """The pieces of a PredictRequest's entry `inputs[name]`, to be joined with those of the other fields.

    Numbers travel as `tensor_content`; the typed fields cost a server 40 times as much. A batch of images is 19 MB,
    one of files 60 MB: joined from its rows it is copied once, where a message that is filled and serialised copies it
    four times.

    Raises:
      TypeError: the value is neither, or of a data type that can't be sent.
    """
    if isinstance(value, np.ndarray):
        rows: Sequence[Any] = [value]
        shape = value.shape
    elif isinstance(value, list | tuple) and all(isinstance(row, bytes) for row in value):
        return _strings_entry(name, value)
    elif isinstance(value, list | tuple) and all(isinstance(row, np.ndarray) for row in value):
        rows, shape = value, (len(value), *value[0].shape)
    else:
        raise TypeError(f"give an array, a list of arrays, or a list of bytes, not {type(value).__name__}")
    if rows[0].dtype not in _DTYPE_BY_NUMPY:
        raise TypeError(f"an array of {rows[0].dtype} can't be sent; strings are a list of bytes")
    if any(row.dtype != rows[0].dtype or row.shape != rows[0].shape for row in rows):
        raise TypeError("the arrays of a list must be of one data type and shape")
    tensor = pb.Tensor(dtype=_DTYPE_BY_NUMPY[rows[0].dtype], tensor_shape=_shape(shape))
    contents = [np.ascontiguousarray(row).reshape(-1).view(np.uint8).data for row in rows]
    return _numbers_entry(name, tensor.SerializeToString(), contents)


def varint(value: int) -> bytes:
    """A non-negative integer as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _strings_entry(name: str, values: Sequence[bytes]) -> list[bytes | memoryview]:
    tensor = pb.Tensor(dtype=STRING, tensor_shape=_shape((len(values),)))
    pieces: list[bytes | memoryview] = []
    for value in values:
        pieces += [_STRING_VAL + varint(len(value)), value]
    return _entry(name, tensor.SerializeToString(), pieces)


def _numbers_entry(name: str, tensor: bytes, contents: Sequence[memoryview]) -> list[bytes | memoryview]:
    size = sum(map(len, contents))
    return _entry(name, tensor, [_TENSOR_CONTENT + varint(size), *contents] if contents else [])


def _entry(name: str, tensor: bytes, pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The entry of a map whose value is a tensor: its first fields, and the pieces of the others."""
    key = name.encode()
    key = _KEY + varint(len(key)) + key
    size = sum(map(len, pieces))
    head = _VALUE + varint(len(tensor) + size) + tensor
    return [_INPUTS + varint(len(key) + len(head) + size) + key + head, *pieces]


_INPUTS, _KEY, _VALUE, _TENSOR_CONTENT, _STRING_VAL = b"\x12", b"\x0a", b"\x12", b"\x22", b"\x42"
"""Tags of length-delimited fields: PredictRequest.inputs (2), an entry's key (1) and value (2), and
TensorProto.tensor_content (4) and string_val (8)."""


def unpack(tensor: pb.Tensor) -> Array:
    """The array of a tensor; strings become an object array of `bytes`.

    Raises:
      ValueError: the dtype is not one we read, or the values do not fill the shape.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype == STRING:
        strings = tensor.string_val if not tensor.tensor_content else split_strings(tensor.tensor_content, prod(shape))
        return object_array(strings).reshape(shape)
    if tensor.dtype not in _NUMPY_BY_DTYPE:
        raise ValueError(f"cannot read a tensor of dtype {tensor.dtype}")
    kind = _NUMPY_BY_DTYPE[tensor.dtype]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype=kind).reshape(shape)
    if kind is np.float16:
        return np.array(tensor.half_val, dtype=np.uint16).view(np.float16).reshape(shape)
    return np.array(getattr(tensor, _FIELD_BY_DTYPE[tensor.dtype]), dtype=kind).reshape(shape)


def object_array(strings: Sequence[bytes]) -> Array:
    """A vector of byte strings."""
    values = np.empty(len(strings), object)
    values[:] = strings
    return values


def join_strings(strings: Sequence[bytes]) -> bytes:
    """Strings as they stand in `tensor_content`: all lengths as varints, then all bytes."""
    return b"".join([*(varint(len(string)) for string in strings), *strings])


def split_strings(content: bytes, count: int) -> list[bytes]:
    """The strings of a `tensor_content`.

    Raises:
      ValueError: it doesn't hold `count` strings and nothing else.
    """
    lengths, position = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise ValueError("tensor_content ends within the lengths of its strings")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError("tensor_content does not have the length that its strings add up to")
    ends = list(accumulate(lengths, initial=position))
    return [content[start:end] for start, end in pairwise(ends)]


def _shape(sizes: Sequence[int]) -> pb.TensorShape:
    return pb.TensorShape(dim=[pb.TensorShape.Dim(size=size) for size in sizes])
