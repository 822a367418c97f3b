"""A Dask scheduler and workers as real processes on the loopback interface."""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from dask.distributed import Client
from packaging.requirements import Requirement

from tests.conftest import free_port, wait_for_port

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = [str(ROOT)]
"""Where processes find our packages and `tests`, whose functions are pickled by name."""


class Cluster:
    """A scheduler, and the workers that a test starts. A context manager; all processes end with it."""

    def __init__(
        self, folder: Path, *, protocol: str = "tcp", flags: Sequence[str] = (), path: Sequence[str] = PACKAGES
    ) -> None:
        self.folder = folder
        self._flags = flags
        self._path = path
        self.port = free_port()
        self.address = f"{protocol}://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.start_scheduler()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.kill()
            process.wait()

    def start_scheduler(self, *, allowed_failures: int = 3) -> None:
        """Starts it on the cluster's port, and waits until it listens.

        Args:
          allowed_failures: workers that may die at a task before it is given up.
        """
        command = ["scheduler", "--host", self.address, "--no-show"]
        more = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures)}
        self.scheduler = self._start([*command, *self._flags], self._path, more)
        wait_for_port(self.port)

    def start_worker(
        self, *, path: Sequence[str] | None = None, isolated: bool = False, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a worker of one thread, and waits until the scheduler has it.

        Args:
          path: folders to import from, beside what is installed.
          isolated: nothing that is installed is found.
          environment: variables of its own.
        """
        name = f"worker-{len(self._all)}"
        command = ["worker", self.address, "--name", name, "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1"]
        command += ["--local-directory", tempfile.mkdtemp(dir=self.folder), "--memory-limit", "0"]
        found = self._path if path is None else path
        started = self._start([*command, *self._flags], found, environment or {}, isolated=isolated)
        self._wait_for(name)
        return started

    def _wait_for(self, name: str) -> None:
        with Client(self.address, set_as_default=False) as client:
            for _ in range(600):
                if any(worker["id"] == name for worker in client.scheduler_info(n_workers=-1)["workers"].values()):
                    return
                time.sleep(0.1)
        raise TimeoutError(self.log())

    def log(self) -> str:
        """What all its processes said."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))

    def _start(
        self, command: Sequence[str], path: Sequence[str], more: Mapping[str, str], *, isolated: bool = False
    ) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}
        python = [sys.executable, "-S"] if isolated else [sys.executable]
        with (self.folder / f"{len(self._all)}.log").open("wb") as log:
            started = subprocess.Popen(
                [*python, "-m", "dask", *command, "--no-dashboard"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )
        self._all.append(started)
        return started


def only(folder: Path, distribution: str) -> str:
    """A folder to import from with one distribution and what it needs, without its extras."""
    wanted, done = [distribution], set()
    while wanted:
        name = wanted.pop()
        if name in done:
            continue
        done.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system or version of Python
        needs = [Requirement(text) for text in found.requires or []]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        for top in {Path(str(file)).parts[0] for file in found.files or [] if not str(file).startswith("..")}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
    return str(folder)
