"""What only a disk has: sockets, FIFOs, names that can't be, file systems without links, and being full."""

import errno
import os
import socket
from pathlib import Path

import pytest

from serving.errors import DiskFull, FileError, StorageUnavailable
from serving.storage.disk import Disk


@pytest.mark.parametrize("name", ["a/b", "x" * 5000, "nul\0byte"], ids=["below-a-file", "too-long", "nul"])
def test_a_name_that_cannot_be_is_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        Disk().read(f"{tmp_path}/{name}")


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(IsADirectoryError):
            Disk().read("socket")


def test_a_fifo_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        Disk().read(str(tmp_path / "fifo"))


def test_a_file_system_without_hard_links_has_the_first_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert Disk().create(f"{tmp_path}/part", b"first")
    assert not Disk().create(f"{tmp_path}/part", b"second")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"first"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.ESTALE, StorageUnavailable), (errno.EIO, FileError)],
)
def test_errors_of_a_disk_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind) as error:
        Disk().create(f"{tmp_path}/part", b"x")
    assert type(error.value) is kind
    assert list(tmp_path.iterdir()) == []
