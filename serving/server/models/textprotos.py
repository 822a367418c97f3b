"""TensorFlow Serving's text-format config files.

Three of the messages ship with no Python package, so they are described here by field name (text format needs no more)
and built in a pool of their own, where they can't clash with the real ones.
"""

import sys
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from serving.server.rpc.status_error import Code, StatusError, invalid_argument
from serving.storage.local_file import read_file

_KINDS = {"bool": 8, "int64": 3, "string": 9}  # FieldDescriptorProto.Type
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3  # FieldDescriptorProto.Label
_MESSAGES: dict[str, dict[str, str]] = {
    "Int64Value": {"value": "int64"},
    "BoolValue": {"value": "bool"},
    "StringValue": {"value": "string"},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
    },
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


def _build() -> dict[str, Any]:
    package = "tensorflow.serving"
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package=package, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields.items(), start=1):
            repeated, _, kind = kind.rpartition(" ")
            field: Any = described.field.add(name=name, number=number, label=_REPEATED if repeated else _OPTIONAL)
            field.type = _KINDS.get(kind, _MESSAGE)
            if kind not in _KINDS:
                field.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in _MESSAGES
    }


_CLASSES = _build()
BatchingParameters: Any = _CLASSES["BatchingParameters"]
SSLConfig: Any = _CLASSES["SSLConfig"]
MonitoringConfig: Any = _CLASSES["MonitoringConfig"]


def read(path: str, message: Message) -> Any:
    """Parses the text proto in the file `path` into `message` and returns it.

    Raises:
      StatusError: NOT_FOUND if the file isn't there, INVALID_ARGUMENT if it does not parse. As the binary does,
        protobuf's own account of the place goes to stderr.
    """
    try:
        return text_format.Parse(read_file(path).decode("utf-8-sig"), message)
    except OSError as error:
        code = Code.NOT_FOUND if isinstance(error, FileNotFoundError) else Code.FAILED_PRECONDITION
        raise StatusError(code, f"{path}; {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        print(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {error}", file=sys.stderr, flush=True)
        raise invalid_argument(f"Invalid protobuf file: '{path}'") from error
