"""The files of a complete run, read again row by row: none of them is held in memory."""

import csv
import datetime
import functools
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import pydantic

from beam_jobs.kaggle_submission import image_id
from beam_jobs.manifest import Row
from beam_jobs.plan import OutputForms
from beam_jobs.predict_options import Format
from beam_jobs.prediction_rows import further_ranks, models_best
from beam_jobs.results import FAILED, REJECTED, RUN, prediction_files
from serving.errors import UsageError
from serving.storage.base import Storage, join

F = TypeVar("F")
T = TypeVar("T")
_BLOCK = 4 * 1024 * 1024


class Answer(NamedTuple):
    """What the model said of an image."""

    path: str
    """In Kaggle's form the id, where the path isn't known."""
    label: str
    """The model's best one."""
    score: float
    true_label: str | None = None
    true_score: float | None = None
    """The score of the true label; None where it is not among those that were written."""
    is_placed: bool = True
    """Is `path` a path?"""


class Fault(NamedTuple):
    """An image that was rejected or failed."""

    verdict: str
    path: str
    stage: str
    reason: str
    message: str


class AskedModel(pydantic.BaseModel):
    """The model of a run, as run.json has it."""

    name: str
    version: int
    fingerprint: str


class RunFacts(pydantic.BaseModel):
    """What a page tells of run.json."""

    listed: int
    predicted: int
    rejected: int
    failed: int
    duplicates: int = 0
    left_out: dict[str, int] = {}
    model: AskedModel
    options: dict[str, Any]
    versions: dict[str, str] = {}
    finished: datetime.datetime
    seconds: float

    @property
    def forms(self) -> OutputForms:
        """What the files of its predictions look like."""
        return OutputForms.recorded(self.options)

    @property
    def knows_threshold(self) -> bool:
        """Does it tell of one? An earlier release called no answer unknown."""
        return "threshold" in self.options


