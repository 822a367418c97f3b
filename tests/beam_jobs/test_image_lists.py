"""Lists of images in each form that is read, and in forms that are refused."""

import gzip
import io
import json

import pyarrow
import pyarrow.parquet
import pytest

from beam_jobs.image_lists import Named, is_list, is_text, read_list
from serving.errors import UsageError

ROWS = [("犬/a.jpg", "1", "cat"), ("b, c.jpg", "2", "dog")]


def _table(delimiter: str) -> bytes:
    lines = [("path", "id", "label"), *ROWS]
    quoted = [[f'"{value}"' if delimiter in value else value for value in line] for line in lines]
    return "".join(delimiter.join(line) + "\n" for line in quoted).encode()


def _objects() -> bytes:
    return "\n".join(
        json.dumps({"path": path, "id": int(one), "label": label, "more": [1]}) for path, one, label in ROWS
    ).encode()


def _parquet(*, categories: bool = False) -> bytes:
    path, one, label = (pyarrow.array(column) for column in zip(*ROWS, strict=True))
    if categories:
        label = label.dictionary_encode()
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"id": one, "label": label, "path": path, "x": [0.5, 1.5]}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.csv", _table(",")),
        ("l.tsv", _table("\t")),
        ("L.CSV.GZ", gzip.compress(_table(","), mtime=0)),
        ("l.jsonl", _objects()),
        ("l.ndjson.gz", gzip.compress(_objects(), mtime=0)),
        ("l.parquet", _parquet()),
        ("categories.parquet", _parquet(categories=True)),
        ("https://x.org/l.parquet?sig=a.b", _parquet()),
    ],
)
def test_each_form_of_a_table_names_the_same_images(name: str, data: bytes) -> None:
    assert is_list(name)
    assert [one[1:] for one in read_list(data, name, lambda path: False)] == ROWS


@pytest.mark.parametrize("column", ["filepath", "filename", "file", "image"])
def test_a_column_of_paths_may_have_a_common_name(column: str) -> None:
    found = read_list(f"label,{column}\ncat,a.jpg\n".encode(), "l.csv", lambda path: False)
    assert list(found) == [Named("line 2", "a.jpg", None, "cat")]


def test_kaggles_layout_names_the_files_of_a_folder() -> None:
    data = b"id,breed\nabc,pug\nd.png,boxer\n"
    found = list(read_list(data, "labels.csv", lambda path: False, "train"))
    assert found == [Named("line 2", "train/abc.jpg", "abc", "pug"), Named("line 3", "train/d.png", "d.png", "boxer")]
    with pytest.raises(UsageError, match=r"or give `images`, the folder of <id>.jpg; it has id, breed"):
        list(read_list(data, "labels.csv", lambda path: False))


def test_relative_paths_are_below_the_folder_of_images() -> None:
    data = b"a.jpg\n/b.jpg\ns3://bucket/c.jpg\n"
    found = [one.path for one in read_list(data, "l.txt", lambda path: False, "train/")]
    assert found == ["train/a.jpg", "/b.jpg", "s3://bucket/c.jpg"]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("l.csv", b"name,label\na,b\n", "it needs a column of paths, path or filepath or filename or file or image"),
        ("l.jsonl", b'{"path": "a.jpg"}\n{"path": 3.5}\n', "line 2: path is not text, but 3.5"),
        ("l.jsonl", b'{"path": "a.jpg"}\n\nnot json\n', "line 3 is not JSON"),
        ("l.jsonl", b'["a.jpg"]\n', 'line 1 is not an object: write {"path": …}'),
        ("l.jsonl", b'{"url": "a.jpg"}\n', "it needs a column of paths"),
        ("l.jsonl", b'{"path": ""}\n', "line 1: the path is empty"),
        ("l.parquet", b"PAR1junkPAR1", "l.parquet is not a Parquet file"),
        ("l.csv.gz", _table(","), "l.csv.gz is not a whole gzip file"),
        ("l.csv.gz", gzip.compress(_table(","), mtime=0)[:-9], "l.csv.gz is not a whole gzip file"),
    ],
)
def test_a_list_that_can_not_be_read_is_named_with_its_fault(name: str, data: bytes, says: str) -> None:
    with pytest.raises(UsageError) as error:
        list(read_list(data, name, lambda path: False))
    assert says in str(error.value)


def test_images_are_no_texts() -> None:
    assert not [name for name in ("a.jpg", "b.webp", "csv", "c.gz", "noending") if is_text(name)]
