"""Lists of images that users write: a .txt with a path a line, a .csv with a column `path`."""

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from serving.csv_rows import read_rows
from serving.errors import UsageError
from serving.storage.base import scheme, shown, without_query
from serving.text_files import decode_text, is_utf8


class Named(NamedTuple):
    """An image that a list names. Its path is a name, never a pattern."""

    line: int
    path: str
    """Bytes that aren't UTF-8 stand as lone surrogates (PEP 383)."""
    id: str | None = None
    label: str | None = None


def is_list(path: str) -> bool:
    """Does a file of this name hold names of images, and not an image?"""
    return without_query(path).lower().endswith((".txt", ".csv"))


def read_list(data: bytes, path: str, exists: Callable[[str], bool]) -> Iterator[Named]:
    """The images of a list.

    Args:
      data: the whole file.
      path: of the file, for messages and its ending.
      exists: is there such a file? Asked only about names with blanks around them.

    Raises:
      UsageError: it is not UTF-8, a row is not as the first line says, or a path is empty; with the line.
    """
    name = f"`inputs` {shown(path)}"
    text = decode_text(data, name, errors="surrogateescape")
    for one in _lines(text) if without_query(path).lower().endswith(".txt") else _rows(text, name):
        where = f"{name}, line {one.line}"
        if not all(map(is_utf8, (one.path, one.id or "", one.label or ""))):
            _refuse_other_encoding(one, where)
        if one.path != one.path.strip() and not exists(one.path) and exists(one.path.strip()):
            raise UsageError(
                f"{where}: there is no {one.path!r}, but {one.path.strip()!r}: remove the blanks around it"
            )
        yield one


def _lines(text: str) -> Iterator[Named]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if line:
            yield Named(number, line)


def _rows(text: str, name: str) -> Iterator[Named]:
    _, rows = read_rows(text, name, needed=["path"])
    for line, values in rows:
        if not values["path"]:
            raise UsageError(f"{name}, line {line}: the path is empty")
        yield Named(line, values["path"], values.get("id") or None, values.get("label") or None)


def _refuse_other_encoding(one: Named, where: str) -> None:
    """A name on a disk may hold any bytes, so it is one if there is such a file; else the list is no UTF-8."""
    on_disk = scheme(one.path) == "" and os.path.lexists(one.path.encode("utf-8", "surrogateescape"))
    if not (on_disk and is_utf8(one.id or "") and is_utf8(one.label or "")):
        raise UsageError(f"{where} is not UTF-8 (the file may be Latin-1 or Windows-1252): save it as UTF-8")
