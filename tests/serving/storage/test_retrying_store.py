"""Stores that can't be reached: who waits hears of it, and for no longer than was asked for."""

import itertools
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.errors import StorageDenied, StorageUnavailable, UsageError
from serving.network.retry import Retrier, RetryPolicy
from serving.storage.base import Fetched, FileInfo, Storage
from serving.storage.disk import Disk
from serving.storage.retrying_store import RetryingStorage
from serving.storage.s3 import S3
from serving.storage.storage_options import S3Options, StorageOptions
from serving.storage.stores import open_store

MakeStore = Callable[[str], Storage]


def s3_at(url: str, wait_s: float = 20) -> Storage:
    return open_store("s3://", StorageOptions(s3=S3Options(endpoint_url=url)), wait_s)


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeStore:
    """Makes a storage that looks for its buckets at a URL."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    if request.param == "s3":
        return lambda url: s3_at(url, 6)

    def emulated(url: str) -> Storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        return open_store("gs://", wait_s=6)

    return emulated


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


CALLS = [
    pytest.param(lambda store, kind: store.read(f"{kind}://b/x", 10), id="read"),
    pytest.param(lambda store, kind: store.exists(f"{kind}://b/x"), id="exists"),
    pytest.param(lambda store, kind: list(store.walk(f"{kind}://b/x")), id="walk"),
    pytest.param(lambda store, kind: store.create(f"{kind}://b/x", b"x"), id="create"),
]


def kind_of(store: Storage) -> str:
    return "s3" if isinstance(store, S3) else "gs"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"], ids=["refused", "no-name"])
def test_a_store_that_is_not_there_is_told_of_and_given_up(
    store: MakeStore, call: Callable[[Storage, str], object], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = store(url)
    patient = RetryingStorage(there, Retrier(RetryPolicy(patience_s=6, first_delay_s=0.05)))
    with pytest.raises(StorageUnavailable) as error:
        call(patient, kind_of(there))
    assert error.value.exit_code == 75
    assert "waiting up to 6 s" in caplog.text
    assert f"{kind_of(there)}://b/x" in caplog.text


def test_a_store_that_does_not_answer_is_told_of_meanwhile(
    store: MakeStore, black_hole: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = store(black_hole)
    caplog.set_level(logging.WARNING)
    with pytest.raises(StorageUnavailable):
        RetryingStorage(there, Retrier(RetryPolicy(patience_s=0)), 7).read(f"{kind_of(there)}://b/silent", 10)
    assert f"waiting up to 7 s for {kind_of(there)}://b: no answer yet" in caplog.text


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_place_that_is_no_url_is_refused_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "nowhere")
    with pytest.raises(UsageError, match=r"AWS_ENDPOINT_URL|STORAGE_EMULATOR_HOST"):
        (s3_at("nowhere") if kind == "s3" else open_store("gs://")).exists(f"{kind}://b/x")


def test_credentials_that_are_missing_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    store = RetryingStorage(s3_at("http://127.0.0.1:1"), Retrier(RetryPolicy()))
    with pytest.raises(StorageDenied, match="s3://b/x"):
        store.exists("s3://b/x")


class Flaky(Disk):
    """Is away at every other call."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def _away(self) -> None:
        if next(self._calls) % 2 == 0:
            raise StorageUnavailable("away")

    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        self._away()
        return super().fetch(path, limit)

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
