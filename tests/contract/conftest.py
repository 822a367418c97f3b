"""One suite of behaviours for every server that speaks TensorFlow Serving's API.

By default it runs against the embedded server. For another one, write the models, serve them, and name the server:

    python -m tests.contract.conftest /models
    tensorflow_model_server --port=8500 --rest_api_port=8501 --model_config_file=/models/models.config
    pytest tests/contract --server localhost:8500 --rest-server localhost:8501
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.server.client import Client
from tests.serving.server.conftest import eventually
from tests.serving.server.saved_models import write_half_plus_two, write_model

CONFIG = """
model_config_list {{
  config {{
    name: "m" base_path: "{folder}/m" model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
  }}
  config {{ name: "half_plus_two" base_path: "{folder}/half_plus_two" model_platform: "tensorflow" }}
}}
"""


def write_all(folder: Path) -> Path:
    """Writes the suite's models and their config file, whose path it returns."""
    write_model(folder / "m", 1)
    write_model(folder / "m", 2)
    write_half_plus_two(folder / "half_plus_two", 123)
    config = folder / "models.config"
    config.write_text(CONFIG.format(folder=folder.resolve()))
    return config


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", metavar="HOST:PORT", help="run the contract suite against this server")
    parser.addoption("--rest-server", metavar="HOST:PORT", help="its REST port")


@pytest.fixture(scope="session")
def addresses(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """gRPC and REST address of the server under test, which has the models of `write_all`."""
    given = pytestconfig.getoption("--server", default=None)
    if given:
        _wait_for_both_versions(given)
        yield given, pytestconfig.getoption("--rest-server", default=None) or ""
        return
    from serving.server import EmbeddedServer, ServerOptions

    config = write_all(tmp_path_factory.mktemp("models"))
    options = ServerOptions(model_config_file=str(config), port=-1, rest_api_port=-1, host="127.0.0.1")
    with EmbeddedServer(options=options) as server:
        _wait_for_both_versions(server.address)
        yield server.address, server.rest_address


@pytest.fixture(scope="session")
def address(addresses: tuple[str, str]) -> str:
    """Where the server under test takes gRPC."""
    return addresses[0]


@pytest.fixture(scope="session")
def rest(addresses: tuple[str, str]) -> Iterator[httpx.Client]:
    """Asks the REST port of the server under test."""
    if not addresses[1]:
        pytest.skip("--server is given without --rest-server")
    with httpx.Client(base_url=f"http://{addresses[1]}", timeout=60) as client:
        yield client


def _wait_for_both_versions(address: str) -> None:
    """A server opens its port when one of them is available."""
    eventually(lambda: Client(address, "m").status() == [(2, "AVAILABLE"), (1, "AVAILABLE")])


@pytest.fixture
def client(address: str) -> Client:
    """Asks the TF 2 model `m`, versions 1 and 2."""
    return Client(address, "m")


@pytest.fixture
def half_plus_two(address: str) -> Client:
    """Asks the TF 1 model `half_plus_two`, version 123."""
    return Client(address, "half_plus_two")


if __name__ == "__main__":
    print(write_all(Path(sys.argv[1])))
