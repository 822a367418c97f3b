"""What was made in a folder by earlier calls, so that only that is ever removed from it.

One JSON line for each file, written before the file appears: a call that is killed leaves nothing that the next one
doesn't know. The last line about a place counts.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

from beam_jobs.sort.safe_names import safe_name
from serving.errors import UsageError
from serving.storage.disk import Disk

NAME = ".flow-images-sorted.jsonl"
Form = Literal["symlink", "hard", "copy"]


class Made(NamedTuple):
    """A file that a call has made, or was about to make."""

    place: str
    """Below the folder."""
    source: str
    """The image, without the signature that its link may have."""
    form: Form
    proof: str
    """Tells the file from another in its place: a link's target, a file's number, or a copy's size and time."""


class Record:
    """The record of one folder."""

    def __init__(self, folder: Path) -> None:
        """Reads it.

        Raises:
          UsageError: it is damaged.
        """
        self._path = folder / NAME
        self._file: IO[str] | None = None
        self.made = {one.place: one for one in self._read()}
        """What is there by place, as far as it is known."""

    def add(self, one: Made) -> None:
        """Notes a file that is about to appear."""
        if self._file is None:
            self.close()  # a line that a killed call left without its end
            self._file = self._path.open("a", encoding="utf-8")
        self._file.write(json.dumps(one, ensure_ascii=False) + "\n")
        self._file.flush()
        self.made[one.place] = one

    def drop(self, place: str) -> None:
        """Forgets a file that is gone; at the end, `close` keeps what is left."""
        del self.made[place]

    def close(self) -> None:
        """Writes the record anew, one line for each file, if it has changed."""
        if self._file is not None:
            self._file.close()
            self._file = None
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for _, one in sorted(self.made.items())).encode()
        if not self._path.exists() or self._path.read_bytes() != lines:
            with Disk().replacing(str(self._path)) as file:
                file.write(lines)

    def _read(self) -> Iterator[Made]:
        try:
            lines = self._path.read_text("utf-8").split("\n")
        except FileNotFoundError:
            return
        except ValueError as error:
            raise self._damaged(error) from error
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                made = Made(*json.loads(line))
                if len(names := made.place.split("/")) != 2 or names != [safe_name(name) for name in names]:
                    raise ValueError(f"{made.place!r} is no place in the folder")
                yield made
            except (ValueError, TypeError, AttributeError) as error:
                if number < len(lines):  # the last line has no end if the call was killed in it
                    raise self._damaged(f"line {number}: {error}") from error

    def _damaged(self, why: object) -> UsageError:
        return UsageError(f"{self._path} is damaged ({why}): remove the folder, or give a new one")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Record]:
    """The record of a folder that no other call uses meanwhile; made if the folder is empty.

    Raises:
      UsageError: it has other files and no record, or another call uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every network file system has locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"`into` {folder}: another call sorts into it just now") from error
        if not (folder / NAME).exists() and any(os.scandir(folder)):
            raise UsageError(
                f"`into` {folder} has other files in it, and no {NAME} of an earlier call: give a new or empty folder"
            )
        record = Record(folder)
        try:
            yield record
        finally:
            record.close()
    finally:
        os.close(descriptor)
