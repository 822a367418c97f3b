"""Stores that fail: an S3 that answers 503, for a while or for ever, or hangs; a disk that is full."""

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.errors import StorageDenied, StorageUnavailable
from serving.storage.storage_options import S3Options, StorageOptions
from serving.storage.stores import open_store
from tests.faults.conftest import START
from tests.faults.front import Front
from tests.faults.jobs import account, assert_same, parts, rows, wait_until
from tests.faults.proxy import StoreFront

pytestmark = pytest.mark.faults


@pytest.fixture
def store(s3_server: str) -> Iterator[StoreFront]:
    """A front to the session's S3 server."""
    with StoreFront(s3_server) as running:
        yield running


@pytest.fixture
def bucket(s3_folder: str, images: Path) -> str:
    """The images in a bucket."""
    fill(s3_folder, images)
    return s3_folder


def fill(bucket: str, images: Path) -> None:
    storage = open_store(bucket)
    for image in images.iterdir():
        storage.create(f"{bucket}/in/{image.name}", image.read_bytes())


def at(store: StoreFront) -> StorageOptions:
    return StorageOptions(s3=S3Options(endpoint_url=store.url))


def download(bucket: str, output: Path, images: Path) -> Path:
    """The run's results, as if they had been on a disk."""
    storage = open_store(bucket)
    output.mkdir()
    for name in ("predictions.csv", "rejected.csv", "failed.csv", "run.json"):
        text = storage.read(f"{bucket}/out/{name}").decode()
        (output / name).write_bytes(text.replace(f"{bucket}/in/", f"{images}/").encode())
    return output


def in_bucket(bucket: str) -> list[object]:
    return ["--input", f"{bucket}/in", "--output", f"{bucket}/out"]


