"""Tensors on the wire, against TensorFlow's own reading of them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.network.protos.tensor_codec import varint
from serving.server.rpc import tensors
from serving.server.rpc.status_error import StatusError
from tests.serving.server.saved_models import TYPES


def arrays(dtype: tf.DType) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = []
    for shape in [(), (0,), (3,), (2, 3), (2, 0, 3), (4, 3, 2)]:
        if dtype == tf.string:
            array = np.full(shape, b"\x00\xffz", object)
        elif dtype == tf.bool:
            array = rng.random(shape) > 0.5
        else:
            array = (rng.random(shape) * 100).astype(dtype.as_numpy_dtype)
        made.append(np.asarray(array))
    return made


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("as_content", [False, True])
def test_encoded_tensors_are_what_tensorflow_reads(dtype: tf.DType, as_content: bool) -> None:
    for array in arrays(dtype):
        proto = tensor_pb2.TensorProto.FromString(b"".join(tensors.encode(array, as_content=as_content)))
        assert proto.dtype == dtype.as_datatype_enum
        back = _as_tensorflow_reads(proto)
        assert back.shape == array.shape
        assert back.tolist() == array.tolist()
        assert bool(proto.tensor_content) == bool(as_content and array.size)


def _as_tensorflow_reads(proto: tensor_pb2.TensorProto) -> np.ndarray:
    if proto.dtype != types_pb2.DT_STRING:
        return tf.make_ndarray(proto)
    raw = proto.SerializeToString()  # make_ndarray can't read strings in tensor_content
    return np.asarray(tf.io.parse_tensor(raw, tf.string).numpy(), object)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
def test_decoded_tensors_are_what_tensorflow_wrote(dtype: tf.DType) -> None:
    for array in arrays(dtype):
        proto = tf.make_tensor_proto(array, dtype=dtype, shape=array.shape)
        back = tensors.decode(proto)
        assert back.shape == array.shape
        assert back.tolist() == array.tolist()


def test_arrays_that_are_not_contiguous() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    proto = tensor_pb2.TensorProto.FromString(b"".join(tensors.encode(array)))
    assert tf.make_ndarray(proto).tolist() == array.tolist()


def test_strings_in_tensor_content() -> None:
    values = [b"a", b"", b"x" * 300]
    lengths = b"".join(varint(len(value)) for value in values)
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=lengths + b"".join(values))
    proto.tensor_shape.dim.add(size=3)
    assert tensors.decode(proto).tolist() == values
    for broken in (lengths, lengths + b"a", b"\xff" * 12, b"\x05"):
        proto.tensor_content = broken
        with pytest.raises(StatusError):
            tensors.decode(proto)
