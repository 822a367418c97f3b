"""The profiler service, by hand-made messages, since the real ones ship with no Python package."""

import threading
from pathlib import Path

import numpy as np
import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests.serving.server.client import Client, refused
from tests.serving.server.conftest import Serve


def request(folder: Path, *, milliseconds: int) -> bytes:
    """A ProfileRequest: duration, repository_root, session_id, host_name."""
    path = str(folder).encode()
    return bytes([0x08, milliseconds, 0x2A, len(path)]) + path + b"\x32\x07session\x3a\x04host"


def call(client: Client, data: bytes) -> bytes:
    answer: bytes = client.channel.unary_unary("/tensorflow.ProfilerService/Profile")(data, timeout=60)
    return answer


@pytest.fixture
def client(serve: Serve, written: Path) -> Client:
    return serve(written / "m")


def test_a_trace_is_written_where_the_client_says(client: Client, tmp_path: Path) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            client.predict(x=np.zeros([1, 2], np.float32))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        while call(client, request(tmp_path, milliseconds=100)):  # an empty trace has an answer
            pass
    finally:
        stop.set()
        worker.join()
    trace = xplane_pb2.XSpace.FromString((tmp_path / "session" / "host.xplane.pb").read_bytes())
    assert trace.planes


def test_what_is_no_request(client: Client) -> None:
    with refused("INTERNAL"):
        call(client, b"\xff")


def test_it_can_be_turned_off(serve: Serve, written: Path, tmp_path: Path) -> None:
    with refused("UNIMPLEMENTED"):
        call(serve(written / "m", enable_profiler=False), request(tmp_path, milliseconds=1))
