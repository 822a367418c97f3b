"""A file of results that is read along with what it has to hold, up to its first wrong row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from beam_jobs.check.rows import NumberedRow, Wrong
from beam_jobs.table_files import Value


class Finding(NamedTuple):
    """Something that is wrong."""

    file: str
    row: int | None
    """None where it is the whole file."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.row is None else f', row {self.row:,}'}: {self.what}"


Problem = Callable[[Mapping[str, Value]], str | None]


class CheckedFile:
    """One file. After its first wrong row it is not read on."""

    def __init__(
        self,
        name: str,
        rows: Iterator[NumberedRow],
        columns: Sequence[str],
        problem: Problem = lambda record: None,
        *,
        is_csv: bool = False,
        is_ordered: bool = True,
    ) -> None:
        """Reads nothing yet.

        Args:
          name: of the file.
          rows: of the file; raises Wrong at one that no run writes.
          columns: names of the values of a row.
          problem: tells what is wrong with a row by itself.
          is_csv: whether what is missing is empty.
          is_ordered: whether its first column ascends, and has no value twice.
        """
        self.name = name
        self.finding: Finding | None = None
        self.count = 0
        """Rows that were taken."""
        self._names = columns
        self._is_csv = is_csv
        self._rows = self._checked(rows, problem, is_ordered)
        self._head: NumberedRow | None = None

    def note(self, row: int | None, what: object) -> None:
        """Notes what is wrong, if nothing was before."""
        self.finding = self.finding or Finding(self.name, row, str(what))

    def head(self) -> NumberedRow | None:
        """The next row, which is not taken yet; None at the end, or behind a wrong row."""
        if self._head is None and self.finding is None:
            try:
                self._head = next(self._rows, None)
            except Wrong as wrong:
                self.note(*wrong.args)
        return self._head

    def take(self) -> NumberedRow | None:
        """The next row; None at the end, or behind a wrong row."""
        row, self._head = self.head(), None
        self.count += row is not None
        return row

    def record(self, row: NumberedRow) -> dict[str, Value]:
        """The values of a row by column."""
        return dict(zip(self._names, row.values, strict=True))

    def expect(self, values: Sequence[Value], source: str, *, takes_empty: bool = False) -> None:
        """Takes the next row, which must have these values; the first one is its name.

        Args:
          values: one for each column, or for the first ones.
          source: where the values are from, for the message.
          takes_empty: whether they are from a CSV, where what is missing is empty.
        """
        takes_empty = takes_empty or self._is_csv
        row = self.take()
        if self.finding:
            return
        if row is None:
            self.note(None, f"it ends before {values[0]}, which belongs there by {source}")
        elif row.values[0] != values[0]:
            self.note(row.number, f"it is about {row.values[0]}, where {values[0]} belongs by {source}")
        else:
            for name, found, expected in zip(self._names, row.values, values, strict=False):
                if found != expected and not (takes_empty and found in ("", None) and expected in ("", None)):
                    self.note(row.number, f"{name} is {_shown(found)}, and by {source} {_shown(expected)}")

    def expect_end(self, source: str) -> None:
        """There must be no row any more."""
        row = self.take()
        if row and not self.finding:
            self.note(row.number, f"{row.values[0]} is no further row by {source}")

    def _checked(self, rows: Iterator[NumberedRow], problem: Problem, is_ordered: bool) -> Iterator[NumberedRow]:
        before: str | None = None
        for row in rows:
            if what := problem(self.record(row)):
                raise Wrong(row.number, what)
            name = str(row.values[0])
            if is_ordered and before is not None and name <= before:
                raise Wrong(row.number, f"{name} is there twice" if name == before else f"{name} is behind {before}")
            before = name
            yield row


def _shown(value: Value) -> str:
    text = repr(value)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"


_LETTERS = 80
