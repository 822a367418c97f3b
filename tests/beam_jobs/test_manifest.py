"""A manifest that was written: its rows, and whether they are still those."""

from pathlib import Path

import pytest

from beam_jobs.manifest import Row
from beam_jobs.sorted_images import sort_images
from serving.errors import FlowImagesError
from serving.storage.disk import Disk
from tests.beam_jobs.runs import numbered


def test_only_a_chunk_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    with open(path, "w+b") as file:
        manifest = sort_images(numbered(5), file).cut(2)
    path.write_bytes(path.read_bytes().replace(b"002", b"0O2"))
    assert manifest.read_chunk(Disk(), str(path), 0) == [Row("000.jpg"), Row("001.jpg")]
    assert manifest.read_chunk(Disk(), str(path), 2) == [Row("004.jpg")]
    with pytest.raises(FlowImagesError, match=r"manifest\.jsonl was changed"):
        manifest.read_chunk(Disk(), str(path), 1)