def test_a_store_that_answers_503_now_and_then(
    start: START, server: str, store: StoreFront, bucket: str, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    store.unavailable_share = 0.2
    job = start(server, flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url)
    assert job.wait() == 0, job.said
    assert store.refused
    assert_same(download(bucket, tmp_path / "out", images), undisturbed)


@pytest.mark.parametrize(("folder", "upstream"), [("s3_folder", "s3_server"), ("gs_folder", "gcs_server")])
def test_answers_of_a_store_that_are_cut_off(
    start: START, server: str, folder: str, upstream: str, images: Path, undisturbed: Path, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    bucket = request.getfixturevalue(folder)
    fill(bucket, images)
    with StoreFront(request.getfixturevalue(upstream)) as store:
        store.cut_share = 0.1
        job = start(server, flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url, STORAGE_EMULATOR_HOST=store.url)
        assert job.wait(240) == 0, job.said
        assert store.refused
    assert_same(download(bucket, tmp_path / "out", images), undisturbed)


def test_a_listing_that_is_cut_off_is_no_shorter_listing(store: StoreFront, bucket: str) -> None:
    store.cut_share = 1.0
    with pytest.raises(StorageUnavailable, match="cut off"):
        list(open_store(bucket, at(store)).walk(f"{bucket}/in"))


@pytest.mark.parametrize(
    ("code", "kind"),
    [("ExpiredToken", StorageUnavailable), ("InvalidAccessKeyId", StorageDenied), ("AccessDenied", PermissionError)],
)
def test_what_is_refused_for_all_images_is_no_fault_of_one(
    store: StoreFront, bucket: str, images: Path, code: str, kind: type[Exception]
) -> None:
    store.denied, store.denied_code = "0.jpg", code
    with pytest.raises(kind) as error:
        open_store(bucket, at(store)).read(f"{bucket}/in/0.jpg")
    assert type(error.value) is kind


def test_a_store_that_answers_nothing_but_503_stops_the_run_resumable(
    start: START, front: Front, store: StoreFront, bucket: str, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    front.hold_after(7)
    storage = open_store(bucket)
    job = start(front.address, "--patience", 2, flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url)
    wait_until(lambda: front.held and list(storage.walk(f"{bucket}/out/_state/parts")), job)
    store.unavailable_share = 1.0
    front.open.set()
    assert job.wait() == 75, job.said
    assert "503" in job.said or "SlowDown" in job.said
    assert "the same command continues" in job.said
    assert not storage.exists(f"{bucket}/out/run.json")
    store.unavailable_share = 0.0
    again = start(front.address, flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url)
    assert again.wait() == 0, again.said
    assert_same(download(bucket, tmp_path / "out", images), undisturbed)


def test_what_failed_is_asked_again_and_nothing_else(
    start: START, front: Front, store: StoreFront, bucket: str, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    names = sorted(path.name for path in images.glob("*.jpg") if path.stat().st_size > 1000)
    store.denied = names[20]
    job = start(front.address, flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url)
    assert job.wait() == 3, job.said
    assert "over --max-failed 0" in job.said
    run = json.loads(open_store(bucket).read(f"{bucket}/out/run.json"))
    assert (run["predicted"], run["rejected"], run["failed"]) == (47, 2, 1)
    failed = open_store(bucket).read(f"{bucket}/out/failed.csv").decode()
    assert names[20] in failed
    assert "AccessDenied" in failed
    still = start(front.address, "--retry-failed", flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url)
    assert still.wait() == 3, still.said
    store.denied = "no such name"
    asked = front.asked
    again = start(front.address, "--retry-failed", flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url)
    assert again.wait() == 0, again.said
    assert front.asked - asked <= 1 + 17 + 16 + 1  # the contract, the golden images, and one request
    assert_same(download(bucket, tmp_path / "out", images), undisturbed)


@pytest.mark.parametrize("at_once", [True, False], ids=["listing", "reads"])
def test_a_stop_is_not_held_up_by_a_store_that_hangs(
    start: START, front: Front, store: StoreFront, bucket: str, at_once: bool
) -> None:
    store.hangs = at_once
    front.hold_after(7)
    job = start(front.address, flags=in_bucket(bucket), AWS_ENDPOINT_URL=store.url)
    if not at_once:
        wait_until(lambda: front.held and list(open_store(bucket).walk(f"{bucket}/out/_state/parts")), job)
        store.hangs = True
        front.open.set()
    wait_until(store.hung.is_set, job)
    job.send(signal.SIGTERM)
    assert job.wait(20) == 143


def test_the_manifest_stands_though_the_bucket_changes(start: START, front: Front, bucket: str, tmp_path: Path) -> None:
    front.hold_after(7)
    storage = open_store(bucket)
    job = start(front.address, flags=in_bucket(bucket))
    wait_until(lambda: front.held and list(storage.walk(f"{bucket}/out/_state/parts")), job)
    job.kill()
    front.open.set()
    done = len(list(storage.walk(f"{bucket}/out/_state/parts")))
    last = max(info.path for info in storage.walk(f"{bucket}/in") if "empty" not in info.path)
    data = storage.read(last)
    storage.delete(last)
    storage.create(f"{bucket}/in/appeared.jpg", data)
    assert done < 7
    again = start(front.address, flags=in_bucket(bucket))
    assert again.wait() == 0, again.said
    found = download(bucket, tmp_path / "out", Path("/in"))
    rejected = {Path(row["path"]).name: row["reason"] for row in rows(found / "rejected.csv")}
    assert rejected.pop(Path(last).name) == "missing"
    assert len(rejected) == 2
    assert "appeared.jpg" not in {Path(row["path"]).name for row in rows(found / "predictions.csv")}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 76 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=76k", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_the_run_and_more_room_continues_it(
    start: START, server: str, small_disk: Path, undisturbed: Path
) -> None:
    output = small_disk / "out"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40 * 1024))
    job = start(server, output=output)
    assert job.wait() == 75, job.said
    assert "No space left on device; make room, and the same command continues" in job.said
    assert "Traceback" not in job.said
    assert not (output / "run.json").exists()
    done = parts(output)
    ballast.unlink()
    again = start(server, output=output)
    assert again.wait() == 0, again.said
    assert_same(output, undisturbed)
    assert done.items() <= parts(output).items()


def test_a_full_disk_is_no_matter_where_a_run_is_complete(start: START, server: str, small_disk: Path) -> None:
    output = small_disk / "out"
    first = start(server, output=output)
    assert first.wait() == 0, first.said
    before = {path: path.read_bytes() for path in output.iterdir() if path.is_file()}
    with contextlib.suppress(OSError), open(small_disk / "ballast", "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    again = start(server, output=output, TMPDIR=str(small_disk))
    assert again.wait() == 0, again.said
    assert again.said.startswith("complete since ")
    assert {path: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_an_output_that_is_gone_stops_the_run_until_it_is_back(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    front.hold_after(7)
    job = start(front.address)
    wait_until(lambda: front.held and parts(output), job)
    done = parts(output)
    output.rename(tmp_path / "away")
    front.open.set()
    assert job.wait() == 75, job.said
    assert f"--output {output} no longer holds the run" in job.said
    assert "the same command continues" in job.said
    shutil.rmtree(output, ignore_errors=True)
    (tmp_path / "away").rename(output)
    again = start(front.address)
    assert again.wait() == 0, again.said
    assert done.items() <= parts(output).items()
    assert_same(output, undisturbed)


def test_a_place_that_may_not_be_written_to_is_one_line(start: START, server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    job = start(server, output=tmp_path / "file" / "out")
    assert job.wait() == 2
    assert f"--output {tmp_path}/file/out can't be used" in job.said
    assert "Not a directory" in job.said
    assert "Traceback" not in job.said


def test_half_of_the_images_corrupt(start: START, server: str, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, image in enumerate(sorted(images.glob("*.jpg"))):
        data = image.read_bytes()
        (folder / image.name).write_bytes(data if number % 2 else data[: len(data) // 3])
    job = start(server, "--max-rejected", "60%", flags=["--input", folder, "--output", tmp_path / "out"])
    assert job.wait() == 0, job.said
    names = sorted(path.name for path in folder.iterdir())
    rejected = {Path(row["path"]).name for row in rows(tmp_path / "out" / "rejected.csv")}
    predicted = {Path(row["path"]).name for row in rows(tmp_path / "out" / "predictions.csv")}
    assert rejected >= set(names[::2])
    assert predicted == set(names) - rejected
    assert account(tmp_path / "out") == (50, len(predicted), len(rejected), 0)
