"""SIGINT and SIGTERM at every moment of a server's life: 130 or 143, no traceback, nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.serving.server.client import Client
from tests.serving.server.conftest import Gate, eventually
from tests.serving.server.models.test_warmup import record, write

ROOT = Path(__file__).resolve().parents[3]
SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
COMMANDS = {
    "flow-images serve": [sys.executable, "-c", "from flow_images.cli import main; main()", "serve"],
    "python -m serving.server": [sys.executable, "-m", "serving.server"],
}


class Server:
    """One of the two commands, as a process."""

    def __init__(self, command: str, folder: Path, env: dict[str, str], *flags: str) -> None:
        self.said = folder / "said"
        self.socket = folder / "s.sock"
        temporary = folder / "tmp"
        temporary.mkdir()
        self.temporary = temporary
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [*COMMANDS[command], *flags],
                cwd=ROOT,
                stdout=said,
                stderr=said,
                env=os.environ | {"TMPDIR": str(temporary)} | env,
            )

    def ends(self, number: signal.Signals, code: int, *, times: int = 1) -> None:
        """The signal ends it with this code, and nothing is left of it."""
        for _ in range(times):
            self.process.send_signal(number)
        self.ended(code)

    def ended(self, code: int) -> None:
        assert self.process.wait(120) == code, self.said.read_text()
        assert "Traceback" not in self.said.read_text()
        assert not self.socket.exists()
        assert not list(self.temporary.iterdir())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server that serves a base path as `m` on a Unix socket, and on more ports by further flags."""
    started = []

    def launch(command: str, base: Path, env: dict[str, str] | None = None, **flags: object) -> Server:
        flags = {name.replace("_", "-"): value for name, value in flags.items()}
        names = {
            "model-base-path": base,
            "model-name": "m",
            "grpc-socket-path": tmp_path / "s.sock",
            "port": 0,
            **flags,
        }
        if command == "python -m serving.server":
            names = {name.replace("-", "_"): value for name, value in names.items()}
        server = Server(command, tmp_path, env or {}, *(f"--{name}={value}" for name, value in names.items()))
        started.append(server.process)
        return server

    yield launch
    for process in started:
        process.kill()
        process.wait()


def ready(server: Server) -> Client:
    client = Client(f"unix:{server.socket}")
    grpc.channel_ready_future(client.channel).result(120)
    return client


@SIGNALS
@pytest.mark.parametrize("command", COMMANDS)
def test_while_tensorflow_is_imported(
    start: Callable[..., Server], written: Path, tmp_path: Path, command: str, number: signal.Signals, code: int
) -> None:
    stub = tmp_path / "stub" / "tensorflow"
    stub.mkdir(parents=True)
    reached = tmp_path / "reached"
    stub.joinpath("__init__.py").write_text(f"import time; open({str(reached)!r}, 'w').close(); time.sleep(1000)")
    server = start(command, written / "m", {"PYTHONPATH": str(stub.parent)})
    eventually(reached.exists)
    server.ends(number, code)


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("flow-images serve", signal.SIGINT, 130), ("python -m serving.server", signal.SIGTERM, 143)],
)
def test_while_a_model_warms_up(
    start: Callable[..., Server], written: Path, base: Path, gate: Gate, command: str, number: signal.Signals, code: int
) -> None:
    (base / "1" / "assets.extra").mkdir(parents=True)
    for name in ("saved_model.pb", "variables"):
        (base / "1" / name).symlink_to(written / "m" / "1" / name)
    write(base / "1", record("gate", path=[gate.path]))
    server = start(command, base)
    eventually(Path(gate.path + ".in").exists, timeout_s=120)
    server.ends(number, code)


def test_with_a_request_in_flight(start: Callable[..., Server], written: Path, gate: Gate) -> None:
    server = start("python -m serving.server", written / "m")
    client = ready(server)  # kept, as a channel that nobody has any more is closed
    running = gate.send(client)
    gate.wait_until_reached()
    server.process.send_signal(signal.SIGINT)
    eventually(lambda: "stopping; press Ctrl-C again to stop at once" in server.said.read_text())
    gate.open()
    assert running.result().outputs["y"].string_val == [gate.path.encode()]
    server.ended(130)


def test_with_a_rest_request_in_flight(start: Callable[..., Server], written: Path, gate: Gate, free_port: int) -> None:
    server = start("flow-images serve", written / "m", port=0, rest_api_port=free_port)
    ready(server)
    body: dict[str, Any] = {"signature_name": "gate", "instances": [gate.path]}
    url = f"http://127.0.0.1:{free_port}/v1/models/m:predict"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, url, json=body, timeout=120)
        gate.wait_until_reached()
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping; press Ctrl-C again to stop at once" in server.said.read_text())
        gate.open()
        assert answer.result().status_code == 200
    server.ended(143)
    with socket.create_server(("127.0.0.1", free_port)):
        pass  # the port is free again


def test_twice_in_a_row(start: Callable[..., Server], written: Path, gate: Gate) -> None:
    server = start("flow-images serve", written / "m", port=0)
    client = ready(server)  # kept, as a channel that nobody has any more is closed, and its calls cancelled
    running = gate.send(client)
    gate.wait_until_reached()
    assert not running.done()
    server.process.send_signal(signal.SIGINT)
    eventually(lambda: "stopping; press Ctrl-C again to stop at once" in server.said.read_text())
    server.ends(signal.SIGTERM, 143)


def test_while_it_waits_for_a_version(start: Callable[..., Server], base: Path) -> None:
    server = start("python -m serving.server", base)
    eventually(lambda: "No versions of servable m" in server.said.read_text(), timeout_s=120)
    server.ends(signal.SIGTERM, 143, times=2)


def test_while_a_profile_is_taken(start: Callable[..., Server], written: Path) -> None:
    server = start("python -m serving.server", written / "m", shutdown_grace_s=0.5)
    call = ready(server).channel.unary_unary("/tensorflow.ProfilerService/Profile")
    profile = call.future(b"\x08\x80\xad\xe2\x04", timeout=120)  # of 10,000 s
    eventually(lambda: any(server.temporary.iterdir()))
    server.ends(signal.SIGTERM, 143)
    assert profile.exception() is not None
