"""A folder with what the examples of README and docs name, and their server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def world(
    drawn: Path, hub_module: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """A folder with what the examples name, and the address of a server of the model `dogs`.

    The server's model lies elsewhere: an example that trains publishes a version into the folder.
    """
    from serving.server import EmbeddedServer

    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(drawn / "train", folder / "train")
    shutil.copytree(drawn / "train", folder / "photos")
    shutil.copy(drawn / "labels.csv", folder / "labels.csv")
    shutil.copy(sorted((drawn / "train").iterdir())[0], folder / "photo.jpg")
    shutil.copytree(hub_module, folder / "hub")
    shutil.copytree(model_store, folder / "models" / "dogs")
    with EmbeddedServer(model_store, model_name="dogs") as running:
        yield folder, running.address
