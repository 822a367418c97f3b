"""Lines on the terminal: text from the cluster, from files and from logs is shown, and commands nothing."""

import os
import re
import sys
import unicodedata

import click

_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
"""What colours text or moves the cursor, as progress bars in logs do."""
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows."""


def plain(text: str) -> str:
    """The text in one line, without terminal sequences; other control characters are written as escapes."""
    return "".join(_shown(character) for character in _SEQUENCE.sub("", text))


def say(line: str, *, err: bool = False) -> None:
    """Writes one plain line."""
    write(plain(line) + "\n", err=err)


def write(text: str, *, err: bool = False) -> None:
    """Writes text; when nobody reads it any more (`| head`) or the disk is full, the command goes on without."""
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # Closed before the command began.
        return
    encoding = stream.encoding or "utf-8"
    try:
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=False, err=err)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _shown(character: str) -> str:
    if character in "\r\n\t\v\f":
        return " "
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNS:
        return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    return character
