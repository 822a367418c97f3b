"""Clusters, and the worker's recipe of a run on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beam_jobs.dask.clusters import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with Cluster(folder) as running:
        yield running
