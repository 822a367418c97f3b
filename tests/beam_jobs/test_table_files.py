"""Rows in three forms, read again by other programs' readers."""

import csv
import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from beam_jobs.predict_options import Format
from beam_jobs.table_files import Column, Hashed, Value, open_table
from serving.client.scores import format_score

COLUMNS = [Column("path", str), Column("score", float), Column("bytes", int)]
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(
    ['"', "a,b", "a\nb", "\r", "\u2028", "\x1c", "=1+1", "null"]
)
rows = st.lists(
    st.tuples(
        texts,
        st.none() | st.floats(0, 1).map(lambda score: float(format_score(score))),
        st.none() | st.integers(0, 2**62),
    )
)


def written(format_: Format, values: list[tuple[Value, ...]]) -> bytes:
    file = io.BytesIO()
    hashed = Hashed(file)
    table = open_table(format_, hashed, COLUMNS, {"flow_images": '{"run": "r"}'})
    for one in values:
        table.write(one)
    table.close()
    assert hashed.sha256 == hashlib.sha256(file.getvalue()).hexdigest()
    return file.getvalue()


@given(rows)
def test_every_form_gives_back_what_was_written(values: list[tuple[Value, ...]]) -> None:
    names = [column.name for column in COLUMNS]
    as_csv = list(csv.reader(io.StringIO(written("csv", values).decode(), newline="")))
    assert as_csv[0] == names
    read = [(path, float(score) if score else None, int(size) if size else None) for path, score, size in as_csv[1:]]
    assert read == values
    lines = written("jsonl", values).decode().split("\n")
    assert lines.pop() == ""
    assert [tuple(json.loads(line).items()) for line in lines] == [
        tuple(zip(names, one, strict=True)) for one in values
    ]
    table = parquet.read_table(io.BytesIO(written("parquet", values)))
    assert [tuple(one.values()) for one in table.to_pylist()] == values
    assert [str(column.type) for column in table.schema] == ["string", "double", "int64"]
    assert json.loads(table.schema.metadata[b"flow_images"]) == {"run": "r"}


@pytest.mark.parametrize("count", [333_333, 333_334, 700_000])
def test_a_parquet_file_is_written_in_groups_of_rows(count: int) -> None:
    file = parquet.ParquetFile(io.BytesIO(written("parquet", [("a", 0.5, 1)] * count)))
    assert file.metadata.num_rows == count
    assert all(file.metadata.row_group(group).num_rows <= 333_333 for group in range(file.num_row_groups))
