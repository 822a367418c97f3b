"""Label files as users' editors write them: read alike, or refused with the line."""

import logging
import os
from pathlib import Path

import pytest

from serving.errors import UsageError
from serving.text.label_file import read_class_names


def written(folder: Path, data: bytes, name: str = "labels.txt") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


@pytest.mark.parametrize(
    "data",
    [b"rod\nbla\n", b"rod\nbla", b"rod\r\nbla\r\n", b"rod\rbla\r", b"rod\nbla\r\n\n", b"\xef\xbb\xbfrod\nbla\n",
     b"\xef\xbb\xbfrod\r\nbla", b"rod\nbla\n\r\n  \n\t"],
    ids=["lf", "no-end", "crlf", "cr", "mixed", "mark", "mark-crlf", "blank-end"],
)  # fmt: skip
def test_labels_are_the_same_whoever_wrote_the_file(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    data = data.replace(b"o", "ø".encode()).replace(b"a", "å".encode())
    assert read_class_names(written(tmp_path, data)) == ["rød", "blå"]
    assert not caplog.records


def test_a_label_that_stands_there_again_gets_a_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, b"crane\ncat\ncrane\ncrane (2)\ncrane\n")
    assert read_class_names(path) == ["crane", "cat", "crane (3)", "crane (2)", "crane (4)"]
    assert f"`labels` {path}: lines 1 and 3 have the same label; the second one is taken as 'crane (3)'" in caplog.text


@pytest.mark.parametrize("inside", ["\x0b", "\x0c", "\x1c", "\x1d", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_only_a_line_end_ends_a_line(tmp_path: Path, inside: str) -> None:
    assert read_class_names(written(tmp_path, f"a{inside}b\nc\n".encode())) == [f"a{inside}b", "c"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("red\nblue\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("red\nblue\n".encode("utf-16-le"), "UTF-16"),
        ("red\nblue\n".encode("utf-32"), "is UTF-32"),
        (b"red\nbl\xe5\n", "line 2: byte 0xe5 is not UTF-8"),
        (b"red\n\nblue\n", "line 2 is empty"),
        (b"\nred\nblue\n", "line 1 is empty"),
        (b"red\n \t\r\nblue\n", "line 2 is empty"),
        (b"", "has 0 labels"),
        (b"\n\n", "has 0 labels"),
        (b"red\n", "has 1 labels"),
        (b'["red", "blue"]', "has 1 labels"),
        (b"id,breed\n1,red\n2,blue\n", "is a CSV .*'id,breed'"),
        (b'\xef\xbb\xbf"path";"label"\n1;red\n', "is a CSV"),
    ],
)
def test_what_is_no_list_of_labels_is_refused_in_words(tmp_path: Path, data: bytes, says: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(UsageError, match=rf"^`labels` {path}.*{says}"):
        read_class_names(path)


def test_a_file_that_is_called_a_csv_has_one_column(tmp_path: Path) -> None:
    assert read_class_names(written(tmp_path, b"red\nblue\n", "labels.csv")) == ["red", "blue"]
    with pytest.raises(UsageError, match="is a CSV"):
        read_class_names(written(tmp_path, b"0,red\n1,blue\n", "labels.csv"))
    imagenet = b"tench, Tinca tinca\ngoldfish, Carassius auratus\n"
    assert read_class_names(written(tmp_path, imagenet)) == imagenet.decode().splitlines()


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "nul"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "labels.txt") + "\0" * (kind == "nul")
    if kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(UsageError, match=r"`labels` .*labels\.txt.*: "):
        read_class_names(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"red\nblue \n", "line 2: blanks around a label"),
        (b"red\n\tblue\n", "line 2: blanks around a label"),
        ("red\nblue\u00a0\n".encode(), "line 2: blanks around a label"),
        (b"y\nx\ny \n", "lines 1, 3 have labels that look alike: 'y', 'y '"),
        (b"Great Dane\nx\ngreat  dane\n", "lines 1, 3 have labels that look alike"),
        ("red\nx\nred\u200b\n".encode(), r"look alike: 'red', 'red\u200b'"),
        ("cafe\u0301\nx\ncaf\u00e9\n".encode(), "lines 1, 3 have labels that look alike"),
        ("cat\nx\nc\u0430t\n".encode(), "lines 1, 3 have labels that look alike"),
    ],
)
def test_labels_that_look_alike_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes, says: str
) -> None:
    with caplog.at_level(logging.WARNING):
        labels = read_class_names(written(tmp_path, data))
    assert labels == data.decode().split("\n")[:-1]  # as they are
    assert any(says in record.getMessage() for record in caplog.records)
