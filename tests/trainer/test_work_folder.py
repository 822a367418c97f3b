"""Work that is kept is found again by the same command, and by no other."""

import os
import time
from pathlib import Path

import pytest

from serving.errors import UsageError
from trainer.work_folder import WorkFolder


def test_the_same_key_finds_what_was_kept(tmp_path: Path) -> None:
    first = WorkFolder.open(str(tmp_path), ["a", 1])
    first.write("features", b"12")
    first.close()
    again = WorkFolder.open(str(tmp_path), ["a", 1])
    assert (again.path / "features").read_bytes() == b"12"
    other = WorkFolder.open(str(tmp_path), ["a", 2])
    assert not (other.path / "features").exists()
    again.remove()
    other.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    one, two = (WorkFolder.open(str(tmp_path), ["a"]) for _ in range(2))
    assert one.path != two.path
    one.close()
    assert WorkFolder.open(str(tmp_path), ["a"]).path == one.path


def test_old_work_is_removed_and_a_users_files_are_not(tmp_path: Path) -> None:
    old = WorkFolder.open(str(tmp_path), ["old"])
    old.close()
    (tmp_path / "mine").mkdir()
    month_ago = time.time() - 30 * 24 * 3600
    for path in (old.path, tmp_path / "mine"):
        os.utime(path, (month_ago, month_ago))
    WorkFolder.open(str(tmp_path), ["new"])
    assert not old.path.exists()
    assert (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"`work_folder` .*file can't be written"):
        WorkFolder.open(str(tmp_path / "file"), ["a"])
