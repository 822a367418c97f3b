"""The folder that a training keeps its features and checkpoints in, found again by the same command after a kill."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from trainer.tensorflow_errors import explaining

_LOCK = "lock"
_KEPT_S = 14 * 24 * 3600.0
"""Folders that no run has opened for so long are removed by the next."""


class WorkFolder:
    """A folder that one process at a time works in."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, parent: str | None, key: Iterable[Any]) -> "WorkFolder":
        """The folder of a key, as the last run with this key left it; another one while that is worked in.

        Args:
          parent: the folder that it is in; None for one in the user's cache.
          key: all that decides what is kept: values of JSON.

        Raises:
          UsageError, DiskFull: the folder can't be made.
        """
        digest = hashlib.sha256(json.dumps(list(key), sort_keys=True).encode()).hexdigest()[:32]
        base = Path(parent) if parent else _cache()
        with explaining(f"`work_folder` {base} can't be written"):
            base.mkdir(parents=True, exist_ok=True)
            _remove_old(base)
            number = 0
            while True:
                path = base / (f"{digest}-{number}" if number else digest)
                path.mkdir(exist_ok=True)
                lock = (path / _LOCK).open("w")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # by the same command, which runs at the same time
                    lock.close()
                    number += 1
                    continue
                if (path / _LOCK).exists():  # it was not removed while we waited
                    os.utime(path)
                    return cls(path, lock)
                lock.close()

    def write(self, name: str, data: bytes) -> None:
        """Writes a file whole, or not at all."""
        place = self.path / name
        with explaining(f"`work_folder` {self.path} can't be written"):
            aside = place.with_name(f"{place.name}.aside")
            aside.write_bytes(data)
            os.replace(aside, place)

    def close(self) -> None:
        """Leaves the folder to the next run."""
        self._lock.close()

    def remove(self) -> None:
        """Removes it with all that was kept, once that is of no use any more."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()


def _cache() -> Path:
    """The user's cache, or a temporary folder where there is none, as in a container."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flow-images" / "train"
        base.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=base).close()
    except (OSError, RuntimeError):
        return Path(tempfile.gettempdir()) / f"flow-images-train-{os.getuid()}"
    return base


def _remove_old(base: Path) -> None:
    """Removes folders of trainings that were killed and never repeated."""
    for path in base.iterdir():
        with contextlib.suppress(OSError):
            if len(path.name) >= 32 and (path / _LOCK).exists() and time.time() - path.stat().st_mtime > _KEPT_S:
                with (path / _LOCK).open("w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
