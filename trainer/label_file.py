"""A CSV of labels: `id,breed` as Kaggle has it, or `path,label`."""

import csv
import io
from typing import NamedTuple

from serving.errors import UsageError
from serving.local_files import read_file
from serving.terminal import printable
from serving.text_files import decode_text

_LAYOUTS = (("path", "label"), ("id", "breed"))
"""Columns of the picture and of its class."""


class Row(NamedTuple):
    """A picture as the file names it, its class, and where that stands, for messages."""

    picture: str
    label: str
    where: str


class LabelFile(NamedTuple):
    """The rows, and whether they name pictures by ids."""

    rows: list[Row]
    has_ids: bool


def read_label_file(path: str) -> LabelFile:
    """Reads a CSV of labels.

    Raises:
      UsageError: it can't be read, isn't UTF-8, has other columns, or a row names no picture or has a value too many.
    """
    name = f"--labels {printable(path)}"
    if "://" in path:
        raise UsageError(f"{name}: expected a file of this machine; copy it first")
    try:
        text = decode_text(read_file(path), name)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = next(reader, [])
        lines = [(reader.line_num, values) for values in reader if values]
    except csv.Error as error:
        raise UsageError(f"{name}, line {reader.line_num}: {error}; mend the quotes of that line") from error
    picture, label = _layout(columns, name)
    picture_at, label_at = columns.index(picture), columns.index(label)
    rows = []
    for line, values in lines:
        where = f"{name}, line {line}"
        if len(values) != len(columns):
            raise UsageError(
                f"{where}: expected {len(columns)} values as in the first line; quote a value with a comma"
            )
        row = Row(values[picture_at], values[label_at], where)
        if not row.picture:
            raise UsageError(
                f"{where}: the label {printable(repr(row.label))} has no picture; fill in the column {picture}"
            )
        rows.append(row)
    return LabelFile(rows, has_ids=picture == "id")


def _layout(columns: list[str], name: str) -> tuple[str, str]:
    layout = next((layout for layout in _LAYOUTS if set(layout) <= set(columns)), None)
    if layout is not None:
        for column in layout:
            if columns.count(column) > 1:
                raise UsageError(f"{name}: the column {column} is there twice; rename or remove one")
        return layout
    found = printable(",".join(columns)) or "none"
    plain = {column.strip().strip("\"'").lower() for column in columns}
    hint = ""
    if any(set(layout) <= plain for layout in _LAYOUTS):
        hint = ": write them in small letters, without blanks or quotes around them"
    elif mark := next((mark for mark in ";\t|" if any(mark in column for column in columns)), None):
        hint = f": save it with commas between the values, not {mark!r}"
    raise UsageError(f"{name}: expected a first line with the columns id,breed or path,label; found {found}{hint}")
