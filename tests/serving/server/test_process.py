"""The server as a process of its own: flags, exit statuses, draining, sockets, and dying with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.server import EmbeddedServer, ServerProcess
from serving.server.models import textprotos
from serving.server.rpc.status import StatusError
from serving.server.run.options import FlagError, ServerOptions, parse_flags, to_flags
from serving.server.run.serve_command import serve as serve_command
from tests.serving.server.client import Client, refused
from tests.serving.server.conftest import Gate, eventually
from tests.serving.server.models import write_broken

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


def test_flags_are_read_as_the_binary_reads_them() -> None:
    options, unknown = parse_flags(
        ["--port=1", "--enable_batching", "--enable_profiler=false", "--port=2", "--model_name", "x", "--odd=1"]
    )
    assert (options.port, options.enable_batching, options.enable_profiler) == (2, True, False)
    assert options.model_name == "default"  # a value after a blank is not understood
    assert unknown == ["--model_name", "x", "--odd=1"]
    for bad in ("--port=x", "--enable_batching=yes", "--per_process_gpu_memory_fraction=a"):
        with pytest.raises(FlagError):
            parse_flags([bad])


def test_flags_can_be_written_back() -> None:
    options = ServerOptions(port=7, enable_batching=True, enable_profiler=False, model_name="a b")
    assert parse_flags(to_flags(options)) == (options, [])


def test_no_port_at_all_is_an_error(written: Path) -> None:
    options = ServerOptions(port=0, model_base_path=str(written / "m"))
    with pytest.raises(StatusError, match="grpc_port is not set"):
        EmbeddedServer(options=options).start()


def test_the_defaults_of_tensorflow_model_server() -> None:
    options = ServerOptions()
    assert (options.port, options.rest_api_port, options.rest_api_timeout_in_ms) == (8500, 0, 30000)
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert (options.file_system_poll_wait_seconds, options.enable_model_warmup) == (1, True)


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


def test_a_server_process_is_ready_when_it_is_entered(written: Path) -> None:
    with ServerProcess(written / "m", model_name="m", extra_flags=["--enable_batching"]) as server:
        assert Client(server.address).predict(x=np.zeros([1, 2], np.float32))["y"].tolist() == [[3, 3]]
        assert os.getpgid(server.pid) != os.getpgid(0)  # the terminal's Ctrl-C is not for it
        folder = Path(server.address.removeprefix("unix:")).parent
        pid = server.pid
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_process_that_dies_says_why(base: Path) -> None:
    write_broken(base, 1)
    with pytest.raises(StatusError, match=r"(?s)status 255:.*Failed to start server. Error: UNKNOWN: 1 serv"):
        ServerProcess(base, model_name="m").start()


def test_a_server_process_for_no_model_fails_at_once(base: Path) -> None:
    with pytest.raises(StatusError, match="no version folder"):
        ServerProcess(base, model_name="m").start()


def test_a_server_process_dies_with_its_parent(written: Path) -> None:
    # It was started by a thread that has ended, which must not be taken for the parent's death.
    script = f"""
import threading, time
from serving.server import ServerProcess
server = ServerProcess({str(written / "m")!r}, model_name="m")
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
print(server.pid, server.address, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, address = parent.stdout.readline().split()
    assert Client(address).status() == [(3, "AVAILABLE")]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not _alive(int(pid)))
    assert not Path(address.removeprefix("unix:")).parent.exists()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, serving.server, serving.server.run.serve_command, serving.server.run.process\n"
        "print([name for name in ('tensorflow', 'grpc', 'numpy', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flow_images_serve(written: Path) -> None:
    script = "from serving.server.run.serve_command import serve; serve()"
    command = [sys.executable, "-c", script, "--model-base-path", str(written / "m"), "--port", "0"]
    command += ["--rest-api-port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = process.stdout.readline()
    assert ready.startswith("Serving m version 3 at 127.0.0.1:")
    assert "serving_default" in ready
    assert Client(ready.split()[5]).status() == [(3, "AVAILABLE")]
    assert process.stdout.readline().startswith("REST at http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_flow_images_serve_says_what_is_wrong(base: Path, written: Path) -> None:
    run = CliRunner().invoke
    missing = run(serve_command, ["--model-base-path", str(base / "x")])
    assert missing.exit_code == 2
    assert "no such folder" in missing.output
    empty = run(serve_command, ["--model-base-path", str(base)])
    assert empty.exit_code == 2
    assert f"no version folder in {base}" in empty.output
    remote = run(serve_command, ["--model-base-path", "s3://bucket/dogs"])
    assert remote.exit_code == 2
    assert "copy the model to a local folder" in remote.output


def test_flow_images_serve_judges_its_flags_before_it_loads_anything(written: Path, tmp_path: Path) -> None:
    nonsense, version = tmp_path / "nonsense", tmp_path / "store" / "20251101"
    nonsense.write_text("max_batch_size { nonsense")
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as live:
        live.bind(str(tmp_path / "live"))
        live.listen()
        port = taken.getsockname()[1]
        model = f"--model-base-path={written / 'm'}"
        cases: list[tuple[list[str], int, str]] = [
            (["--model-base-path="], 2, "--model-base-path is empty"),
            ([f"--model-base-path={nonsense}"], 2, "is a file, not a folder"),
            ([f"--model-base-path={version}"], 2, f"give the folder that it is in, {version.parent}"),
            ([model, f"--port={port}"], 1, "choose another --port"),
            ([model, "--port=0", f"--rest-api-port={port}"], 1, "choose another --rest-api-port"),
            ([model, "--port=0", "--host=no.such.host.invalid"], 2, "--host: no.such.host.invalid is no address"),
            ([model, "--port=0", "--host=192.0.2.1"], 2, "--host: 192.0.2.1 is no address of this machine"),
            ([model, "--port=0", f"--grpc-socket-path={tmp_path / 'live'}"], 2, "another server listens on"),
            ([model, "--port=0", f"--grpc-socket-path={nonsense}"], 2, "is there already, and no socket"),
            ([model, "--port=0", f"--grpc-socket-path=/tmp/{'x' * 120}"], 2, "125 bytes of 107"),
            ([model, "--port=0", f"--grpc-socket-path={tmp_path / 'no' / 'x'}"], 2, "no folder"),
            ([model, "--port=0", f"--batching-parameters-file={nonsense}"], 2, "Invalid protobuf file"),
            ([model, "--port=0", f"--ssl-config-file={tmp_path / 'fifo'}"], 2, "not a file"),
        ]
        for flags, code, message in cases:
            result = CliRunner().invoke(serve_command, flags)
            assert (result.exit_code, message in result.output) == (code, True), (flags, result.output)


def test_a_text_proto_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_bytes(b"\xef\xbb\xbfmax_batch_size { value: 8 }")
    assert textprotos.read(str(file), textprotos.BatchingParameters()).max_batch_size.value == 8


def test_an_ipv6_address(written: Path) -> None:
    with EmbeddedServer(written / "m", model_name="m", host="::1", rest_api_port=-1) as server:
        assert (server.address[:6], server.rest_address[:6]) == ("[::1]:", "[::1]:")
        assert Client(server.address).status() == [(3, "AVAILABLE")]


def test_a_base_path_that_cannot_be_read_is_an_error_at_once() -> None:
    with pytest.raises(StatusError, match="nosuch://bucket"):
        EmbeddedServer("nosuch://bucket/m", model_name="m").start()
