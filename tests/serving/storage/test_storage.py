"""One storage suite, on a disk, on a real S3 server and on a GCS emulator."""

import errno
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_jobs.run import merge_folder
from serving.errors import UsageError
from serving.options import RetryPolicy
from serving.retry import Retrier
from serving.storage.base import (
    DiskFull,
    FileInfo,
    Storage,
    StorageError,
    StorageUnavailable,
    join,
    output_errors,
)
from serving.storage.disk import Disk
from serving.storage.local_file import TooLarge
from serving.storage.retrying import RetryingStorage
from serving.storage.stores import open_store


@pytest.fixture(params=["disk", "s3", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, str]:
    """A storage and an empty folder in it."""
    folder = str(tmp_path) if request.param == "disk" else request.getfixturevalue(f"{request.param}_folder")
    return open_store(folder), folder


def test_what_is_created_can_be_read_whole_and_in_part(place: tuple[Storage, str]) -> None:
    storage, folder = place
    path = join(folder, "a", "b.bin")
    assert not storage.exists(path)
    assert storage.create(path, b"0123456789")
    assert storage.exists(path)
    assert storage.read(path) == b"0123456789"
    assert storage.read(path, limit=10) == b"0123456789"
    assert storage.read_range(path, 2, 5) == b"234"


def test_the_first_to_create_wins(place: tuple[Storage, str]) -> None:
    storage, folder = place
    assert storage.create(join(folder, "part"), b"first")
    assert not storage.create(join(folder, "part"), b"second")
    assert storage.read(join(folder, "part")) == b"first"


def test_of_many_creators_exactly_one_wins(place: tuple[Storage, str]) -> None:
    storage, folder = place
    if folder.startswith("gs:"):
        pytest.skip("gcp-storage-emulator ignores if_generation_match; Google's own store keeps it")
    won: list[bytes] = []

    def create(content: bytes) -> None:
        if storage.create(join(folder, "raced"), content):
            won.append(content)

    threads = [threading.Thread(target=create, args=(str(i).encode(),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [storage.read(join(folder, "raced"))]


def test_replacing_shows_the_new_file_only_when_it_is_whole(place: tuple[Storage, str]) -> None:
    storage, folder = place
    path = join(folder, "predictions.csv")
    storage.create(path, b"old")
    with pytest.raises(ZeroDivisionError), storage.replacing(path) as file:
        file.write(b"half %d" % (1 // 0))
    assert storage.read(path) == b"old"
    with storage.replacing(path) as file:
        file.write(b"new")
    assert storage.read(path) == b"new"
    assert [info.path for info in storage.walk(folder)] == [path]


def test_a_file_over_the_limit_is_not_read(place: tuple[Storage, str]) -> None:
    storage, folder = place
    storage.create(join(folder, "big"), b"x" * 100)
    with pytest.raises(TooLarge):
        storage.read(join(folder, "big"), limit=99)


def test_walk_finds_every_file_below(place: tuple[Storage, str]) -> None:
    storage, folder = place
    names = ["a", "b/c", "b/d e/f 犬"]
    for name in names:
        storage.create(join(folder, name), b"x")
    assert sorted(info.path for info in storage.walk(folder)) == sorted(join(folder, name) for name in names)
    assert list(storage.walk(join(folder, "none"))) == []


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_an_output_in_a_bucket_that_does_not_exist_is_wrong_usage(kind: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(f"{kind}_folder")
    output = f"{kind}://nobody-s/out"
    says = f"--output {output} can't be used: .*there is no bucket 'nobody-s'"
    with pytest.raises(UsageError, match=says):
        merge_folder(output)
    with pytest.raises(UsageError, match=says), output_errors(output):
        open_store(output).create(f"{output}/a", b"")
    with (
        pytest.raises(UsageError, match=says),
        output_errors(output),
        open_store(output).replacing(f"{output}/a") as file,
    ):
        file.write(b"a")


def test_deleting_twice_is_no_error(place: tuple[Storage, str]) -> None:
    storage, folder = place
    storage.create(join(folder, "x"), b"x")
    storage.delete(join(folder, "x"))
    storage.delete(join(folder, "x"))
    assert not storage.exists(join(folder, "x"))
    with pytest.raises(FileNotFoundError):
        storage.read(join(folder, "x"))


@pytest.mark.parametrize("name", ["a/b", "x" * 5000, "nul\0byte"], ids=["below-a-file", "too-long", "nul"])
def test_a_name_that_cannot_be_is_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        Disk().read(f"{tmp_path}/{name}")


@pytest.mark.parametrize("path", ["{}://", "{}://pictures", "{}://pictures/", "{}://-/x", "{}://UPPER CASE/x"])
@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_place_that_cannot_be_is_a_file_that_is_not_there(
    path: str, kind: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(f"{kind}_folder")
    path = path.format(kind)
    with pytest.raises(FileNotFoundError):
        open_store(path).read(path, limit=10)


def test_an_empty_file_is_read_in_part(place: tuple[Storage, str]) -> None:
    storage, folder = place
    storage.create(join(folder, "empty"), b"")
    assert storage.read(join(folder, "empty"), limit=10) == b""


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(IsADirectoryError):
            Disk().read("socket")


class Flaky(Disk):
    """Is away at every other call."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def _away(self) -> None:
        if next(self._calls) % 2 == 0:
            raise StorageUnavailable("away")

    def read(self, path: str, limit: int | None = None) -> bytes:
        self._away()
        return super().read(path, limit)

    def create(self, path: str, data: bytes) -> bool:
        self._away()
        return super().create(path, data)

    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        yield from (info for info in sorted(super().walk(folder)) if after is None or info.path > after)
        self._away()


def test_a_store_that_is_away_for_a_while_is_asked_again(tmp_path: Path) -> None:
    patient = RetryingStorage(Flaky(), Retrier(RetryPolicy(first_delay_s=1e-4)))
    assert patient.create(f"{tmp_path}/part", b"x")
    assert patient.read(f"{tmp_path}/part") == b"x"
    assert [info.path for info in patient.walk(str(tmp_path))] == [f"{tmp_path}/part"]
    with pytest.raises(StorageUnavailable):
        RetryingStorage(Flaky(), Retrier(RetryPolicy(patience_s=0))).read(f"{tmp_path}/part")


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
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.ESTALE, StorageUnavailable), (errno.EIO, StorageError)],
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
