"""Shared fixtures: bucket servers, drawn images, a trained model, a server that serves it."""

import base64
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from trainer.images.split import Split

TESTS = Path(__file__).resolve().parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# How long an example takes depends on what else the machine does.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


# `make test-fast` leaves out files and folders whose tests run commands, servers, jobs or models as a whole or import
# TensorFlow, and tests that ask for one of these fixtures, each of which starts a server, trains, or builds a cluster.
WHOLE = (
    "beam_jobs/report/test_page.py",
    "contract",
    "e2e",
    "faults",
    "flow_images",
    "k8s",
    "serving/client/test_image_calls.py",
    "serving/console/test_streams.py",
    "serving/images/test_header.py",
    "serving/images/test_preprocessing.py",
    "serving/network/test_reaching.py",
    "serving/server",
    "serving/storage",
    "serving/test_client.py",
    "serving/test_discovery.py",
    "serving/test_errors.py",
    "serving/test_model_store.py",
    "test_flag_tables.py",
    "test_imports.py",
    "trainer/images/test_bucket_copies.py",
    "trainer/evaluation/test_in_service.py",
    "trainer/hub",
    "trainer/report",
    "trainer/test_augmentation.py",
    "trainer/test_before_head.py",
    "trainer/test_data.py",
    "trainer/test_decoded_images.py",
    "trainer/test_demo_data.py",
    "trainer/test_evaluate_command.py",
    "trainer/test_export.py",
    "trainer/test_features.py",
    "trainer/test_fine_tune.py",
    "trainer/test_head.py",
    "trainer/test_model.py",
    "trainer/test_models_command.py",
    "trainer/test_older_tensorflow.py",
    "trainer/test_signals.py",
    "trainer/test_strategy.py",
    "trainer/test_tensorboard.py",
    "trainer/test_train.py",
    "trainer/test_train_command.py",
)
STARTS = {"address", "gcs_server", "hub_module", "model_store", "plane", "s3_server", "server", "site"}
STORES = {"s3", "gs", "az", "s3_folder", "gs_folder", "az_folder"}
"""As a parameter of a test: it asks for the server of this store while it runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests that start no server and train no model")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A folder that is left out isn't imported, either."""
    whole = any(collection_path == TESTS / name for name in WHOLE)
    return True if whole and config.getoption("--fast") else None


def _needs_a_store(item: pytest.Function) -> bool:
    return any(isinstance(value, str) and value in STORES for value in item.callspec.params.values())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        left_out = [
            item
            for item in items
            if STARTS & set(getattr(item, "fixturenames", ()))
            or (isinstance(item, pytest.Function) and hasattr(item, "callspec") and _needs_a_store(item))
            or any(item.get_closest_marker(name) for name in ("faults", "k8s", "slow"))
        ]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


_SETTINGS = ("FLOW_IMAGES_", "AWS_", "AZURE_", "STORAGE_EMULATOR_HOST")
_PLACES = ("FLOW_IMAGES_DATA", "FLOW_IMAGES_AZURITE", "FLOW_IMAGES_K8S")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the caller's shell reaches a test, and no training's work its cache."""
    for name in [name for name in os.environ if name.startswith(_SETTINGS) and name not in _PLACES]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLOW_IMAGES_WORK_FOLDER", str(tmp_path_factory.getbasetemp() / "work"))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Returns when somebody listens on a port of this machine; raises TimeoutError after two minutes."""
    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port}")


def _start(command: list[str], url: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command, stdout=log.open("wb"), stderr=subprocess.STDOUT, env=os.environ | environment, cwd=log.parent
    )
    for _ in range(1200):
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return process
    raise RuntimeError(log.read_text())


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real S3 server (moto's), with the bucket `images`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = _start(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        url,
        tmp_path_factory.mktemp("moto") / "log",
    )
    import boto3

    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    ).create_bucket(Bucket="images")
    yield url
    process.terminate()
    process.wait()


@pytest.fixture
def s3_folder(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty s3:// folder of this test, reached by AWS's own environment variables."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://images/{tmp_path.name}"


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a GCS emulator, with the bucket `images`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = _start(
        [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port),
         "--in-memory", "--default-bucket", "images"], url,
        tmp_path_factory.mktemp("gcs") / "log",
    )  # fmt: skip
    yield url
    process.terminate()
    process.wait()


