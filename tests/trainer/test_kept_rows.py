"""Rows that are done are found again, and a full disk is an error, not the process's end."""

import resource
from pathlib import Path

import numpy as np
import pytest

from serving.errors import DiskFull
from trainer.kept_rows import KeptRows
from trainer.work_folder import WorkFolder


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder.open(str(tmp_path), ["k"])


def test_rows_on_record_are_found_again(work: WorkFolder) -> None:
    first = KeptRows(work, "rows", (4, 2), np.float32)
    assert first.done == 0
    first.rows[:3] = [[1, 2], [3, 4], [5, 6]]
    first.record(2)
    again = KeptRows(work, "rows", (4, 2), np.float32)
    assert again.done == 2
    assert again.rows[:2].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("shape", "dtype"), [((5, 2), np.float32), ((4, 2), np.uint8)])
def test_rows_of_another_kind_are_made_anew(work: WorkFolder, shape: tuple[int, int], dtype: type[np.generic]) -> None:
    KeptRows(work, "rows", (4, 2), np.float32).record(4)
    again = KeptRows(work, "rows", shape, dtype)
    assert (again.done, again.rows.shape, again.rows.dtype) == (0, shape, dtype)


def test_the_room_is_taken_at_once(work: WorkFolder) -> None:
    """A map of a file with holes is written to without an error, until a page has no room: then SIGBUS ends all."""
    KeptRows(work, "rows", (1000, 1000), np.float32)
    place = work.path / "rows.npy"
    assert place.stat().st_blocks * 512 >= place.stat().st_size >= 4_000_000


def test_too_little_room_is_told(work: WorkFolder) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DiskFull, match="rows can't be kept in"):
            KeptRows(work, "rows", (1000, 1000), np.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (work.path / "rows.npy").exists()
