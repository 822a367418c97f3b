"""A folder with what the examples of README and docs name, and their server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.examples import lay_out
from tests.web_server import Web


@pytest.fixture(scope="session")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name, and the model that README's first command trains, all by its defaults."""
    folder = tmp_path_factory.mktemp("laid_out")
    lay_out(folder, per_class=8)
    return folder


@pytest.fixture(scope="session")
def world(laid_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A copy of that folder, in which examples may write, and the address of a server of `dogs`."""
    from serving.server import EmbeddedServer

    folder = tmp_path_factory.mktemp("world") / "home"
    shutil.copytree(laid_out, folder)
    photos = {f"/{image.name}": image.read_bytes() for image in list((folder / "photos").iterdir())[:3]}
    with EmbeddedServer(laid_out / "models" / "dogs", model_name="dogs") as running, Web(photos) as web:
        (folder / "urls.txt").write_text("".join(f"{web.url}{name}\n" for name in photos))
        yield folder, running.address
