"""The files of a complete run, read again row by row: none of them is held in memory."""

import csv
import datetime
import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import pydantic

from beam_jobs.kaggle_submission import image_id
from beam_jobs.manifest import Row
from beam_jobs.results import FAILED, PREDICTIONS, REJECTED, RUN
from serving.errors import UsageError
from serving.storage.base import Storage, join

T = TypeVar("T")
_BLOCK = 4 * 1024 * 1024


class Answer(NamedTuple):
    """What the model said of an image."""

    path: str
    """In Kaggle's form the id, where the path isn't known."""
    label: str
    """The best one."""
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


def read_answers(storage: Storage, output: str, rows: Iterator[Row] | None = None) -> Iterator[Answer]:
    """Each answer of predictions.csv.

    Args:
      storage: holds the folder.
      output: the run's folder.
      rows: the manifest's, in order. Kaggle's form has no paths and no true labels, so they come from there.

    Raises:
      UsageError: while iterating, for a file that was changed.
    """
    path = join(output, PREDICTIONS)
    columns, lines = _lines(storage, path)
    if columns[:1] == ["id"]:
        return _read(path, lines, _kaggle(columns[1:], rows))
    return _read(path, lines, _ranked(columns))


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


def _read(path: str, lines: Iterator[list[str]], parse: Callable[[list[str]], T | None]) -> Iterator[T]:
    number = 1
    try:
        for fields in lines:
            number += 1
            found = parse(fields)
            if found is not None:
                yield found
    except (ValueError, IndexError, TypeError, csv.Error) as error:
        raise _changed(f"{path}, row {number}", error) from error


def _ranked(columns: Sequence[str]) -> Callable[[list[str]], Answer]:
    """A reader of rows of path, label, score, label_2, score_2 and so on."""
    ranks = sum(name == "score" or name.startswith("score_") for name in columns)
    truth = columns.index("true_label") if "true_label" in columns else None
    width = len(columns)

    def parse(fields: list[str]) -> Answer:
        if len(fields) != width:
            raise ValueError(f"{len(fields)} values instead of {width}")
        score = _finite(fields[2])
        true_label = (fields[truth] or None) if truth is not None else None
        if true_label is None:
            return Answer(fields[0], fields[1], score)
        labels = fields[1 : 2 * ranks : 2]
        true_score = _finite(fields[2 * labels.index(true_label) + 2]) if true_label in labels else None
        return Answer(fields[0], fields[1], score, true_label, true_score)

    return parse


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


def _lines(storage: Storage, path: str) -> tuple[list[str], Iterator[list[str]]]:
    """The names of the columns, and the values of each row."""
    try:
        text = io.TextIOWrapper(io.BufferedReader(_Ranges(storage, path), _BLOCK), "utf-8", newline="")
        lines = csv.reader(text, strict=True)
        return next(lines, []), lines
    except FileNotFoundError as error:
        raise _changed(path, "it is gone") from error
    except (ValueError, csv.Error) as error:
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

    def readinto(self, buffer: Any) -> int:
        end = min(self._size, self._place + len(buffer))
        if end == self._place:
            return 0
        data = self._storage.read_range(self._path, self._place, end)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _changed(where: str, why: object) -> UsageError:
    return UsageError(f"{where} is not as the run wrote it ({why}); `flow-images merge` writes all results again")


def _finite(text: str) -> float:
    """A score; a run writes none that is infinite, and no NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a score")
    return number
