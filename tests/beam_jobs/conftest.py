"""A small model server, images for it, and a finished run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_jobs.chunk_predictor import ChunkOptions
from beam_jobs.listing import list_images
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.worker import WorkerSpec
from serving.client.client_options import Endpoint
from serving.network.retry import RetryPolicy
from tests.beam_jobs.model_server import CONTRACT, NAME, ModelServer, image
from tests.beam_jobs.runs import numbered, planned, predict_all

COUNT = 16


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A server of a model that tells bright from dark."""
    with ModelServer() as running:
        yield running


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of COUNT small images, all of them different."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number:02}.png").write_bytes(image(10 * number + 3))
    return folder


@pytest.fixture
def finished(tmp_path: Path) -> tuple[RunFolder, Plan]:
    """A run of ten images in chunks of four that has all its parts, but is not merged."""
    folder, plan = planned(tmp_path / "out", numbered(10))
    predict_all(folder, plan)
    return folder, plan


@pytest.fixture
def spec(model: ModelServer, images: Path, tmp_path: Path) -> WorkerSpec:
    """Of a run of the images in chunks of four."""
    folder, plan = planned(tmp_path / "out", list_images([str(images)]), CONTRACT, name=NAME)
    return WorkerSpec(
        output=folder.output,
        plan=plan,
        endpoint=Endpoint(address=model.address, model_name=NAME, version=1),
        retry=RetryPolicy(patience_s=0, deadline_s=30),
        chunk=ChunkOptions(batch_size=2, readers=2, lone_retries=0),
    )
