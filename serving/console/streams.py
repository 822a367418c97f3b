"""stdout and stderr of a command: a run goes on where they fail.

A reader that goes away (`| head`) or a disk that is full must not change the exit code of a run that is complete.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any


class _Stream(io.TextIOWrapper):
    """A stream in place of another one, which is kept as its end would close the descriptor."""

    replaced: object = None


class _NeverFailing(io.FileIO):
    """A descriptor whose writes never fail; after the first error, what is written is dropped."""

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # it does not block, and is full for now
                select.select([], [self], [])
            return written
        except OSError as error:
            self._give_up(error)
            return len(data)

    def _give_up(self, error: OSError) -> None:
        descriptor = self.fileno()
        _redirect_to_null(descriptor)
        if descriptor == 1 and error.errno != errno.EPIPE:
            print(f"flow-images: stdout can't be written to: {error.strerror}", file=sys.stderr)


def open_streams() -> None:
    """Replaces `sys.stdout` and `sys.stderr`, also where the caller of the command closed them.

    Something else that the caller put in their place, such as a StringIO, is left there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would take its place
            _redirect_to_null(descriptor)
    sys.stdout = _stream(1, sys.stdout)
    sys.stderr = _stream(2, sys.stderr)


def _stream(descriptor: int, before: Any) -> Any:
    if before is not None:
        before.flush()
        try:
            if before.fileno() != descriptor:
                return before
        except OSError:  # io.UnsupportedOperation: it has none
            return before
    encoding = getattr(before, "encoding", None) or "utf-8"
    if codecs.lookup(encoding).name == "ascii":
        encoding = "utf-8"  # click takes a stream of ASCII for a mistake, and opens its own
    stream = _Stream(
        io.BufferedWriter(_NeverFailing(descriptor, "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )
    stream.replaced = before
    return stream


def _redirect_to_null(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
