"""Jobs that are killed or stopped at any moment, and continued."""

import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import MODEL_NAME
from tests.faults.conftest import START
from tests.faults.front import Front
from tests.faults.jobs import Job, assert_same, parts, wait_until
from tests.web_server import Web

pytestmark = pytest.mark.faults


def continued(start: START, front: Front, output: Path, undisturbed: Path) -> None:
    """The same command ends the run, and redoes nothing that was done."""
    done = parts(output)
    front.open.set()
    front.delay_s = 0.0
    job = start(front.address)
    assert job.wait() == 0, job.said
    assert_same(output, undisturbed)
    assert done.items() <= parts(output).items()


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_three_times_over(
    start: START, front: Front, undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    output = tmp_path / "out"
    front.delay_s = 0.3
    for _ in range(3):
        job = start(front.address)
        asked = front.asked + moments.randint(0, 4)
        wait_until(lambda job=job, asked=asked: front.asked > asked or not job.running)  # type: ignore[misc]
        time.sleep(moments.uniform(0, 0.4))
        job.kill()
    continued(start, front, output, undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_stops_within_seconds_though_requests_hang(
    start: START, front: Front, undisturbed: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    front.hold_after(7)
    job = start(front.address)
    wait_until(lambda: parts(tmp_path / "out") and front.held, job)
    job.send(number)
    assert job.wait(20) == code
    assert re.search(
        r"the same command continues \(\d+ of \d+ images are done\)|the same command continues$", job.said, re.M
    )
    assert "Traceback" not in job.said
    assert not (tmp_path / "out" / "run.json").exists()
    continued(start, front, tmp_path / "out", undisturbed)


def test_a_signal_ends_the_wait_for_a_version(start: START, server: str, tmp_path: Path) -> None:
    job = start(server, "--model-version", 99)
    wait_until(lambda: "version 99 of model" in job.said, job)
    job.send(signal.SIGINT)
    assert job.wait(20) == 130
    assert "interrupted; the same command continues" in job.said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("is_own", [True, False], ids=["own", "running"])
def test_a_signal_ends_a_listing_that_hangs_while_the_server_starts(
    front: Front, model_store: Path, tmp_path: Path, is_own: bool
) -> None:
    """And nothing is left where temporary files are."""
    asked, release = threading.Event(), threading.Event()
    front.open.clear()
    (tmp_path / "temporary").mkdir()

    def answer() -> bytes:
        if web.asked.count("/list.txt") > 1:  # the first one is a look at the first images
            asked.set()
            release.wait(60)
        return b"http://127.0.0.1:1/1.jpg"

    with Web() as web:
        web.answers["/list.txt"] = answer
        server = ["--model", model_store] if is_own else ["--server", front.address, "--model-name", MODEL_NAME]
        job = Job(
            tmp_path / "log",
            *(*server, "--input", f"{web.url}/list.txt", "--output", tmp_path / "out"),
            environment={"TMPDIR": str(tmp_path / "temporary")},
        )
        try:
            wait_until(asked.is_set, job)
            job.send(signal.SIGINT)
            assert job.wait(20) == 130
            assert not release.is_set()
        finally:
            release.set()
            job.kill()
    assert "interrupted; the same command continues" in job.said
    assert "Traceback" not in job.said
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_processes_that_race_for_the_same_chunks_write_each_once(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    front.delay_s = 0.1
    jobs: list[Job] = [start(front.address) for _ in range(3)]
    assert [job.wait() for job in jobs] == [0, 0, 0], [job.said for job in jobs]
    assert_same(tmp_path / "out", undisturbed)


def test_shards_that_are_killed_are_continued_by_others(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    front.delay_s = 0.2
    first = start(front.address, "--shard", "0/2")
    wait_until(lambda: parts(tmp_path / "out"), first)
    first.kill()
    assert start(front.address, "--shard", "1/2").wait() == 0
    assert not (tmp_path / "out" / "run.json").exists()
    last = start(front.address, "--shard", "0/2")
    assert last.wait() == 0, last.said
    assert_same(tmp_path / "out", undisturbed)
