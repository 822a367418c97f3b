"""Reads CSVs that users write. What a spreadsheet would silently correct is refused, with its line."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from serving.errors import UsageError


class CsvRow(NamedTuple):
    """A row with as many values as the first line has names."""

    line: int
    """The line where the row begins, counted from 1."""
    values: dict[str, str]


def read_rows(
    text: str, name: str, needed: Sequence[str] = (), delimiter: str = ","
) -> tuple[list[str], Iterator[CsvRow]]:
    """The names of the columns, and the rows; empty lines are none.

    Args:
      text: the whole file, as `serving.text.utf8_files.decode_text` gives it.
      name: of the file, with its field, as a message has it: "`labels` labels.csv".
      needed: columns that must be there.
      delimiter: between values.

    Raises:
      UsageError: at once if the first line can't be used; while iterating, for a row with too many or too few values
        or with quotes that don't close.
    """
    lines = _numbered(text, name, delimiter)
    columns = next(lines, (1, []))[1]
    _check_columns(columns, name, needed)
    return columns, _rows(lines, columns, name)


def _rows(lines: Iterator[tuple[int, list[str]]], columns: list[str], name: str) -> Iterator[CsvRow]:
    for line, values in lines:
        if len(values) != len(columns):
            raise UsageError(
                f"{name}, line {line}: expected {len(columns)} values as in the first line, found {len(values)}; "
                'put a value that has a comma in quotes ("great dane, black")'
            )
        yield CsvRow(line, dict(zip(columns, values, strict=True)))


def _numbered(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that isn't empty, with the line that it begins on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise UsageError(f"{name}, line {line}: {error}; correct the quotes of that line") from error
        if values is None:
            return
        if values:
            yield line, values


def _check_columns(columns: list[str], name: str, needed: Sequence[str]) -> None:
    if len(columns) == 1:
        for mark, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if mark in columns[0]:
                raise UsageError(f"{name}: its values are separated by {called}; save it with commas")
    for column in columns:
        if column != column.strip():
            raise UsageError(f"{name}, line 1: remove the blanks around the column's name {column!r}")
    for column in needed:
        if columns.count(column) != 1:
            raise UsageError(f"{name}: its first line must name one column {column!r}; it has {columns or 'none'}")
    for number, column in enumerate(columns, start=1):
        if not column:
            raise UsageError(f"{name}, line 1: column {number} has no name; name it, or remove the comma too many")
        if columns.index(column) < number - 1:
            raise UsageError(f"{name}, line 1: two columns are named {column!r}; rename or remove one")