def read_run(storage: Storage, output: str) -> RunFacts:
    """What run.json says.

    Raises:
      FileNotFoundError: there is none.
      UsageError: it was changed.
    """
    path = join(output, RUN)
    try:
        return RunFacts.model_validate_json(storage.read(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise _changed(path, f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()) from error


def read_answers(
    storage: Storage, output: str, rows: Iterator[Row] | None = None, formats: Sequence[Format] = ("csv",)
) -> Iterator[Answer]:
    """Each answer of a run's predictions.

    Args:
      storage: holds the folder.
      output: the run's folder.
      rows: the manifest's, in order. Kaggle's form has no paths and no true labels, so they come from there.
      formats: the forms of the predictions, the first of which is read.

    Raises:
      UsageError: while iterating, for a file that was changed.
    """
    form, name = next(iter(prediction_files(formats).items()))
    path = join(output, name)
    if form == "kaggle":
        columns, lines = _lines(storage, path)
        return _read(path, lines, _kaggle(columns[1:], rows))
    return _read(path, read_records(storage, path, form), _answer, first=_FIRST[form])


def read_records(storage: Storage, path: str, form: Format) -> Iterator[dict[str, Any]]:
    """Each row of predictions as values by column: text from a CSV, and typed from the other forms.

    Raises:
      UsageError: for a file that is gone, or none of its form.
      ValueError, csv.Error: while iterating, for a row that no run writes.
    """
    match form:
        case "jsonl":
            return (_json_object(line) for line in _text(storage, path))
        case "parquet":
            return _parquet_records(storage, path)
        case _:
            columns, lines = _lines(storage, path)
            return (dict(zip(columns, fields, strict=True)) for fields in lines)


def read_faults(storage: Storage, output: str) -> Iterator[Fault]:
    """Each row of rejected.csv and then of failed.csv.

    Raises:
      UsageError: while iterating, for a file that was changed.
    """
    for verdict, name in (("rejected", REJECTED), ("failed", FAILED)):
        path = join(output, name)
        _, lines = _lines(storage, path)
        yield from _read(path, lines, functools.partial(_fault, verdict))


def _fault(verdict: str, fields: list[str]) -> Fault:
    return Fault(verdict, *fields)


def _read(path: str, lines: Iterator[F], parse: Callable[[F], T | None], first: int = 2) -> Iterator[T]:
    """What is in each row; `first` is the number of the first one, as an error counts them."""
    for number in itertools.count(first):
        try:
            fields = next(lines, None)
            found = parse(fields) if fields is not None else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error) as error:
            raise _changed(f"{path}, row {number}", error) from error
        if fields is None:
            return
        if found is not None:
            yield found


_FIRST: dict[Format, int] = {"csv": 2, "kaggle": 2, "jsonl": 1, "parquet": 1}
"""The number of the first row: the names of the columns are a CSV's row 1."""


def _answer(record: dict[str, Any]) -> Answer:
    """The answer of a record of path, label, score, label_2, score_2 and so on."""
    label, score = models_best(record)
    found = Answer(record["path"], label, _finite(score))
    true_label = record.get("true_label") or None
    if true_label is None:
        return found
    ranks = {label: score} | {record[f"label{rank}"]: record[f"score{rank}"] for rank in further_ranks(record)}
    true_score = _finite(ranks[true_label]) if true_label in ranks else None
    return found._replace(true_label=true_label, true_score=true_score)


def _kaggle(labels: Sequence[str], rows: Iterator[Row] | None) -> Callable[[list[str]], Answer | None]:
    """A reader of rows of id and a score for each label; None for an image that was not predicted."""

    def parse(fields: list[str]) -> Answer | None:
        row = next(rows, None) if rows else None
        if row and image_id(row.path, row.id) != fields[0]:
            raise ValueError(f"the id of {row.path} is {image_id(row.path, row.id)!r}, not {fields[0]!r}")
        scores = list(map(_finite, fields[1:]))
        best = max(scores)
        if min(scores) == best:  # which only an image without an answer has
            return None
        true_label = row.label if row else None
        true_score = scores[labels.index(true_label)] if true_label in labels else None
        label = labels[scores.index(best)]
        return Answer(row.path if row else fields[0], label, best, true_label, true_score, is_placed=row is not None)

    return parse


def open_binary(storage: Storage, path: str) -> io.BufferedReader:
    """A file that is read as far as it is asked for; raises FileNotFoundError if there is none."""
    return io.BufferedReader(_Ranges(storage, path), _BLOCK)


def _text(storage: Storage, path: str) -> io.TextIOWrapper:
    """The text of a file that is read as far as it is asked for."""
    try:
        return io.TextIOWrapper(open_binary(storage, path), "utf-8", newline="")
    except FileNotFoundError as error:
        raise _changed(path, "it is gone") from error


def _lines(storage: Storage, path: str) -> tuple[list[str], Iterator[list[str]]]:
    """The names of the columns, and the values of each row."""
    try:
        lines = csv.reader(_text(storage, path), strict=True)
        return next(lines, []), lines
    except (ValueError, csv.Error) as error:
        raise _changed(path, error) from error


def _json_object(line: str) -> dict[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    return found


def _parquet_records(storage: Storage, path: str) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(open_binary(storage, path))
        for batch in file.iter_batches():
            yield from batch.to_pylist()
    except FileNotFoundError as error:
        raise _changed(path, "it is gone") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise _changed(path, error) from error


class _Ranges(io.RawIOBase):
    """A file of a store as one that is read from its start on, a range at a time."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage = storage
        self._path = path
        self._size = int(storage.stamp(path)["size"])
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._size, self._place + len(buffer))
        if end <= self._place:
            return 0
        data = self._storage.read_range(self._path, self._place, end)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _changed(where: str, why: object) -> UsageError:
    return UsageError(f"{where} is not as the run wrote it ({why}); `flow-images merge` writes all results again")


def _finite(text: str | float) -> float:
    """A score; a run writes none that is infinite, and no NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a score")
    return number
