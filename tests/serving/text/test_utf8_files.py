"""Users' text files: UTF-8 with or without a mark; other encodings are refused by name."""

import pytest

from serving.errors import UsageError
from serving.text.utf8_files import decode_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_read_with_and_without_a_mark(encoding: str) -> None:
    assert decode_text("rød\r\nblå\n".encode(encoding), "`labels` x") == "rød\r\nblå\n"


@pytest.mark.parametrize(
    ("encoding", "named"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32"), ("utf-16-le", "UTF-16"), ("latin-1", "Latin-1")]
)
def test_another_encoding_is_refused_by_name(encoding: str, named: str) -> None:
    with pytest.raises(UsageError, match=rf"`labels` x.*{named}.*save it as UTF-8"):
        decode_text("red\nrød\n".encode(encoding), "`labels` x")


def test_the_line_of_a_byte_that_is_not_utf8_is_named() -> None:
    with pytest.raises(UsageError, match="line 2: byte 0xf8"):
        decode_text(b"red\nr\xf8d\n", "`labels` x")
