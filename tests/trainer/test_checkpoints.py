"""A state that was saved is found again to the last bit; a damaged one is none."""

import math
from pathlib import Path

import numpy as np
import pytest

from trainer.checkpoints import Checkpoints
from trainer.work_folder import WorkFolder


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder.open(str(tmp_path), ["k"])


def test_the_last_state_is_found(work: WorkFolder) -> None:
    one = Checkpoints(work, "state")
    assert one.load() is None
    one.save({"epoch": 1}, weights=[np.zeros(2)])
    many = [np.full(index, index, np.float32) for index in range(12)]
    one.save({"epoch": 2, "loss": 0.1 + 0.2, "best": math.nan}, weights=many, best=[np.array(3, np.int64)])
    numbers, arrays = Checkpoints(work, "state").load() or ({}, {})
    assert (numbers["epoch"], numbers["loss"], math.isnan(numbers["best"])) == (2, 0.1 + 0.2, True)
    assert [value.shape for value in arrays["weights"]] == [value.shape for value in many]
    assert all(value.dtype == np.float32 for value in arrays["weights"])
    assert arrays["best"] == [3]


@pytest.mark.parametrize("left", [0, 10, 300])
def test_a_damaged_file_counts_as_none(work: WorkFolder, left: int) -> None:
    Checkpoints(work, "state").save({"epoch": 1}, weights=[np.arange(100)])
    place = work.path / "state.npz"
    place.write_bytes(place.read_bytes()[:left])
    assert Checkpoints(work, "state").load() is None


def test_without_a_work_folder_nothing_is_kept() -> None:
    one = Checkpoints(None, "state")
    one.save({}, weights=[np.zeros(1)])
    assert one.load() is None
