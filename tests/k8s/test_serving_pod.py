"""The server's container as the manifests have it, its command, arguments and probe really run, without a cluster."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.conftest import free_port
from tests.faults.jobs import wait_until
from tests.k8s.builds import Object, compose, kubectl, one
from tests.serving.server.client import Client
from tests.serving.server.conftest import Gate
from tests.serving.server.saved_models import write_model

pytestmark = pytest.mark.skipif(kubectl() is None, reason="needs kubectl")


class Pod:
    """The container `serving`, its files and ports put where a test may have them."""

    def __init__(self, objects: list[Object], folder: Path) -> None:
        spec = one(objects, "Deployment", "serving")["spec"]["template"]["spec"]
        self.container: Object = spec["containers"][0]
        self.folder, self.port, self.rest_port = folder, free_port(), free_port()
        (variable,) = self.container["env"]
        key = variable["valueFrom"]["configMapKeyRef"]
        self._environment = {
            **os.environ,
            variable["name"]: one(objects, "ConfigMap", key["name"])["data"][key["key"]],
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        config = next(v["configMap"]["name"] for v in spec["volumes"] if v["name"] == "config")
        for place in ("etc", "tmp", "models"):
            (folder / place).mkdir()
        for name, text in one(objects, "ConfigMap", config)["data"].items():
            (folder / "etc" / name).write_text(self._placed(text))

    @contextlib.contextmanager
    def running(self, *changed: tuple[str, str]) -> Iterator[None]:
        """Runs the command, with (pattern, replacement) of its arguments."""
        flags = "\n".join(self.container["args"])
        for pattern, replacement in changed:
            flags = re.sub(pattern, replacement, flags)
        with (self.folder / "log").open("wb") as log:
            command = [self._placed(word) for word in [*self.container["command"], *flags.splitlines()]]
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
            try:
                wait_until(lambda: process.poll() is not None or self.is_ready())
                assert process.poll() is None, (self.folder / "log").read_text()
                yield
            finally:
                process.kill()
                process.wait()

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """A client of its model."""
        client = Client(f"127.0.0.1:{self.port}", self._environment["MODEL_NAME"])
        with client.channel:
            yield client

    def is_ready(self, **environment: str) -> bool:
        """Whether the readiness probe is content."""
        probe = [self._placed(word) for word in self.container["readinessProbe"]["exec"]["command"]]
        return subprocess.run(probe, env={**self._environment, **environment}, capture_output=True).returncode == 0

    def _placed(self, text: str) -> str:
        moved = {
            "dumb-init ": "",  # Process 1 is the test's matter.
            "=8500": f"={self.port}",
            "8501": str(self.rest_port),
            "/etc/serving/": f"{self.folder}/etc/",
            "/tmp/": f"{self.folder}/tmp/",
            '"/models/': f'"{self.folder}/models/',
        }
        return re.sub("|".join(map(re.escape, moved)), lambda found: moved[found[0]], text)


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """A server of a model that a team calls `cats`, in its own kustomization."""
    name: dict[str, Any] = {"name": "model", "namespace": "flow-images", "behavior": "merge"}
    objects = compose(tmp_path / "cats", "overlays/local", [], [{**name, "literals": ["MODEL_NAME=cats"]}])
    return Pod(objects, tmp_path)


def test_a_server_of_a_model_of_another_name_becomes_ready(pod: Pod) -> None:
    write_model(pod.folder / "models/cats")
    assert not pod.is_ready()
    with pod.running():
        assert pod.is_ready()
        assert not pod.is_ready(MODEL_NAME="dogs")


AGE = (r"max_connection_age_ms=\d+", "max_connection_age_ms=100")
GRACE = (r"max_connection_age_grace_ms=\d+", "max_connection_age_grace_ms=1")


def test_a_request_outlives_the_age_of_its_connection_and_not_the_grace(pod: Pod) -> None:
    write_model(pod.folder / "models/cats")
    with pod.running(AGE), pod.client() as client:
        gate, old = Gate(pod.folder / "slow"), threading.Event()
        request = gate.send(client)
        gate.wait_until_reached()
        # The server tells the client to reconnect: the channel has no ready connection, and the request lives on.
        client.channel.subscribe(lambda state: old.set() if state != grpc.ChannelConnectivity.READY else None)
        assert old.wait(60)
        gate.open()
        assert request.result().outputs["y"].string_val == [gate.path.encode()]
    with pod.running(AGE, GRACE), pod.client() as client:
        gate = Gate(pod.folder / "slower")
        with pytest.raises(grpc.RpcError) as cut:
            gate.send(client).result()
        gate.open()
        assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
