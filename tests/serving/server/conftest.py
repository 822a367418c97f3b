"""Models that are written once a session, and servers that a test starts."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.server import EmbeddedServer
from tests.serving.server.client import Client
from tests.serving.server.saved_models import write_half_plus_two, write_model

Serve = Callable[..., Client]


class Gate:
    """Requests of `saved_models.write_model`'s signature `gate`: each is in flight for as long as the test wants.

    No test has to guess how long a computation takes on the machine that it runs on.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def send(self, client: Client, timeout: float = 120) -> grpc.Future:
        """Sends a request that runs until `open`."""
        return client.prediction.Predict.future(client.request("gate", path=[self.path]), timeout=timeout)

    def wait_until_reached(self) -> None:
        """Returns when a request runs, and not only waits in some queue."""
        eventually(Path(self.path + ".in").exists)

    def open(self) -> None:
        """Lets the requests answer."""
        Path(self.path + ".out").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is opened at the end, so that no server is left with work."""
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base paths `m` (versions 1 to 3) and `half_plus_two`; not to be changed."""
    folder = tmp_path_factory.mktemp("written")
    for version in (1, 2, 3):
        write_model(folder / "m", version)
    write_half_plus_two(folder / "half_plus_two")
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An empty base path."""
    path = tmp_path / "m"
    path.mkdir()
    return path


@pytest.fixture
def publish(written: Path, base: Path) -> Callable[[int], None]:
    """Puts a version of `m` into the base path, whole."""

    def put(version: int, source: str = "m") -> None:
        origin = written / source / str(version)
        (base / str(version)).symlink_to(origin, target_is_directory=True)

    return put


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts an embedded server and returns a client of it; all are stopped after the test."""
    with contextlib.ExitStack() as servers:

        def start(base_path: Path | None = None, **flags: Any) -> Client:
            name = flags.pop("model_name", "m")
            server = servers.enter_context(EmbeddedServer(base_path, model_name=name, **flags))
            return Client(server.address, name)

        yield start


def eventually(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Waits until the condition holds; fails if it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
