"""A server in a process of its own: ready when it is entered, and dead with its parent."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from serving.server import ServerProcess
from serving.server.rpc.status_error import StatusError
from serving.server.run import process
from tests.serving.server.client import Client
from tests.serving.server.conftest import eventually
from tests.serving.server.saved_models import write_broken

ROOT = Path(__file__).resolve().parents[4]


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


def test_a_start_that_takes_long_is_told_of_by_the_models_name(
    written: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "_SAY_EVERY_S", 0.0)
    with ServerProcess(written / "m", model_name="dogs"):
        assert caplog.messages[0] == "the server of model dogs has not started after 0 s; waiting up to 300 s"


def test_a_start_can_be_broken_off_from_another_thread(written: Path) -> None:
    server = ServerProcess(written / "m", model_name="m")

    def kill() -> None:
        eventually(lambda: server.is_running)
        server.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(StatusError, match="ended with status -9"):
        server.start()
    killing.join()
    assert not server.is_running


def test_a_start_that_was_broken_off_before_fails(written: Path) -> None:
    server = ServerProcess(written / "m", model_name="m")
    server.kill()
    with pytest.raises(StatusError, match="ended with status -9"):
        server.start()
    assert not server.is_running


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
