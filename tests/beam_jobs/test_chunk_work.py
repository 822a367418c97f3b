"""The line of a part that tells when it was made."""

import pytest

from beam_jobs.chunk_work import ChunkWork


def test_a_line_comes_back_as_it_was_written() -> None:
    work = ChunkWork(1796000000.125, 12.5, 256, 3, 1)
    assert work.ended == 1796000012.625
    assert work.line().count(b"\n") == 1
    assert ChunkWork.of(work.line()) == work


@pytest.mark.parametrize(
    "line",
    [b"", b'[0, "predicted"]', b"{}", b'{"began": 1}', b'{"began": 1, "seconds": -1, "images": 2}', b"x",
     b'{"began": "1", "seconds": "2", "images": 3}'],
    ids=["empty", "outcome", "nothing", "short", "negative", "text", "words"],
)  # fmt: skip
def test_another_line_tells_nothing(line: bytes) -> None:
    assert ChunkWork.of(line) is None
