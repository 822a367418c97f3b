"""TensorProto to numpy and back, by the rules of TensorFlow's own `Tensor::FromProto` and `AsProtoField`.

Requests may carry numbers in `tensor_content` or in typed fields. Typed fields never fail on their count: too few
values repeat the last one, none gives zeros, extras are cut. Responses use the typed fields. Both ways the bulk of
float data is never turned into Python objects, nor copied more often than the wire demands.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.dtypes import as_dtype

from serving.network.protos.tensor_codec import join_strings, object_array, split_strings, varint
from serving.server.rpc.status_error import Code, StatusError, invalid_argument

Array = npt.NDArray[Any]

_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
} | dict.fromkeys(
    [types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_UINT16, types_pb2.DT_INT8, types_pb2.DT_UINT8], "int_val"
)
_HALVES = (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)
_PACKED_TAGS = {types_pb2.DT_FLOAT: b"\x2a", types_pb2.DT_DOUBLE: b"\x32"}  # float_val, double_val: length-delimited
_CONTENT_TAG = b"\x22"
MAX_RANK = 32
"""The most dimensions of a tensor: with more, TensorFlow's conversion of strings crashes the process."""
_MAX_FILLED_BYTES = 1 << 30
"""A shape may ask for more values than were sent; beyond this it is an attack rather than a constant."""


def decode(proto: tensor_pb2.TensorProto, content: memoryview | None = None) -> Array:
    """The array that a TensorProto stands for; read-only, and a view of the content where it can be.

    Args:
      proto: the message, perhaps without its content.
      content: the bytes of `tensor_content`, where they were left outside the message.

    Raises:
      StatusError: INVALID_ARGUMENT if TensorFlow couldn't parse it either; the caller words it.
    """
    if proto.dtype not in _FIELDS:
        raise invalid_argument(f"unsupported dtype {proto.dtype}")
    shape = _shape(proto)
    size = math.prod(shape)
    raw = content if content is not None else proto.tensor_content
    if proto.dtype == types_pb2.DT_STRING:
        return (_strings(bytes(raw), size) if len(raw) else _typed(proto, size)).reshape(shape)
    dtype = np.dtype(as_dtype(proto.dtype).as_numpy_dtype)
    if len(raw):
        if len(raw) != size * dtype.itemsize:
            raise invalid_argument(f"tensor_content has {len(raw)} bytes, its shape wants {size * dtype.itemsize}")
        return np.frombuffer(raw, dtype).reshape(shape)
    return _typed(proto, size).reshape(shape)


def _strings(content: bytes, size: int) -> Array:
    try:
        return object_array(split_strings(content, size))
    except ValueError as error:
        raise invalid_argument(str(error)) from error


def _shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    if proto.tensor_shape.unknown_rank:
        return ()
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if len(shape) > MAX_RANK or any(size < 0 for size in shape) or math.prod(shape) >= 1 << 62:
        raise invalid_argument(f"impossible shape {shape}")
    return shape


def _typed(proto: tensor_pb2.TensorProto, size: int) -> Array:
    """`size` values from the typed field: cut, or filled up with the last one, or with zeros."""
    field = getattr(proto, _FIELDS[proto.dtype])
    strings = proto.dtype == types_pb2.DT_STRING
    per_value = 2 if proto.dtype in (types_pb2.DT_COMPLEX64, types_pb2.DT_COMPLEX128) else 1
    sent = min(len(field) // per_value, size)
    dtype: np.dtype[Any] = np.dtype(object) if strings else np.dtype(as_dtype(proto.dtype).as_numpy_dtype)
    if sent < size and size * dtype.itemsize > _MAX_FILLED_BYTES:
        raise invalid_argument(f"shape of {size} values, of which {sent} were sent")
    values: Array = np.full(size, b"", object) if strings else np.zeros(size, dtype)
    if sent:
        chosen = field if sent * per_value == len(field) else field[: sent * per_value]
        if strings:
            values[:sent] = chosen
        elif proto.dtype in _HALVES:
            values.view(np.uint16)[:sent] = np.array(chosen, np.int64).astype(np.uint16)
        elif per_value == 2:
            values.view(values.real.dtype)[: 2 * sent] = chosen
        elif proto.dtype in (types_pb2.DT_UINT32, types_pb2.DT_UINT64):
            values[:sent] = np.array(chosen, np.uint64).astype(dtype)
        elif dtype.kind in "iu":
            values[:sent] = np.array(chosen, np.int64).astype(dtype)  # astype wraps as a C cast does
        else:
            values[:sent] = chosen
        values[sent:] = values[sent - 1]
    return values


def encode(array: Array, *, as_content: bool = False) -> list[bytes | memoryview]:
    """The wire form of the TensorProto of `array`, in pieces to be joined.

    Args:
      array: what the session returned; strings are an object array of bytes.
      as_content: the values go into `tensor_content` instead of the typed field.
    """
    array = np.asarray(array)
    number = as_dtype(array.dtype if array.dtype != object else "string").as_datatype_enum
    if number not in _FIELDS:
        raise StatusError(Code.UNIMPLEMENTED, f"an output of type {as_dtype(number).name} can't be sent")
    proto = tensor_pb2.TensorProto(dtype=number)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if number == types_pb2.DT_STRING and as_content:
        proto.tensor_content = join_strings(array.reshape(-1).tolist())
        return [proto.SerializeToString()]
    tag = _CONTENT_TAG if as_content else _PACKED_TAGS.get(number)
    if tag is not None:
        pieces: list[bytes | memoryview] = [proto.SerializeToString()]
        if array.size:
            raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            pieces += [tag, varint(raw.nbytes), raw]
        return pieces
    flat = array.reshape(-1)
    if number in _HALVES:
        flat = flat.view(np.uint16)
    elif array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    getattr(proto, _FIELDS[number]).extend(flat.tolist())
    return [proto.SerializeToString()]
