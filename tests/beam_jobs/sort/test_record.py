"""What is known of a folder that was filled before."""

import json
from pathlib import Path

import pytest

from beam_jobs.sort.record import NAME, Made, held
from serving.errors import UsageError

ONE = Made("dog/1.jpg", "/in/1.jpg", "symlink", "../in/1.jpg")
TWO = Made("cat/2.jpg", "/in/2.jpg", "copy", "12 34")


def test_what_was_noted_is_known_to_the_next_call(tmp_path: Path) -> None:
    with held(tmp_path / "new") as record:
        record.add(ONE)
        record.add(TWO)
        record.add(ONE._replace(proof="other"))
        record.drop(TWO.place)
    with held(tmp_path / "new") as record:
        assert record.made == {ONE.place: ONE._replace(proof="other")}


def test_a_call_that_was_killed_in_a_line_loses_that_line_alone(tmp_path: Path) -> None:
    with held(tmp_path) as record:
        record.add(ONE)
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes() + json.dumps(TWO).encode()[:-9])
    with held(tmp_path) as record:
        assert record.made == {ONE.place: ONE}
        record.add(TWO)
        # The next call is killed, too: what it noted is on the disk.
        assert [json.loads(line)[0] for line in path.read_text().splitlines()] == [ONE.place, TWO.place]


@pytest.mark.parametrize(
    "line",
    ["x", "[]", '["dog/1.jpg"]', '["../1.jpg","a","symlink","b"]', '["1.jpg","a","symlink","b"]', '[1,"a","copy","b"]',
     '["../../x/1.jpg","a","symlink","b"]'],
    ids=["text", "empty", "short", "outside", "beside", "number", "far-outside"],
)  # fmt: skip
def test_a_record_that_no_call_wrote_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).write_text(f"{line}\n")
    with pytest.raises(UsageError, match="is damaged"), held(tmp_path):
        pass


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="has other files in it"), held(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_calls_at_once_are_refused(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UsageError, match="another call"), held(tmp_path):
        pass
