"""Shows text from files, servers and users on a terminal as it is, never as markup, emoji or control codes."""

import os
import re
import sys
import textwrap
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, changes of the direction of writing, line separators, and what no encoding has."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with an escape (`\x1b`) for each character that a terminal would act on, or that can't be encoded.

    Args:
      text: of any origin.
      keep: characters that stay, such as line ends.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that isn't UTF-8, as Python hides it in text
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def paragraph(text: object) -> str:
    """A message, maybe of several lines, of which only the first one begins at the margin."""
    return "\n  ".join(map(printable, str(text).rstrip("\n").split("\n")))


def say(text: object, *, err: bool = False, as_is: bool = False) -> None:
    """Prints text of any origin, in lines; what a terminal would act on is shown as an escape.

    Args:
      text: of one line, or of several.
      err: to stderr.
      as_is: it is to be copied, such as a command or a path: never broken into lines.
    """
    shown = printable(str(text), keep="\n\t")
    click.echo(shown if as_is else fitted(shown, sys.stderr if err else sys.stdout), err=err)


def fitted(text: str, stream: IO[Any]) -> str:
    """The text for a stream: on a terminal in lines that fit, broken between words; anywhere else as it is.

    A word that is longer, such as a path, stays whole.
    """
    if not stream.isatty():
        return text
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return text
    return "\n".join(_broken(line, max(width, _LEAST_WIDTH)) for line in text.split("\n"))


_LEAST_WIDTH = 20
"""Columns; a terminal that doesn't know its size says 0."""


def _broken(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())] + "  "
    return "\n".join(
        textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, expand_tabs=False,
            replace_whitespace=False,
        )
    )  # fmt: skip


def console(*, stderr: bool = False) -> "Console":
    """A console on stdout or stderr. Style its parts by `style=`, as `[red]` and `:dog:` stay text."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: object) -> Text:
            return super().render_str(printable(text, keep="\n\t"), **options)  # type: ignore[arg-type]

    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def show_table(table: "Table", narrow: "Table | None" = None) -> None:
    """Prints a table to stdout.

    Args:
      table: in full. In a file it is as wide as it needs to be, without blanks at the ends of lines.
      narrow: shorter, for a terminal that the other one is too wide for.
    """
    from rich.measure import Measurement

    screen = console()
    needed = Measurement.get(screen, screen.options.update(max_width=_ANY_WIDTH), table).maximum
    if screen.is_terminal:
        screen.print(table if narrow is None or needed <= screen.width else narrow)
        return
    screen.width = max(needed, screen.width)
    with screen.capture() as captured:
        screen.print(table)
    say("\n".join(line.rstrip() for line in captured.get().splitlines()), as_is=True)


_ANY_WIDTH = 10_000
