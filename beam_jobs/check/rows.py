"""The rows of a file of results, each with its number, and each as no other bytes would say it.

A reader of CSVs takes many texts for the same row; a run writes one of them. So each row that was read is written
again, and compared with what is there.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from beam_jobs.embeddings import pack
from beam_jobs.predict_options import Format
from beam_jobs.prediction_rows import written
from beam_jobs.result_files import open_binary
from beam_jobs.table_files import Column, Value, parquet_schema, rows_of_group
from serving.client.scores import format_score
from serving.storage.base import Storage

if TYPE_CHECKING:
    import pyarrow


class Wrong(Exception):
    """A row, or a whole file, is not as a run writes it; `args` is (number of the row or None, what is wrong)."""

    def __init__(self, row: int | None, what: object) -> None:
        super().__init__(row, what)


class NumberedRow(NamedTuple):
    """A row of a file."""

    number: int
    """The number that a user counts: of a CSV, the names of the columns are row 1."""
    values: list[Value]
    """A value for each column: text, an integer or a number as the column has it; None where it is missing."""


class _Recorded:
    """Lines, and the text of those that were taken since `taken` was asked before."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def taken(self) -> str:
        text = "".join(self._taken)
        self._taken.clear()
        return text


def column_names(storage: Storage, path: str, form: Format) -> list[str]:
    """The names of the columns, as the file has them; none of an empty file.

    Raises:
      Wrong: the file is gone, or none of its form.
    """
    match form:
        case "jsonl":
            try:
                return list(json.loads(next(iter(_text(storage, path)), "{}")))
            except (ValueError, TypeError, RecursionError) as error:
                raise Wrong(1, error) from error
        case "parquet":
            return [field.name for field in _parquet_file(storage, path).schema_arrow]
        case _:
            return next(_csv_lines(storage, path), [])


def read_rows(storage: Storage, path: str, form: Format, columns: Sequence[Column]) -> Iterator[NumberedRow]:
    """Each row, with a value for each column.

    Raises:
      Wrong: while iterating, at the first row that is not as a run writes it.
    """
    match form:
        case "jsonl":
            return _read_json_lines(storage, path, columns)
        case "parquet":
            return _read_parquet(storage, path, columns)
        case _:
            return _read_csv(storage, path, columns)


def _csv_lines(storage: Storage, path: str) -> Iterator[list[str]]:
    lines = _Recorded(iter(_text(storage, path)))
    again = io.StringIO(newline="")
    number = 1
    try:
        for fields in csv.reader(lines, strict=True):
            again.seek(0)
            again.truncate()
            csv.writer(again).writerow(fields)
            if again.getvalue() != lines.taken():
                raise Wrong(number, "it has other quotes or ends of lines than a run writes")
            yield fields
            number += 1
    except (ValueError, csv.Error) as error:
        raise Wrong(number, error) from error


def _read_csv(storage: Storage, path: str, columns: Sequence[Column]) -> Iterator[NumberedRow]:
    names, number = [column.name for column in columns], 0
    for number, fields in enumerate(_csv_lines(storage, path), 1):
        if number == 1:
            if fields != names:
                raise Wrong(1, f"the columns are {', '.join(fields)}, and not {', '.join(names)}")
            continue
        if len(fields) != len(columns):
            raise Wrong(number, f"it has {len(fields)} values, and not {len(columns)}")
        values = [_of_csv(number, column, field) for column, field in zip(columns, fields, strict=True)]
        yield NumberedRow(number, values)
    if number == 0:
        raise Wrong(None, "it is empty, without the names of its columns")


def _of_csv(number: int, column: Column, text: str) -> Value:
    if column.kind is str:
        return text
    if not text:
        return None
    try:
        value = column.kind(text)
    except ValueError:
        value = None
    if value is None or text != (format_score(value) if isinstance(value, float) else str(value)):
        raise Wrong(number, f"{column.name} is {text!r}, which is not a number as a run writes it")
    return value


