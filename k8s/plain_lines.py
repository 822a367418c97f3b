"""Writes text from the cluster, from files and from logs to the terminal, without its control sequences."""

import re

import click

from serving.console.terminal import printable

_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
"""What colours text or moves the cursor, as progress bars in logs do."""
_BLANK = re.compile(r"[\r\n\t\v\f]")


def plain(text: str) -> str:
    """The text in one line, without terminal sequences; other control characters are written as escapes."""
    return printable(_BLANK.sub(" ", _SEQUENCE.sub("", text)))


def say(line: str, *, err: bool = False) -> None:
    """Writes one plain line."""
    click.echo(plain(line), err=err)
