"""Rows of numbers in a file of the work folder, mapped into memory: a killed run finds those that were done."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from trainer.tensorflow_errors import explaining
from trainer.work_folder import WorkFolder

Array = np.ndarray[Any, np.dtype[Any]]


class KeptRows:
    """An array whose rows are computed once, the first ones first."""

    def __init__(self, work: WorkFolder, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        """Finds the file as the last run left it, or makes one in which no row is done.

        Args:
          work: the folder.
          name: of the file; other rows need another one.
          shape: rows, and the shape of each.
          dtype: of the numbers.

        Raises:
          DiskFull: there is no room for it.
          UsageError: it can't be written.
        """
        self._work, self._name = work, name
        self._place, self._record = work.path / f"{name}.npy", work.path / f"{name}.rows"
        with self._explaining():
            self.rows, self.done = self._found(shape, dtype) or (self._made(shape, dtype), 0)

    def record(self, done: int) -> None:
        """Writes down that so many rows are done.

        Raises:
          DiskFull, UsageError: it can't be written.
        """
        with self._explaining():
            self.rows.flush()
        self._work.write(self._record.name, str(done).encode())
        self.done = done

    def _explaining(self) -> Any:
        return explaining(f"{self._name} can't be kept in {self._work.path}")

    def _found(self, shape: tuple[int, ...], dtype: type[np.generic]) -> tuple[Any, int] | None:
        if not (self._place.exists() and self._record.exists()):
            return None
        try:
            np.lib.format.open_memmap(self._place, mode="r")  # which refuses a file that is too short; "r+" fills it up
            kept = np.lib.format.open_memmap(self._place, mode="r+")
            done = int(self._record.read_text())
        except ValueError:  # it was cut off
            return None
        return (kept, done) if kept.shape == shape and kept.dtype == dtype and 0 <= done <= shape[0] else None

    def _made(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
        self._record.unlink(missing_ok=True)
        try:
            made = np.lib.format.open_memmap(self._place, mode="w+", dtype=dtype, shape=shape)
            _reserve(self._place)
        except OSError:
            self._place.unlink(missing_ok=True)
            raise
        return made


def _reserve(place: Path) -> None:
    """Takes the file's room on the disk now: where none is left later, writing to the map would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with place.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, place.stat().st_size)
