"""Rows of users' CSVs: as written, or refused with their line."""

import pytest

from serving.errors import UsageError
from serving.text.read_csv import CsvRow, read_rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_as_written_and_know_their_lines(end: str) -> None:
    text = end.join(["path,label", '"com,ma.jpg",a', "", f'"two{end}lines",b', "last,"])
    columns, rows = read_rows(text, "`labels` l.csv", needed=["path"])
    assert columns == ["path", "label"]
    assert list(rows) == [
        CsvRow(2, {"path": "com,ma.jpg", "label": "a"}),
        CsvRow(4, {"path": f"two{end}lines", "label": "b"}),
        CsvRow(6, {"path": "last", "label": ""}),
    ]


@pytest.mark.parametrize("row", ["a.jpg,great dane, black", "a.jpg"])
def test_a_value_too_many_or_too_few_is_refused(row: str) -> None:
    _, rows = read_rows(f"path,label\nx,y\n{row}\nz,z\n", "`labels` l.csv")
    assert next(rows).line == 2
    with pytest.raises(UsageError, match=r"`labels` l\.csv, line 3: expected 2 values"):
        next(rows)
