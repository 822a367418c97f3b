"""The embedded server as a process on a fixed port, so that it can be killed, stopped and started again."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import grpc

from tests.conftest import MODEL_NAME, free_port


class Server:
    """`python -m serving.server`. A context manager."""

    def __init__(self, base_path: Path, log: Path, *flags: str, name: str = MODEL_NAME) -> None:
        self._port = free_port()
        self._log = log
        self._command = [
            *(sys.executable, "-m", "serving.server", f"--port={self._port}", "--host=127.0.0.1"),
            *(f"--model_name={name}", f"--model_base_path={base_path}", "--tensorflow_session_parallelism=2", *flags),
        ]
        self.address = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        for _ in range(600):
            if self._process.poll() is not None:
                break
            with grpc.insecure_channel(self.address) as channel:
                try:
                    grpc.channel_ready_future(channel).result(timeout=0.5)
                    return
                except grpc.FutureTimeoutError:
                    time.sleep(0.1)
        raise RuntimeError(self._log.read_text())

    def kill(self) -> None:
        """kill -9."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """It hangs: connections stay open, nothing is answered."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It works again."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)
