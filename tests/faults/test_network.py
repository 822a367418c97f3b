"""A network and a server that misbehave: refusals, stalls, hangs, cuts. The job ends as if nothing had been."""

from pathlib import Path

import grpc
import pytest

from tests.faults.conftest import START
from tests.faults.front import Front
from tests.faults.jobs import assert_same, parts, wait_until

pytestmark = pytest.mark.faults


def test_a_third_of_the_requests_refused(start: START, front: Front, undisturbed: Path, tmp_path: Path) -> None:
    front.refused_share = 0.3
    job = start(front.address)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)
    assert front.asked > 14  # some were asked again


def test_stalls_of_two_seconds(start: START, front: Front, undisturbed: Path, tmp_path: Path) -> None:
    front.stall_share = 0.25
    job = start(front.address, "--deadline", 1.5)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)


def test_a_hang_that_ends(start: START, front: Front, undisturbed: Path, tmp_path: Path) -> None:
    front.delay_s = 0.1
    job = start(front.address, "--deadline", 1)
    wait_until(lambda: parts(tmp_path / "out"), job)
    front.open.clear()
    asked = front.asked
    wait_until(lambda: front.asked > asked + 2, job)
    front.open.set()
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)


def test_a_hang_that_does_not_end_stops_the_run_resumable(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    front.delay_s = 0.1
    job = start(front.address, "--deadline", 1, "--patience", 2)
    wait_until(lambda: parts(tmp_path / "out"), job)
    front.open.clear()
    assert job.wait() == 75
    assert "DEADLINE_EXCEEDED" in job.said
    assert "Traceback" not in job.said
    assert not (tmp_path / "out" / "run.json").exists()
    done = parts(tmp_path / "out")
    front.open.set()
    again = start(front.address)
    assert again.wait() == 0, again.said
    assert_same(tmp_path / "out", undisturbed)
    assert done.items() <= parts(tmp_path / "out").items()  # no committed chunk was asked again


def test_a_server_that_refuses_everything_is_not_buried(start: START, front: Front, tmp_path: Path) -> None:
    front.refused_share = 1.0
    job = start(front.address, "--patience", 3)
    assert job.wait() == 75
    assert not (tmp_path / "out" / "run.json").exists()
    assert front.asked < 40


def test_a_status_that_does_not_pass_ends_the_run_at_once(start: START, front: Front) -> None:
    front.refused_share, front.refusals = 1.0, ((grpc.StatusCode.PERMISSION_DENIED, "not for you"),)
    job = start(front.address)
    assert job.wait() == 1
    assert "not for you" in job.said
    assert front.asked == 1


def test_a_stream_that_a_proxy_breaks_off_condemns_no_picture(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    front.refused_share, front.refusals = 0.4, ((grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),)
    job = start(front.address)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)
