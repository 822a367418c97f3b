"""TensorFlow's profiler service, which TensorFlow Serving has on its gRPC port: its `Profile`, for TensorBoard.

Its messages ship with no Python package; the few fields that matter are read by number.
"""

import tempfile
import threading
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import empty_pb2, unknown_fields
from google.protobuf.message import DecodeError
from tensorflow.python.profiler.internal import _pywrap_profiler
from tensorflow.tsl.profiler.protobuf import profiler_options_pb2, xplane_pb2

from serving.network.protos.tensor_codec import varint
from serving.server.rpc.status_error import Code, StatusError

SERVICE = "tensorflow.ProfilerService"
_DURATION_MS, _OPTIONS, _FOLDER, _SESSION, _HOST, _ANSWER_WITH_TRACE = 1, 4, 5, 6, 7, 9  # of ProfileRequest
_EMPTY_TRACE, _TRACE = b"\x38\x01", b"\x42"  # of ProfileResponse: field 7 as true, tag of field 8
_LEVELS = ("host_tracer_level", "device_tracer_level", "python_tracer_level")


def profile(data: bytes, context: grpc.ServicerContext) -> bytes:
    """Traces this process for a while.

    Args:
      data: a serialised ProfileRequest.
      context: when its call ends, so does the trace.

    Returns:
      A serialised ProfileResponse. The trace is in it if the request wants that; else it is written to
      `<repository_root>/<session_id>/<host_name>.xplane.pb`, as the binary does: whoever reaches the port may do so.

    Raises:
      StatusError: INTERNAL if `data` is not a ProfileRequest.
      tf.errors.OpError: ALREADY_EXISTS while another trace runs; or the file can't be written.
    """
    try:
        unknown: Any = unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(data))
        fields = {field.field_number: field.data for field in unknown}
        options = profiler_options_pb2.ProfileOptions.FromString(fields.get(_OPTIONS, b""))
        folder, session_id, host = (fields.get(number, b"").decode() for number in (_FOLDER, _SESSION, _HOST))
    except (DecodeError, UnicodeDecodeError) as error:
        raise StatusError(Code.INTERNAL, "Exception deserializing request!") from error
    over = threading.Event()
    if not context.add_callback(over.set):
        return b""
    trace = _trace(over, fields.get(_DURATION_MS, 0) / 1000, {level: getattr(options, level) for level in _LEVELS})
    planes = xplane_pb2.XSpace.FromString(trace).planes
    if not any(line.events for plane in planes for line in plane.lines):
        return _EMPTY_TRACE
    if fields.get(_ANSWER_WITH_TRACE):
        return _TRACE + varint(len(trace)) + trace
    tf.io.gfile.makedirs(f"{folder}/{session_id}")
    with tf.io.gfile.GFile(f"{folder}/{session_id}/{host}.xplane.pb", "wb") as file:
        file.write(trace)
    return b""


def _trace(over: threading.Event, duration_s: float, options: dict[str, int]) -> bytes:
    """A serialised XSpace of what happens until `over` is set, or `duration_s` have passed."""
    with tempfile.TemporaryDirectory() as folder:
        session = _pywrap_profiler.ProfilerSession()
        session.start(folder, options)
        over.wait(min(duration_s, threading.TIMEOUT_MAX))
        session.export_to_tb()
        (file,) = Path(folder).rglob("*.xplane.pb")
        return file.read_bytes()
