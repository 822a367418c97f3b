"""Clients that mean harm, or know no better: an error for them, service for the others."""

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from serving.network.protos.tensor_codec import varint
from serving.server import EmbeddedServer
from serving.server.rpc import tensors
from tests.serving.server.client import Client, refused
from tests.serving.server.conftest import Gate

X = np.zeros([1, 2], np.float32)


@pytest.fixture(scope="module")
def server(written: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(written / "m", model_name="m", rest_api_port=-1) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Client:
    return Client(server.address)


def test_bytes_that_are_no_request(client: Client) -> None:
    raw = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    whole = client.request(x=np.zeros([20_000, 2], np.float32)).SerializeToString()
    dice = random.Random(0)
    codes = set()
    for _ in range(200):
        broken = bytearray(whole[: dice.choice([20, 200, len(whole)])])
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(min(60, len(broken)))] = dice.randrange(256)
        codes.add(raw.future(bytes(broken), timeout=60).code().name)
    assert codes <= {"OK", "INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
    assert client.predict(x=X)["y"].tolist() == [[3, 3]]


@pytest.mark.parametrize(
    "shape", [[2**31 - 1], [2**40], [2**62, 2], [-5], [2**20, 2**20], [1] * 300], ids=lambda shape: str(shape)[:20]
)
def test_shapes_that_promise_more_than_was_sent(client: Client, shape: list[int]) -> None:
    for fields in ({"float_val": [1.0]}, {"tensor_content": b"1234"}):
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, **fields)
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        if fields == {"tensor_content": b"1234"} or np.prod(shape, dtype=float) != 1:
            with refused("INVALID_ARGUMENT", "tensor parsing error: x"):
                client.predict("same_float32", x=proto)


@pytest.mark.parametrize(("signature", "value"), [("same_string", "a"), ("three", 1.0)], ids=["input", "output"])
def test_strings_of_more_dimensions_than_tensorflow_converts(client: Client, signature: str, value: object) -> None:
    most = np.full([1] * tensors.MAX_RANK, value, object if signature == "same_string" else np.float32)
    client.predict(signature, x=most)
    proto = tf.make_tensor_proto(most)
    proto.tensor_shape.dim.add(size=1)
    with refused("INVALID_ARGUMENT", "tensor parsing error: x", exact=True):
        client.predict(signature, x=proto)


def test_strings_that_are_not_utf8(client: Client) -> None:
    assert client.predict("lookup", keys=[b"\xff\xfe", b"a\x00b"])["values"].tolist() == [b"missing"] * 2


def test_hundreds_of_connections_that_say_nothing(server: EmbeddedServer, client: Client) -> None:
    host, _, port = server.address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(300)]
    try:
        for _ in range(20):
            assert client.predict(x=X)["y"].tolist() == [[3, 3]]
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("size", [b"Content-Length: 3000000000", b"X: " + b"x" * 1_000_000], ids=["body", "header"])
def test_rest_requests_that_are_too_large(server: EmbeddedServer, client: Client, size: bytes) -> None:
    host, _, port = server.rest_address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: m\r\n" + size + b"\r\n\r\n")
        assert connection.recv(100).startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert client.predict(x=X)["y"].tolist() == [[3, 3]]


def test_hundreds_of_slow_readers(server: EmbeddedServer, client: Client) -> None:
    """Each asks for 800 kB over a stream whose window stays at 64 KiB, and reads none of it."""
    body = client.request("same_float32", x=np.zeros(200_000, np.float32)).SerializeToString()
    request = (
        f"POST /v1/models/m:predict HTTP/1.1\r\nHost: m\r\nContent-Length: {len(REST_BODY)}\r\n\r\n".encode()
        + REST_BODY
    )
    host, _, port = server.rest_address.rpartition(":")
    readers = []
    for _ in range(200):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, int(port)))
        reader.sendall(request)
        readers.append(reader)
    channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    pending = [call.future(body, timeout=60) for _ in range(100)]
    try:
        for _ in range(20):
            assert client.predict(x=X)["y"].tolist() == [[3, 3]]
    finally:
        for future in pending:
            future.cancel()
        channel.close()
        for reader in readers:
            reader.close()


def test_hundreds_of_senders_that_never_send(server: EmbeddedServer, client: Client) -> None:
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait()
        yield from ()

    channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
    call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
    started = [call.future(nothing()) for _ in range(200)]
    try:
        for _ in range(20):
            assert client.predict(x=X)["y"].tolist() == [[3, 3]]
    finally:
        never.set()
        for future in started:
            future.cancel()
        channel.close()


REST_BODY = b'{"signature_name": "same_float32", "inputs": [' + b"0.5," * 10_000 + b"0.5]}"


def test_many_clients_at_once(server: EmbeddedServer) -> None:
    def ask(number: int) -> bool:
        own = Client(server.address)
        answer = own.predict(x=np.full([1, 2], number, np.float32))["y"].tolist()
        own.channel.close()
        return answer == [[number + 3, number + 3]]

    with ThreadPoolExecutor(100) as pool:
        assert all(pool.map(ask, range(300)))


def test_clients_that_hang_up(server: EmbeddedServer, client: Client, gate: Gate) -> None:
    for _ in range(30):
        own = Client(server.address)
        gate.send(own)
        own.channel.close()
    gate.open()
    assert client.predict(x=X)["y"].tolist() == [[3, 3]]


def test_a_limit_of_threads(written: Path, gate: Gate) -> None:
    with EmbeddedServer(written / "m", model_name="m", grpc_max_threads=1) as server:
        client = Client(server.address)
        running = gate.send(client)
        gate.wait_until_reached()
        with refused("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", exact=True):
            client.predict(x=X)
        gate.open()
        assert running.exception() is None


@pytest.mark.faults
def test_a_message_of_two_gigabytes(written: Path) -> None:
    if psutil.virtual_memory().available < 14 << 30:
        pytest.skip("needs 14 GiB of free memory")
    rows = 2**28 - 1024
    head = Client("localhost:1").request("total", x=np.zeros([1, 2], np.float32))
    head.inputs["x"].ClearField("float_val")
    head.inputs["x"].ClearField("tensor_content")
    head.inputs["x"].tensor_shape.dim[0].size = rows
    tensor = head.inputs["x"].SerializeToString()
    size = rows * 8
    content = b"\x22" + varint(size)
    inside = b"\x0a\x01x\x12" + varint(len(tensor) + len(content) + size) + tensor + content
    head.ClearField("inputs")
    # Built by hand, since protobuf would hold three copies at once.
    body = b"".join(
        [head.SerializeToString(), b"\x12", varint(len(inside) + size), inside, b"\0" * (size - 4), b"\0\0\x80?"]
    )
    assert len(body) > 2**31 - 10_000
    with EmbeddedServer(written / "m", model_name="m") as server:
        client = Client(server.address)
        answer = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(body, timeout=500)
    assert predict_pb2.PredictResponse.FromString(answer).outputs["y"].float_val == [1.0]
