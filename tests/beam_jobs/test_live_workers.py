"""Processes that work on a run see each other by files alone."""

from pathlib import Path

from beam_jobs.live_workers import GONE_AFTER_S, PERIOD_S, LiveWorkers
from serving.storage.disk import Disk


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_counts_all_that_are_there(tmp_path: Path) -> None:
    one, two = LiveWorkers(Disk(), str(tmp_path)), LiveWorkers(Disk(), str(tmp_path))
    assert one.beat() == 1
    assert two.beat() == 2
    assert one.beat() == 2
    two.leave()
    assert one.beat() == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_one_whose_beat_stands_still_is_gone_and_may_come_back(tmp_path: Path) -> None:
    clock = Clock()
    one = LiveWorkers(Disk(), str(tmp_path), clock=clock)
    two = LiveWorkers(Disk(), str(tmp_path))
    two.beat()
    counts = []
    while clock.now <= GONE_AFTER_S:
        counts.append(one.beat())
        clock.now += PERIOD_S
    assert counts == [2, 2, 2, 2, 1]
    assert two.beat() == 2
    assert one.beat() == 2


def test_other_files_are_not_workers(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f"{'0' * 32}.7.part").write_text("")
    assert LiveWorkers(Disk(), str(tmp_path)).beat() == 1