@pytest.fixture
def gs_folder(gcs_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty gs:// folder of this test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    return f"gs://images/{tmp_path.name}"


AZURITE = "azurite@3.35.0"


def _azurite() -> Path:
    """Azurite, installed once from npm into a cache: FLOW_IMAGES_AZURITE, or ~/.cache/flow-images-azurite."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    cache = Path(os.environ.get("FLOW_IMAGES_AZURITE") or caches / "flow-images-azurite")
    program = cache / AZURITE / "node_modules" / ".bin" / "azurite-blob"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm, which would install Azurite, the Azure emulator")
    cache.mkdir(parents=True, exist_ok=True)
    aside = tempfile.mkdtemp(dir=cache)  # another session may install it, too
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", aside, AZURITE], check=True)
    with contextlib.suppress(OSError):  # it was first
        os.rename(aside, cache / AZURITE)
    shutil.rmtree(aside, ignore_errors=True)
    return program


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Connection string of an Azure emulator, with the container `images`."""
    program, port, key = _azurite(), free_port(), base64.b64encode(b"a key of the tests" * 3).decode()
    url = f"http://127.0.0.1:{port}"
    process = _start(
        [str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--skipApiVersionCheck",
         "--inMemoryPersistence", "--disableTelemetry"], url,
        tmp_path_factory.mktemp("azurite") / "log", AZURITE_ACCOUNTS=f"tests:{key}",
    )  # fmt: skip
    connection = f"AccountName=tests;AccountKey={key};BlobEndpoint={url}/tests"
    from azure.storage.blob import BlobServiceClient

    BlobServiceClient.from_connection_string(connection).create_container("images")
    yield connection
    process.terminate()
    process.wait()


@pytest.fixture
def az_folder(azure_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty az:// folder of this test."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_server)
    return f"az://images/{tmp_path.name}"


IMAGE_SIZE = 64
MODEL_NAME = "textures"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images in Kaggle's layout: labels.csv and train/, 8 of each of 6 textures."""
    from trainer.demo_data import draw_images

    return draw_images(tmp_path_factory.mktemp("drawn"), per_class=8).parent


@pytest.fixture(scope="session")
def hub_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small module in TF Hub's reusable form, for images of IMAGE_SIZE."""
    from trainer.demo_data import make_hub_module

    return make_hub_module(tmp_path_factory.mktemp("hub") / "gabor", image_size=IMAGE_SIZE)


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory, drawn: Path, hub_module: Path) -> Path:
    """A model folder, STORE/NAME, with version 1: trained on the drawn images and exported."""
    from trainer.export import export
    from trainer.hub.module import load_module
    from trainer.train import train
    from trainer.train_options import TrainOptions

    options = TrainOptions(hub_model=str(hub_module), epochs=8, learning_rate=0.003, weight_decay=0, dropout=0)
    trained = train(drawn_split(drawn), options, load_module(str(hub_module)))
    store = tmp_path_factory.mktemp("models")
    export(trained.model, trained.labels, trained.preprocessing, None,
           store=str(store), name=MODEL_NAME, version=1)  # fmt: skip
    return store / MODEL_NAME


def drawn_split(drawn: Path, seed: int = 0) -> "Split":
    """The drawn images, checked, in three parts."""
    from trainer.images.check import check_images
    from trainer.images.labelled_images import read_labels
    from trainer.images.split import split_images

    checked = check_images(read_labels(str(drawn / "labels.csv"), str(drawn / "train")))
    return split_images(
        checked.images, checked.digests, checked.near_duplicates, validation_share=0.2, test_share=0.2, seed=seed
    )


@pytest.fixture(scope="session")
def server(model_store: Path) -> Iterator[str]:
    """Address of an embedded server that serves `model_store` as MODEL_NAME."""
    from serving.server import EmbeddedServer

    with EmbeddedServer(str(model_store), model_name=MODEL_NAME) as running:
        yield running.address


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photos and awkward files, which are not part of the project (FLOW_IMAGES_DATA, or ../shared/data)."""
    folder = Path(os.environ.get("FLOW_IMAGES_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is absent")
    return folder
