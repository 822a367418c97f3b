"""`python -m serving.server`: exit statuses, draining, sockets, and what `import serving.server` loads."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serving.server.client import Client, refused
from tests.serving.server.conftest import Gate

ROOT = Path(__file__).resolve().parents[3]
Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """`python -m serving.server` with these flags; its output goes to the files out and err."""
    started = []

    def start(*flags: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.server", *flags],
            cwd=ROOT,
            stdout=(tmp_path / "out").open("w"),
            stderr=(tmp_path / "err").open("w"),
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:  # those of a test that failed
        process.kill()


def test_it_serves_and_drains_on_sigterm(
    launch: Launch, written: Path, tmp_path: Path, free_port: int, gate: Gate
) -> None:
    process = launch(
        f"--port={free_port}",
        f"--model_base_path={written / 'm'}",
        "--model_name=m",
        "--enable_grpc_healthcheck_service",
        f"--grpc_socket_path={tmp_path / 's.sock'}",
        "--no_such_flag=1",
    )
    client = Client(f"127.0.0.1:{free_port}")
    grpc.channel_ready_future(client.channel).result(120)
    assert client.predict(x=np.zeros([1, 2], np.float32))["y"].tolist() == [[3, 3]]
    assert Client(f"unix:{tmp_path / 's.sock'}").status() == [(3, "AVAILABLE")]
    health = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", "ModelService", "PredictionService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with refused("NOT_FOUND", "service name unknown", exact=True):
        health.Check(health_pb2.HealthCheckRequest(service="other"))
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=120)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    slow = gate.send(client)
    gate.wait_until_reached()
    process.send_signal(signal.SIGTERM)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    gate.open()
    assert slow.result().outputs["y"].string_val == [gate.path.encode()]
    assert process.wait(60) == 143
    assert "unknown argument: --no_such_flag=1" in (tmp_path / "out").read_text()


@pytest.mark.faults
def test_a_request_that_never_ends_does_not_hold_up_the_exit(
    launch: Launch, written: Path, free_port: int, gate: Gate
) -> None:
    base_path = f"--model_base_path={written / 'm'}"
    process = launch(f"--port={free_port}", base_path, "--model_name=m", "--shutdown_grace_s=0.5")
    client = Client(f"127.0.0.1:{free_port}")
    grpc.channel_ready_future(client.channel).result(120)
    endless = gate.send(client)
    gate.wait_until_reached()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert endless.exception() is not None


@pytest.mark.parametrize(
    ("flags", "out", "err"),
    [
        (["--port=x"], "usage", "Couldn't interpret value"),
        (["--help"], "--rest_api_port", ""),
        ([], "usage", ""),
        (
            ["--model_config_file={bad}"],
            "Invalid protobuf file: '{bad}'",
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
    ],
)
def test_what_ends_with_255(launch: Launch, tmp_path: Path, flags: list[str], out: str, err: str) -> None:
    bad = tmp_path / "bad.config"
    bad.write_text("model_config_list { nonsense }")
    process = launch(*[flag.format(bad=bad) for flag in flags])
    assert process.wait(120) == 255
    assert out.format(bad=bad) in (tmp_path / "out").read_text()
    assert err in (tmp_path / "err").read_text()


def test_version(launch: Launch, tmp_path: Path) -> None:
    assert launch("--version").wait(60) == 0
    assert "TensorFlow Library: 2." in (tmp_path / "out").read_text()


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, serving.server, serving.server.run.serve_command, serving.server.run.process\n"
        "print([name for name in ('tensorflow', 'grpc', 'numpy', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
