"""`flow-images` as its users call it: whole, with what `main` makes of errors, but within the tests' process."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from unittest import mock

import flow_images


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both, what was printed first."""
        return self.stdout + self.stderr


def deploy(*arguments: str) -> Ran:
    """Runs `flow-images deploy ARGUMENTS…`."""
    with (
        mock.patch.object(sys, "argv", ["flow-images", "deploy", *arguments]),
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        with _taken("stdout", 1, out), _taken("stderr", 2, err):
            try:
                flow_images.main()
            except SystemExit as end:
                code = int(end.code or 0)
        out.seek(0)
        err.seek(0)
        return Ran(code, out.read(), err.read())


@contextlib.contextmanager
def _taken(name: str, descriptor: int, into: IO[str]) -> Iterator[None]:
    """What the block writes to a descriptor goes into a file; the stream that `main` put on it is taken away again."""
    stream = getattr(sys, name)
    stream.flush()
    before = os.dup(descriptor)
    os.dup2(into.fileno(), descriptor)
    try:
        yield
    finally:
        getattr(sys, name).flush()
        setattr(sys, name, stream)
        os.dup2(before, descriptor)
        os.close(before)
