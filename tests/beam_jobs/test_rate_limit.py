"""The limit of requests holds for all processes together, whenever they come, go or sleep."""

import contextlib
import heapq
import multiprocessing
import threading
import time
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.live_workers import PERIOD_S, LiveWorkers
from beam_jobs.rate_limit import Share, close_unused, rate_limit
from serving.errors import StorageError
from serving.storage.base import FileInfo
from serving.storage.disk import Disk


class Memory(Disk):
    """Files of a simulated time."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def create(self, path: str, data: bytes) -> bool:
        self.files.add(path)
        return True

    def delete(self, path: str) -> None:
        self.files.discard(path)

    def walk(self, folder: str, after: str | None = None):  # type: ignore[no-untyped-def]
        return [FileInfo(path, 0) for path in sorted(self.files)]


class Life(NamedTuple):
    """When a process comes, sleeps, wakes up and goes, in seconds."""

    comes: float
    sleeps: float
    wakes: float
    goes: float
    is_killed: bool


@st.composite
def lives(draw: st.DrawFn) -> Life:
    comes, sleeps, wakes, goes = sorted(draw(st.floats(0, 120)) for _ in range(4))
    return Life(comes, sleeps, wakes, goes, draw(st.booleans()))


def simulate(rate: float, found: list[Life]) -> list[float]:
    """When each request is made by processes that make as many as they may."""
    storage, now, order = Memory(), [0.0], count()
    requests: list[float] = []
    events: list[tuple[float, int, int, str]] = []
    shares = [Share(rate) for _ in found]
    workers = [LiveWorkers(storage, "workers", clock=lambda: now[0]) for _ in found]
    for number, life in enumerate(found):
        for kind in ("beat", "ask"):
            heapq.heappush(events, (life.comes, next(order), number, kind))
    while events:
        now[0], _, number, kind = heapq.heappop(events)
        life = found[number]
        if life.sleeps <= now[0] < life.wakes:
            # It asks before it counts anew.
            heapq.heappush(events, (life.wakes + 0.5 * (kind == "beat"), next(order), number, kind))
        elif now[0] >= life.goes:
            if not life.is_killed:
                workers[number].leave()
        elif kind == "beat":
            shares[number].count(workers[number].beat(), now[0], now[0])
            heapq.heappush(events, (now[0] + PERIOD_S, next(order), number, kind))
        else:
            left = shares[number].wait(now[0])
            if not left:
                requests.append(now[0])
            heapq.heappush(events, (now[0] + (left or 1e-6), next(order), number, kind))
    return requests


@given(st.sampled_from([0.3, 2.0, 7.0]), st.lists(lives(), min_size=1, max_size=5))
def test_in_any_time_there_are_no_more_than_the_rate_and_one_for_each(rate: float, found: list[Life]) -> None:
    requests = simulate(rate, found)
    for first in range(len(requests)):
        for last in range(first, min(len(requests), first + 40)):
            assert last - first + 1 <= rate * (requests[last] - requests[first]) + len(found) + 1e-6


def test_the_rate_is_used_up_by_whoever_is_there() -> None:
    together = simulate(2.0, [Life(0, 0, 0, 100, False), Life(0, 0, 0, 100, True)])
    assert 160 <= len(together) <= 201
    left_alone = simulate(2.0, [Life(0, 0, 0, 100, False), Life(0, 0, 0, 30, True)])
    assert 130 <= len(left_alone) <= 201


def ask(folder: str, rate: float, requests: int, log: str) -> None:
    """What a process does: requests, one after the other."""
    with rate_limit(rate, Disk(), folder) as limit:
        for _ in range(requests):
            limit.turn(threading.Event())
            with open(log, "a") as file:
                file.write(f"{time.monotonic()}\n")
    close_unused(folder)


def test_real_processes_keep_to_it(tmp_path: Path) -> None:
    """However slow the machine is, no more comes in a time than may come."""
    start, rate, log = multiprocessing.get_context("spawn"), 8.0, tmp_path / "log"
    processes = [start.Process(target=ask, args=(f"{tmp_path}/workers", rate, 12, str(log))) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    asked = sorted(map(float, log.read_text().split()))
    assert len(asked) == 24
    assert asked[-1] - asked[0] >= (24 - 2) / rate - 1e-3
    assert list((tmp_path / "workers").iterdir()) == []


def test_workers_of_a_process_share_one_limit(tmp_path: Path) -> None:
    with rate_limit(5, Disk(), str(tmp_path)) as one, rate_limit(5, Disk(), str(tmp_path)) as two:
        assert one is two
    with rate_limit(5, Disk(), str(tmp_path)) as three:
        assert three is one
    close_unused(str(tmp_path))
    with rate_limit(5, Disk(), str(tmp_path)) as four:
        assert four is not one
    close_unused(str(tmp_path))


def test_a_folder_that_cannot_be_used_ends_the_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with rate_limit(5, Disk(), f"{tmp_path}/file/workers") as limit, pytest.raises((OSError, StorageError)):
        limit.turn(threading.Event())
    close_unused(f"{tmp_path}/file/workers")


def test_who_leaves_a_limit_that_failed_leaves_the_new_one_to_its_users(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.write_text("in the way")
    with contextlib.ExitStack() as stack:
        failed = stack.enter_context(rate_limit(5, Disk(), str(folder)))
        with pytest.raises((OSError, StorageError)):
            failed.turn(threading.Event())
        folder.unlink()
        with rate_limit(5, Disk(), str(folder)) as new:
            stack.close()
            close_unused(str(folder))
            with rate_limit(5, Disk(), str(folder)) as same:
                assert same is new
    close_unused(str(folder))


def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    stop = threading.Event()
    with rate_limit(0.001, Disk(), str(tmp_path)) as limit:
        limit.turn(stop)
        stop.set()
        limit.turn(stop)
    close_unused(str(tmp_path))
