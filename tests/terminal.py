"""A command on a terminal of a given width, as a person sees it."""

import os
import pty
import select
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

import pyte

ROOT = Path(__file__).resolve().parents[1]
_ROWS = 100


class Seen(NamedTuple):
    """What a command left behind."""

    code: int
    """Its exit code."""
    screen: list[str]
    """The lines of the screen at its end, without empty ones."""
    written: bytes
    """All bytes that it wrote."""


def terminal(columns: int) -> tuple[int, int]:
    """Both ends of a terminal: the person's, and the program's."""
    ours, its = pty.openpty()
    ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    return ours, its


def on_terminal(columns: int, *words: object, folder: Path = ROOT, **environment: str) -> Seen:
    """Runs `flow-images` with these words in a folder, with stdin, stdout and stderr on a terminal."""
    ours, its = terminal(columns)
    unset = {"NO_COLOR", "TERM", "COLUMNS", "LINES"}
    plain = {name: value for name, value in os.environ.items() if name not in unset}
    process = subprocess.Popen(
        [sys.executable, "-m", "flow_images", *map(str, words)], stdin=its, stdout=its, stderr=its, cwd=folder,
        env={**plain, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    os.close(its)
    written = bytearray()
    while select.select([ours], [], [], 300)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        written += data
    os.close(ours)
    screen = pyte.Screen(columns, _ROWS)
    pyte.ByteStream(screen).feed(bytes(written))
    return Seen(process.wait(), [line.rstrip() for line in screen.display if line.strip()], bytes(written))
