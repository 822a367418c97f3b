"""The files of a run, read again row by row."""

from pathlib import Path

import pytest

from beam_jobs.manifest import Row
from beam_jobs.result_files import Answer, Fault, read_answers, read_faults
from serving.errors import UsageError
from serving.storage.disk import Disk
from tests.beam_jobs.report.complete_runs import Image, complete


def test_a_row_is_as_it_was_written_whatever_its_text(tmp_path: Path) -> None:
    message = 'quotes "and", commas\r\nand lines \N{DOG FACE}'
    images = [
        Image("a, \N{DOG FACE}\n.jpg", [0.25, 0.75], "cat"),
        Image("b.jpg", [0.5, 0.5]),
        Image("c.jpg", fault=("rejected", "missing", message)),
        Image("d.jpg", fault=("failed", "too_slow", message)),
    ]
    output = str(complete(tmp_path / "out", images, ["cat", "dog"]))
    assert list(read_answers(Disk(), output)) == [
        Answer("a, \N{DOG FACE}\n.jpg", "dog", 0.75, "cat", 0.25),
        Answer("b.jpg", "cat", 0.5),
    ]
    assert list(read_faults(Disk(), output)) == [
        Fault("rejected", "c.jpg", "read", "missing", message),
        Fault("failed", "d.jpg", "read", "too_slow", message),
    ]


def test_a_file_is_read_in_ranges_and_no_letter_is_lost_between_them(tmp_path: Path) -> None:
    class Counting(Disk):
        longest = 0

        def read_range(self, path: str, start: int, end: int) -> bytes:
            Counting.longest = max(Counting.longest, end - start)
            return super().read_range(path, start, end)

    names = [f"{number:05} " + "\N{DOG FACE}" * (number % 7 + 20) for number in range(100_000)]
    rows = "".join(f"{name},cat,0.500000\r\n" for name in names)
    (tmp_path / "predictions.csv").write_bytes(f"path,label,score\r\n{rows}".encode())
    assert [answer.path for answer in read_answers(Counting(), str(tmp_path))] == names
    assert Counting.longest < (tmp_path / "predictions.csv").stat().st_size / 2


def test_the_score_of_a_true_label_is_none_where_it_was_not_written(tmp_path: Path) -> None:
    images = [Image("a.jpg", [0.1, 0.7, 0.2], "cat"), Image("b.jpg", [0.1, 0.7, 0.2], "owl")]
    output = complete(tmp_path / "out", images, ["cat", "dog", "owl"], top_k=2)
    assert [answer.true_score for answer in read_answers(Disk(), str(output))] == [None, 0.2]


def test_kaggles_rows_are_those_of_the_manifest_but_for_images_without_an_answer(tmp_path: Path) -> None:
    images = [
        Image("in/a.jpg", [0.2, 0.8], "cat"),
        Image("in/b.jpg", fault=("rejected", "missing", "there is no such file")),
        Image("in/c.jpg", [0.9, 0.1]),
    ]
    output = str(complete(tmp_path / "out", images, ["cat", "dog"], format_="kaggle"))
    rows = iter([Row("in/a.jpg", label="cat"), Row("in/b.jpg"), Row("in/c.jpg")])
    assert list(read_answers(Disk(), output, rows, ["kaggle"])) == [
        Answer("in/a.jpg", "dog", 0.8, "cat", 0.2),
        Answer("in/c.jpg", "cat", 0.9),
    ]
    assert list(read_answers(Disk(), output, formats=["kaggle"])) == [
        Answer("a", "dog", 0.8, is_placed=False),
        Answer("c", "cat", 0.9, is_placed=False),
    ]


@pytest.mark.parametrize(
    "row",
    ["a.jpg,cat", "a.jpg,cat,half", 'a.jpg,"cat,0.5', "a.jpg,cat,0.5,0.5", "a.jpg,cat,nan"],
    ids=["short", "no-number", "open-quote", "long", "nan"],
)
def test_a_row_that_no_run_writes_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "predictions.csv").write_text(f"path,label,score\r\na.jpg,cat,0.500000\r\n{row}\r\n")
    with pytest.raises(UsageError, match=r"predictions\.csv, row \d is not as the run wrote it"):
        list(read_answers(Disk(), str(tmp_path)))
