"""PredictRequest and PredictResponse on the wire, without copying what is large.

Python's protobuf copies a bytes field when it parses and again when it is read: with a batch of images that is tens
of milliseconds. So large `tensor_content`s are cut out of the request as views before the rest, now small, is parsed
as usual; and responses are joined from pieces. Anything unusual (a repeated key, a stray field) goes through protobuf
whole.
"""

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.message import DecodeError
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving.network.protos.tensor_codec import varint
from serving.server.rpc.status_error import Code, StatusError

_CUT_FROM = 64 * 1024
_INPUTS, _ENTRY_KEY, _ENTRY_VALUE, _CONTENT = 2, 1, 2, 4  # field numbers
_DELIMITED = 2  # the wire type that has a length


class _Unusual(Exception):
    """The message has to go to protobuf's own parser."""


def parse_predict(data: bytes) -> tuple[predict_pb2.PredictRequest, Mapping[str, memoryview]]:
    """Parses a PredictRequest; large contents come apart from it, by input alias.

    Raises:
      StatusError: INTERNAL if it is not a PredictRequest; gRPC's code for that.
    """
    contents: dict[str, memoryview] = {}
    small = data
    if len(data) >= _CUT_FROM:
        try:
            small = _without_contents(memoryview(data), contents)
        except (_Unusual, IndexError, UnicodeDecodeError):
            contents, small = {}, data
    try:
        return predict_pb2.PredictRequest.FromString(small), contents
    except DecodeError as error:
        raise StatusError(Code.INTERNAL, "Exception deserializing request!") from error


def _without_contents(data: memoryview, contents: dict[str, memoryview]) -> bytes:
    pieces: list[bytes | memoryview] = []
    aliases: set[str] = set()
    for number, start, body, end in _fields(data, _INPUTS):
        if number != _INPUTS:
            pieces.append(data[start:end])
            continue
        entry = data[body:end]
        halves = list(_fields(entry, _ENTRY_KEY, _ENTRY_VALUE))
        found = {field: entry[inner:stop] for field, _, inner, stop in halves}
        if len(halves) != 2 or set(found) != {_ENTRY_KEY, _ENTRY_VALUE}:
            raise _Unusual
        alias = str(found[_ENTRY_KEY], "utf-8")
        if alias in aliases:
            raise _Unusual
        aliases.add(alias)
        tensor = _cut_content(alias, found[_ENTRY_VALUE], contents)
        key = found[_ENTRY_KEY]
        inside = b"".join([b"\x0a", varint(len(key)), key, b"\x12", varint(len(tensor)), tensor])
        pieces += [b"\x12", varint(len(inside)), inside]
    return b"".join(pieces)


def _cut_content(alias: str, tensor: memoryview, contents: dict[str, memoryview]) -> bytes | memoryview:
    if len(tensor) < _CUT_FROM:
        return tensor
    kept: list[memoryview] = []
    for number, start, body, end in _fields(tensor, _CONTENT):
        if number == _CONTENT:
            if alias in contents:
                raise _Unusual
            contents[alias] = tensor[body:end]
        else:
            kept.append(tensor[start:end])
    if alias in contents and not len(contents[alias]):
        raise _Unusual
    return b"".join(kept)


def _fields(data: memoryview, *delimited: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, start of the tag, start of the body, end) of each field; those of `delimited` must have a length."""
    start = 0
    while start < len(data):
        tag, position, end = _field_at(data, start)
        if end > len(data) or (tag >> 3 in delimited and tag & 7 != _DELIMITED):
            raise _Unusual
        yield tag >> 3, start, position, end
        start = end


def _field_at(data: memoryview, position: int) -> tuple[int, int, int]:
    """(tag, start of the body, end) of the field that begins here; the end may lie beyond that of the data."""
    tag, position = _varint_at(data, position)
    kind = tag & 7
    if kind == _DELIMITED:
        length, position = _varint_at(data, position)
        return tag, position, position + length
    if kind == 0:
        return tag, position, _varint_at(data, position)[1]
    if kind in (1, 5):
        return tag, position, position + (8 if kind == 1 else 4)
    raise _Unusual


def _varint_at(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise _Unusual


def predict_response(spec: model_pb2.ModelSpec, outputs: Iterable[tuple[str, list[bytes | memoryview]]]) -> bytes:
    """Joins a PredictResponse from its model_spec and the wire form of each output (`tensors.encode`)."""
    pieces: list[bytes | memoryview] = []
    for alias, tensor in outputs:
        key = alias.encode()
        size = sum(len(piece) for piece in tensor)
        head = b"".join([b"\x0a", varint(len(key)), key, b"\x12", varint(size)])
        pieces += [b"\x0a", varint(len(head) + size), head, *tensor]
    raw = spec.SerializeToString()
    return b"".join([*pieces, b"\x12", varint(len(raw)), raw])