def _read_json_lines(storage: Storage, path: str, columns: Sequence[Column]) -> Iterator[NumberedRow]:
    names = [column.name for column in columns]
    number = 1
    try:
        for line in _text(storage, path):
            found = json.loads(line)
            if not isinstance(found, dict) or list(found) != names:
                raise Wrong(number, f"it is not an object with the keys {', '.join(names)}")
            if json.dumps(found, ensure_ascii=False) + "\n" != line:
                raise Wrong(number, "it is other JSON, or has another end, than a run writes")
            yield NumberedRow(number, _typed(number, columns, found.values()))
            number += 1
    except (ValueError, RecursionError) as error:
        raise Wrong(number, error) from error


def _typed(number: int, columns: Sequence[Column], values: Any) -> list[Value]:
    for column, value in zip(columns, values, strict=True):
        if value is not None and type(value) is not column.kind:
            raise Wrong(number, f"{column.name} is {value!r}, which is not {_IN_WORDS[column.kind]}")
        if isinstance(value, float) and written(value) != value:
            raise Wrong(number, f"{column.name} is {value!r}, and rounded {written(value)!r}")
    return list(values)


_IN_WORDS = {str: "text", int: "an integer", float: "a number"}


def _read_parquet(storage: Storage, path: str, columns: Sequence[Column]) -> Iterator[NumberedRow]:
    import pyarrow

    file = _parquet_file(storage, path)
    found, expected = _fields(file.schema_arrow), _fields(parquet_schema(columns))
    if found != expected:
        raise Wrong(None, f"the columns are {_schema(found)}, and not {_schema(expected)}")
    most = rows_of_group(columns)
    groups = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    if too_large := [rows for rows in groups if rows > most]:
        raise Wrong(None, f"a row group has {too_large[0]:,} rows, which is more than a million values")
    number = 1
    try:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield NumberedRow(number, _typed(number, columns, row.values()))
                number += 1
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise Wrong(number, error) from error


def _parquet_file(storage: Storage, path: str) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(open_binary(storage, path))
    except FileNotFoundError as error:
        raise Wrong(None, "it is gone") from error
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise Wrong(None, error) from error


def read_embeddings(storage: Storage, path: str, width: int | None) -> Iterator[NumberedRow]:
    """Each row of embeddings: the path, and the numbers as a part has them.

    Args:
      storage: holds the file.
      path: of the file.
      width: numbers of an embedding; None where it isn't known.

    Raises:
      Wrong: while iterating, as `read_rows`.
    """
    import pyarrow

    file = _parquet_file(storage, path)
    found = _fields(file.schema_arrow)
    size = str(width) if width else r"\d+"
    types = ("string", rf"fixed_size_list<element: halffloat not null>\[{size}\]")
    names = [name for name, _ in found]
    if names != ["path", "embedding"] or not all(
        re.fullmatch(kind, there) for kind, (_, there) in zip(types, found, strict=True)
    ):
        raise Wrong(None, f"the columns are {_schema(found)}, and not path and embedding as a run writes them")
    number = 1
    try:
        for batch in file.iter_batches(batch_size=_EMBEDDINGS):
            numbers = batch.column(1).flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
            for one, embedding in zip(batch.column(0).to_pylist(), numbers, strict=True):
                yield NumberedRow(number, [one, pack(embedding)])
                number += 1
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise Wrong(number, error) from error


_EMBEDDINGS = 1024
"""Embeddings that are in memory at once."""


def metadata_of_parquet(storage: Storage, path: str) -> Any:
    """What the file says of its run.

    Raises:
      Wrong: it says nothing.
    """
    try:
        return json.loads((_parquet_file(storage, path).schema_arrow.metadata or {})[b"flow_images"])
    except (KeyError, ValueError) as error:
        raise Wrong(None, "its schema has no metadata flow_images, or that is not JSON") from error


def _fields(schema: "pyarrow.Schema") -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]


def _schema(fields: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in fields)


def _text(storage: Storage, path: str) -> io.TextIOWrapper:
    try:
        return io.TextIOWrapper(open_binary(storage, path), "utf-8", newline="")
    except FileNotFoundError as error:
        raise Wrong(None, "it is gone") from error
