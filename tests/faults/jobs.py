"""Jobs as real processes that can be killed, and what they left compared with an undisturbed run.

Each is forked from a process that has Beam imported already, so it runs the command itself, but starts at once.
"""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import flow_images.cli

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["beam_jobs.predict_command", "beam_jobs.run", "beam_jobs.pipeline", "tests.faults.jobs"])


class Job:
    """`flow-images predict` with some arguments, in a process of its own."""

    def __init__(self, log: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._process: BaseProcess = _FORKS.Process(
            target=_command, args=([str(a) for a in arguments], dict(environment or {}), str(log)), daemon=True
        )
        self._process.start()

    def wait(self, seconds: float = 120.0) -> int:
        """The exit code; a job that does not end is a failure."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"the job did not end in {seconds:g} s: {self.said}")
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """kill -9; a job that has ended already is not an error."""
        self._process.kill()
        self._process.join()

    @property
    def running(self) -> bool:
        """Has it not ended yet?"""
        return self._process.is_alive()

    @property
    def said(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _command(arguments: list[str], environment: dict[str, str], log: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    os.chdir(os.environ.get("RUN_IN", "."))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = ["flow-images", "predict", *arguments]
    flow_images.cli.main()


_WITH_PEAK = """
import os, flow_images.cli
try:
    flow_images.cli.main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    open(os.environ["PEAK"], "w").write(peak.split()[1])
"""


def peak_memory(*arguments: object) -> int:
    """Runs `flow-images predict` to its good end, and gives the most bytes that its process had in memory at once.

    Linux only, since /proc tells it.

    Raises:
      CalledProcessError: the exit code isn't 0.
    """
    with tempfile.NamedTemporaryFile("r") as peak:
        command = [sys.executable, "-c", _WITH_PEAK, "predict", *map(str, arguments)]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PEAK": peak.name}, timeout=900
        )
        return 1024 * int(peak.read())


class Account(NamedTuple):
    """The ledger of run.json."""

    listed: int
    predicted: int
    rejected: int
    failed: int


def account(output: Path) -> Account:
    """The account of a complete run, which balances."""
    run = json.loads((output / "run.json").read_text())
    found = Account(*(run[name] for name in Account._fields))
    assert found.listed == found.predicted + found.rejected + found.failed
    for name, count in (("predictions", found.predicted), ("rejected", found.rejected), ("failed", found.failed)):
        assert len(rows(output / f"{name}.csv")) == count
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same(output: Path, undisturbed: Path) -> None:
    """Paths and labels exactly, scores within 1e-4, rejected and failed rows exactly."""
    assert account(output) == account(undisturbed)
    for row, expected in zip(rows(output / "predictions.csv"), rows(undisturbed / "predictions.csv"), strict=True):
        assert row["path"] == expected["path"]
        for column, value in expected.items():
            if column.startswith("score"):
                assert abs(float(row[column]) - float(value)) <= 1e-4
            elif column in ("path", "label"):  # lower ranks may swap where scores are equal but for the last decimal
                assert row[column] == value
    for name in ("rejected.csv", "failed.csv"):
        assert rows(output / name) == rows(undisturbed / name)


def parts(output: Path, generation: int = 0) -> dict[str, int]:
    """Times of the committed parts by name."""
    found = output.glob(f"_state/parts/*/{generation}-*.jsonl")
    return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in found}


def wait_until(condition: Callable[[], object], job: Job | None = None, seconds: float = 60.0) -> None:
    """Waits for something that will happen; fails if the job ends before, or after a minute."""
    give_up = time.monotonic() + seconds
    while not condition():
        if job is not None and not job.running:
            raise AssertionError(f"the job ended before: {job.said}")
        if time.monotonic() > give_up:
            raise AssertionError(f"it did not happen in {seconds:g} s: {job.said if job else ''}")
        time.sleep(0.02)
