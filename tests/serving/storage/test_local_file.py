"""Reading a file that a user named, whatever it turns out to be."""

import os
from pathlib import Path

import pytest

from serving.storage.local_file import TooLarge, read_file


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert read_file(tmp_path / "x", limit=3) == b"abc"


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with pytest.raises(TooLarge, match="3"):
        read_file(tmp_path / "x", limit=2)


def test_a_fifo_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path / "fifo")


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="only Linux has it")
def test_a_file_without_an_end_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "endless.jpg").symlink_to("/proc/self/pagemap")
    assert (tmp_path / "endless.jpg").stat().st_size == 0
    with pytest.raises(TooLarge):
        read_file(tmp_path / "endless.jpg", limit=1000)


def test_a_file_that_is_longer_than_it_said_is_read_whole() -> None:
    about = Path("/proc/self/mounts")  # 0 bytes by its size
    assert read_file(about, 10**8) == about.read_bytes() != b""
    assert about.stat().st_size == 0
