"""Runs whose images go away in the middle, all or some: nothing is written about what is not an image's fault."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.storage.stores import open_store
from tests.faults.conftest import START
from tests.faults.front import Front
from tests.faults.jobs import account, assert_same, parts, rows, wait_until

pytestmark = pytest.mark.faults


@pytest.fixture
def folder(images: Path, tmp_path: Path) -> Path:
    """The images, in a folder that may go."""
    return Path(shutil.copytree(images, tmp_path / "in"))


def stopped(start: START, front: Front, flags: list[object], output: Path) -> int:
    """A run that is killed after some chunks; the number of these."""
    front.hold_after(7)
    job = start(front.address, flags=flags)
    wait_until(lambda: front.held and parts(output), job)
    job.kill()
    front.open.set()
    return len(parts(output))


def as_in(output: Path, folder: Path, images: Path) -> Path:
    """The results, as if the images had been in their first folder."""
    for name in ("predictions.csv", "rejected.csv", "failed.csv"):
        path = output / name
        path.write_bytes(path.read_bytes().replace(str(folder).encode(), str(images).encode()))
    return output


def away(folder: Path) -> None:
    folder.rename(folder.parent / "away")


def empty(folder: Path) -> None:
    folder.rename(folder.parent / "away")
    folder.mkdir()


@pytest.mark.parametrize("go", [away, empty])
@pytest.mark.parametrize("kind", ["folder", "glob", "list"])
def test_a_folder_that_is_gone_stops_the_run_until_it_is_back(
    start: START, front: Front, folder: Path, images: Path, undisturbed: Path, tmp_path: Path, kind: str,
    go: Callable[[Path], None],
) -> None:  # fmt: skip
    output = tmp_path / "out"
    (tmp_path / "list.txt").write_text("\n".join(str(path) for path in folder.iterdir()))
    given = {"folder": folder, "glob": f"{folder}/*.jpg", "list": tmp_path / "list.txt"}[kind]
    flags = ["--input", given, "--output", output]
    done = stopped(start, front, flags, output)
    go(folder)
    asked = front.asked
    again = start(front.address, flags=flags)
    assert again.wait() == 75, again.said
    assert str(folder) in again.said
    assert "the same command continues" in again.said
    assert "Traceback" not in again.said
    assert front.asked == asked  # it is looked for before the server is asked
    assert len(parts(output)) == done
    shutil.rmtree(folder, ignore_errors=True)
    (tmp_path / "away").rename(folder)
    last = start(front.address, flags=flags)
    assert last.wait() == 0, last.said
    assert_same(as_in(output, folder, images), undisturbed)


def test_a_folder_that_goes_while_the_run_reads_it(
    start: START, front: Front, folder: Path, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    front.hold_after(7)
    job = start(front.address, "--readers", 1, flags=["--input", folder, "--output", output])
    wait_until(lambda: front.held and parts(output), job)
    empty(folder)
    front.open.set()
    assert job.wait() == 75, job.said
    assert f"{folder} (--input {folder}) is empty now" in job.said
    assert "Traceback" not in job.said
    assert not list(output.glob("*.csv"))
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    again = start(front.address, flags=["--input", folder, "--output", output])
    assert again.wait() == 0, again.said
    assert_same(as_in(output, folder, images), undisturbed)


def test_a_few_that_are_gone_are_missing_and_asked_for_again_when_back(
    start: START, front: Front, folder: Path, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output, flags = tmp_path / "out", ["--input", folder, "--output", tmp_path / "out"]
    stopped(start, front, flags, output)
    (tmp_path / "away").mkdir()
    gone = sorted(folder.glob("*.jpg"))[-4:-1]  # the last one is empty
    for path in gone:
        path.rename(tmp_path / "away" / path.name)
    again = start(front.address, flags=flags)
    assert again.wait() == 0, again.said
    assert account(output).rejected == 5
    missing = [row["path"] for row in rows(output / "rejected.csv") if row["reason"] == "missing"]
    assert missing == [str(path) for path in gone]
    for path in gone[:2]:
        (tmp_path / "away" / path.name).rename(path)
    retried = start(front.address, "--retry-failed", flags=flags)
    assert retried.wait() == 0, retried.said
    assert account(output).rejected == 3
    (tmp_path / "away" / gone[2].name).rename(gone[2])
    last = start(front.address, "--retry-failed", flags=flags)
    assert last.wait() == 0, last.said
    assert_same(as_in(output, folder, images), undisturbed)


def test_a_relative_input_said_elsewhere_is_not_the_same(
    start: START, front: Front, folder: Path, tmp_path: Path
) -> None:
    """As a command does that is repeated from another directory, or by a shard that has another one."""
    output = tmp_path / "out"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere / "in")
    front.hold_after(7)
    job = start(front.address, flags=["--input", "in", "--output", output], RUN_IN=str(tmp_path))
    wait_until(lambda: front.held and parts(output), job)
    job.kill()
    front.open.set()
    refused = start(front.address, flags=["--input", "in", "--output", output], RUN_IN=str(elsewhere))
    assert refused.wait() == 2, refused.said
    assert f"{tmp_path}/in" in refused.said
    assert f"{elsewhere}/in" in refused.said
    again = start(front.address, flags=["--input", folder, "--output", output], RUN_IN=str(elsewhere))
    assert again.wait() == 0, again.said
    assert account(output) == (50, 48, 2, 0)
    assert {os.path.dirname(row["path"]) for row in rows(output / "predictions.csv")} == {"in"}


def test_what_is_left_out_is_said_and_counted(start: START, front: Front, folder: Path, tmp_path: Path) -> None:
    output, flags = tmp_path / "out", ["--input", folder, "--output", tmp_path / "out"]
    (folder / ".hidden").mkdir()
    (folder / ".a.jpg").touch()
    (folder / "link").symlink_to(tmp_path, target_is_directory=True)
    stopped(start, front, flags, output)
    (folder / ".later.jpg").touch()
    again = start(front.address, flags=flags)
    assert again.wait() == 0, again.said
    assert "left out of the inputs: 1 hidden file, 1 hidden folder, 1 link to a folder" in again.said
    left_out = json.loads((output / "run.json").read_text())["left_out"]
    assert left_out == {"hidden_files": 1, "hidden_folders": 1, "linked_folders": 1}


def test_a_bucket_that_is_emptied_under_a_run(start: START, front: Front, s3_folder: str, images: Path) -> None:
    storage, flags = open_store(s3_folder), ["--input", f"{s3_folder}/in", "--output", f"{s3_folder}/out"]
    for image in images.iterdir():
        storage.create(f"{s3_folder}/in/{image.name}", image.read_bytes())
    front.hold_after(7)
    job = start(front.address, "--readers", 1, flags=flags)
    wait_until(lambda: front.held and list(storage.walk(f"{s3_folder}/out/_state/parts")), job)
    for info in list(storage.walk(f"{s3_folder}/in")):
        storage.delete(info.path)
    front.open.set()
    assert job.wait() == 75, job.said
    assert f"{s3_folder}/in" in job.said
    assert "is empty now" in job.said
