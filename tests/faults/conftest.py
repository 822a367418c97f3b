"""The undisturbed run that every disturbed one must equal, and fronts to the session's real server."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import MODEL_NAME
from tests.faults.front import Front
from tests.faults.jobs import Job, account, parts

CHUNKS = 6
START = Callable[..., Job]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """48 images and two that are rejected."""
    folder = tmp_path_factory.mktemp("images")
    for image in (drawn / "train").iterdir():
        shutil.copy(image, folder)
    (folder / "empty.jpg").touch()
    (folder / "0.jpg").write_bytes(sorted(folder.glob("*.jpg"))[-1].read_bytes()[:900])
    return folder


def common(address: str) -> list[object]:
    """The job that all tests disturb: small chunks, and images that the server decodes."""
    return ["--server", address, "--model-name", MODEL_NAME, "--wire", "encoded", "--batch-size", 4]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, images: Path, server: str) -> Path:
    """Output of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = Job(folder / "log", *common(server), "--input", images, "--output", folder / "out")
    assert job.wait() == 0, job.said
    assert account(folder / "out") == (50, 48, 2, 0)
    assert len(parts(folder / "out")) > CHUNKS
    return folder / "out"


@pytest.fixture
def front(server: str) -> Iterator[Front]:
    """A front to the session's server that behaves as yet."""
    with Front(server) as running:
        yield running


@pytest.fixture
def start(images: Path, tmp_path: Path) -> Iterator[START]:
    """Starts the job on the images, with `flags` elsewhere; jobs still running at the end are killed."""
    jobs: list[Job] = []

    def run(
        address: str, *more: object, output: Path = tmp_path / "out", flags: Sequence[object] = (), **environment: str
    ) -> Job:
        log = tmp_path / f"log-{len(jobs)}"
        places = flags or ["--input", images, "--output", output]
        jobs.append(Job(log, *common(address), *places, *more, environment=dict(os.environ) | environment))
        return jobs[-1]

    yield run
    for job in jobs:
        job.kill()
