"""Writes rows into files of three forms: CSV, JSON Lines and Parquet. docs/output-files.md specifies them."""

import abc
import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from typing_extensions import override

from beam_jobs.predict_options import Format
from serving.client.scores import format_score

if TYPE_CHECKING:
    import pyarrow

R = TypeVar("R")
Value = str | int | float | None


class Column(NamedTuple):
    """A column's name, and the type of its values that are not None."""

    name: str
    kind: type[str] | type[int] | type[float]


class Table(Protocol):
    """A file that rows are written into."""

    def write(self, values: Sequence[Value]) -> None:
        """Adds a row, a value for each column."""

    def close(self) -> None:
        """Writes what is left; the file itself stays open."""


class Hashed(io.RawIOBase):
    """A file that is written through to another one, and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Writes bytes, all of them."""
        self._digest.update(data)
        self._file.write(data)
        return len(data)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written."""
        return self._digest.hexdigest()


class CsvTable:
    """A CSV as RFC 4180 has it, in UTF-8; no text is altered, None is empty, scores are as `format_score` has them."""

    def __init__(self, file: Hashed, columns: Sequence[Column]) -> None:
        self._file = file
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self.write([column.name for column in columns])

    def write(self, values: Sequence[Value]) -> None:
        """See Table."""
        self._writer.writerow([format_score(value) if isinstance(value, float) else value for value in values])
        self._file.write(self._text.getvalue().encode("utf-8"))
        self._text.seek(0)
        self._text.truncate()

    def close(self) -> None:
        """See Table."""


class JsonLinesTable:
    """One JSON object a line in UTF-8, with all columns in their order; None is null."""

    def __init__(self, file: Hashed, columns: Sequence[Column]) -> None:
        self._file = file
        self._names = [column.name for column in columns]

    def write(self, values: Sequence[Value]) -> None:
        """See Table."""
        line = json.dumps(dict(zip(self._names, values, strict=True)), ensure_ascii=False)
        self._file.write(line.encode("utf-8") + b"\n")

    def close(self) -> None:
        """See Table."""


class RowGroups(abc.ABC, Generic[R]):
    """A Parquet file that is written a row group at a time; the same rows give the same bytes."""

    def __init__(self, file: Hashed, schema: "pyarrow.Schema", most: int, **options: Any) -> None:
        """Begins the file.

        Args:
          file: that it is written into.
          schema: of the file, with its metadata.
          most: rows of a group.
          **options: of `pyarrow.parquet.ParquetWriter`.
        """
        from pyarrow import parquet

        self.schema = schema
        self._writer = parquet.ParquetWriter(file, schema, **options)
        self._most = most
        self._rows: list[R] = []

    @abc.abstractmethod
    def columns(self, rows: Sequence[R]) -> Sequence[Any]:
        """The columns of a group, each as pyarrow takes them."""

    def add(self, row: R) -> None:
        """Writes a group once it has as many rows as it may have."""
        self._rows.append(row)
        if len(self._rows) == self._most:
            self._flush()

    def close(self) -> None:
        """Writes what is left; the file itself stays open."""
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        self._writer.write_table(pyarrow.table(self.columns(self._rows), schema=self.schema))
        self._rows.clear()


class ParquetTable(RowGroups[Sequence[Value]]):
    """A Parquet file: text, int64 and float64, each column nullable; a row group holds up to a million values."""

    def __init__(self, file: Hashed, columns: Sequence[Column], metadata: Mapping[str, str]) -> None:
        """`metadata` goes into the schema."""
        super().__init__(file, parquet_schema(columns).with_metadata(dict(metadata)), rows_of_group(columns))

    @override
    def columns(self, rows: Sequence[Sequence[Value]]) -> Sequence[Any]:
        return list(zip(*rows, strict=True))

    def write(self, values: Sequence[Value]) -> None:
        """See Table."""
        self.add(values)


_VALUES = 1_000_000


def rows_of_group(columns: Sequence[Column]) -> int:
    """How many rows a row group of a Parquet file has at most."""
    return max(1, _VALUES // len(columns))


def parquet_schema(columns: Sequence[Column]) -> "pyarrow.Schema":
    """The schema of a Parquet file with these columns."""
    import pyarrow

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    return pyarrow.schema([(column.name, types[column.kind]) for column in columns])


def open_table(form: Format, file: Hashed, columns: Sequence[Column], metadata: Mapping[str, str]) -> Table:
    """A table in one of the forms.

    Args:
      form: which.
      file: that it is written into.
      columns: of the table.
      metadata: what a form that has a place for it says of the run.
    """
    match form:
        case "csv" | "kaggle":
            return CsvTable(file, columns)
        case "jsonl":
            return JsonLinesTable(file, columns)
        case "parquet":
            return ParquetTable(file, columns, metadata)
