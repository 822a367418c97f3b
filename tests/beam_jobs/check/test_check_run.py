"""Runs that are right, and every way in which a file of one may be wrong."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from beam_jobs.check.check_run import Checked, check_run
from beam_jobs.plan import OutputForms, RunFolder
from beam_jobs.predict_options import Format
from beam_jobs.results import Incomplete, merge
from serving.errors import FlowImagesError, UsageError
from serving.storage.disk import Disk
from serving.storage.stores import Stores
from tests.beam_jobs.report.complete_runs import Image, complete

LABELS = ["cat", "dog", "unknown"]
ALL: tuple[Format, ...] = ("csv", "jsonl", "parquet", "kaggle")
IMAGES = [
    Image('a, "quoted".jpg', [0.125, 0.75, 0.125], "dog"),
    Image("b\nline.jpg", [0.5, 0.3, 0.2], "dog"),
    Image("c.jpg", fault=("rejected", "missing", "there is no such file")),
    Image("d/\N{DOG FACE}.jpg", [0.1, 0.1, 0.8]),
    Image("e.jpg", fault=("failed", "too_slow", 'no "answer",\r\nin time')),
    Image("f.jpg", [0.9995, 0.0004999, 0.0000001], "cat"),
    Image("g.jpg", [0.1, 0.2, 0.7], "unknown"),
    Image("h.jpg", fault=("rejected", "empty", "the file has no bytes")),
]


def made(folder: Path, formats: Sequence[Format] = ALL, threshold: float = 0.6, top_k: int = 2) -> Path:
    return complete(
        folder, IMAGES, LABELS, format_="kaggle", formats=formats, threshold=threshold, top_k=top_k, chunk_rows=2
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run that is right, in all forms."""
    return made(tmp_path / "out")


def without_state(output: Path) -> Path:
    shutil.rmtree(output / "_state")
    return output


def found(output: Path) -> list[str]:
    return [str(one) for one in check_run(str(output)).findings]


FORMS: list[tuple[Format, ...]] = [("csv",), ("jsonl",), ("parquet",), ("kaggle",), ALL, ("parquet", "jsonl")]


@pytest.mark.parametrize("formats", FORMS, ids=",".join)
@pytest.mark.parametrize("threshold", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("top_k", [1, 3])
def test_a_run_is_right_with_and_without_its_own_files(
    tmp_path: Path, formats: tuple[Format, ...], threshold: float, top_k: int
) -> None:
    output = made(tmp_path / "out", formats, threshold, top_k)
    checked = check_run(str(output))
    assert checked == Checked(8, 5, 2, 1, checked.files, [], [])
    checked = check_run(str(without_state(output)))
    assert checked.findings == []
    assert len(checked.unchecked) == (3 if formats == ("kaggle",) else 2)


def test_a_run_whose_form_was_changed_is_right(output: Path) -> None:
    folder = RunFolder(Disk(), str(output))
    plan = folder.load_plan()
    assert plan
    merge(folder, plan, {}, OutputForms(formats=("parquet",), threshold=0.0, top_k=3))
    checked = check_run(str(output))
    assert checked.findings == []
    assert checked.files == ["predictions.parquet", "rejected.csv", "failed.csv", "run.json"]


def test_a_run_of_the_first_release_is_right(tmp_path: Path) -> None:
    """It knew no threshold, and said nothing of one."""
    output = without_state(made(tmp_path / "out", ("csv",), threshold=0.0))
    run = json.loads((output / "run.json").read_text())
    del run["summary"]["unknown"], run["options"]["threshold"]
    (output / "run.json").write_text(json.dumps(run))
    assert found(output) == []
    del run["summary"]
    (output / "run.json").write_text(json.dumps(run))
    assert found(output) == []


def replaced(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(output: Path) -> None:
        data = (output / name).read_bytes()
        assert old.encode() in data
        (output / name).write_bytes(data.replace(old.encode(), new.encode(), 1))

    return change


def swapped(name: str, one: int, other: int) -> Callable[[Path], object]:
    def change(output: Path) -> None:
        lines = (output / name).read_bytes().splitlines(keepends=True)
        lines[one], lines[other] = lines[other], lines[one]
        (output / name).write_bytes(b"".join(lines))

    return change


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda output: (output / name).write_bytes((output / name).read_bytes()[:size])


def without_last_row(output: Path) -> None:
    lines = (output / "predictions.csv").read_bytes().splitlines(keepends=True)
    (output / "predictions.csv").write_bytes(b"".join(lines[:-1]))


def half_a_letter(output: Path) -> None:
    before = (output / "predictions.csv").read_bytes().partition("\N{DOG FACE}".encode())[0]
    (output / "predictions.csv").write_bytes(before + b"\xf0\x9f")


def gone(name: str) -> Callable[[Path], object]:
    return lambda output: (output / name).unlink()


def copied(name: str, other: str) -> Callable[[Path], object]:
    return lambda output: shutil.copy(output / name, output / other)


def parquet_row(column: str, row: int, value: object) -> Callable[[Path], object]:
    def change(output: Path) -> None:
        path = output / "predictions.parquet"
        table = parquet.read_table(path)
        rows = table.to_pylist()
        rows[row][column] = value
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), path)

    return change


def parquet_without_metadata(output: Path) -> None:
    path = output / "predictions.parquet"
    parquet.write_table(parquet.read_table(path).replace_schema_metadata(None), path)


def parquet_with_other_type(output: Path) -> None:
    path = output / "predictions.parquet"
    table = parquet.read_table(path)
    field = table.schema.get_field_index("score")
    parquet.write_table(table.set_column(field, "score", table["score"].cast(pyarrow.float32())), path)


def told(name: str, value: object) -> Callable[[Path], object]:
    def change(output: Path) -> None:
        run = json.loads((output / "run.json").read_text())
        run[name] = value
        (output / "run.json").write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")

    return change


CSV, JSON, PARQUET, SUBMISSION = "predictions.csv", "predictions.jsonl", "predictions.parquet", "submission.csv"
SAME = "the same"
# How a file is changed, and how the first finding begins: with the run's own files, and without them. None where they
# alone tell of it.
WRONG: dict[str, tuple[Callable[[Path], object], str, str | None]] = {
    "a label": (replaced(CSV, "f.jpg,cat", "f.jpg,dog"), f"{CSV}, row 5", SAME),
    "a second score": (replaced(CSV, "dog,0.0004999", "dog,0.0004998"), f"{CSV}, row 5", f"{JSON}, row 4"),
    "a path": (replaced(CSV, "f.jpg", "fa.jpg"), f"{CSV}, row 5", f"{JSON}, row 4"),
    "a true label": (replaced(CSV, ",unknown\r\n", ",cat\r\n"), f"{CSV}, row 6", f"{JSON}, row 5"),
    "a score in another spelling": (replaced(CSV, "0.750000", "0.75"), f"{CSV}, row 2", SAME),
    "quotes that nobody needs": (replaced(CSV, "f.jpg", '"f.jpg"'), f"{CSV}, row 5", SAME),
    "another end of line": (replaced(CSV, ",cat\r\n", ",cat\n"), f"{CSV}, row 5", SAME),
    "a mark of byte order": (replaced(CSV, "path,", "\ufeffpath,"), f"{CSV}, row 1", SAME),
    "columns in another order": (replaced(CSV, "label,score", "score,label"), f"{CSV}, row 1", SAME),
    "rows in another order": (swapped(CSV, -1, -2), f"{CSV}, row 5", f"{CSV}, row 6"),
    "a row twice": (replaced(CSV, "g.jpg", "f.jpg"), f"{CSV}, row 6", SAME),
    "a row too few": (without_last_row, f"{CSV}: it ends before g.jpg", JSON),
    "half a row": (cut(CSV, -7), f"{CSV}, row 6", SAME),
    "half a letter": (half_a_letter, f"{CSV}, row", SAME),
    "an empty file": (cut(CSV, 0), f"{CSV}: ", SAME),
    "no file": (gone(CSV), f"{CSV}: it is gone", SAME),
    "a known that is unknown": (replaced(CSV, "f.jpg,cat,0.999500", "f.jpg,unknown,"), f"{CSV}, row 5", SAME),
    "an unknown that is known": (replaced(CSV, '.jpg",unknown,,', '.jpg",cat,0.500000,'), f"{CSV}, row 3", SAME),
    "JSON with other blanks": (replaced(JSON, '": "', '":"'), f"{JSON}, row 1", SAME),
    "JSON with a number as text": (replaced(JSON, "0.9995", '"0.9995"'), f"{JSON}, row 4", SAME),
    "JSON with more digits": (replaced(JSON, "0.9995", "0.99950001"), f"{JSON}, row 4", SAME),
    "JSON with another path": (replaced(JSON, "f.jpg", "fa.jpg"), f"{JSON}, row 4", SAME),
    "no JSON": (replaced(JSON, "{", "["), f"{JSON}, row 1", SAME),
    "JSON rows in another order": (swapped(JSON, 3, 4), f"{JSON}, row 4", SAME),
    "half a Parquet file": (cut(PARQUET, -20), f"{PARQUET}: ", SAME),
    "another file": (copied(CSV, PARQUET), f"{PARQUET}: ", SAME),
    "a value in Parquet": (parquet_row("model_score", 3, 0.99), f"{PARQUET}, row 4", SAME),
    "a null in Parquet": (parquet_row("true_label", 3, None), f"{PARQUET}, row 4", SAME),
    "Parquet without its metadata": (parquet_without_metadata, f"{PARQUET}: its schema", SAME),
    "another type in Parquet": (parquet_with_other_type, f"{PARQUET}: the columns", SAME),
    "a score of Kaggle's": (replaced(SUBMISSION, "0.999500", "0.999400"), f"{SUBMISSION}, row 7", SAME),
    "a sum of Kaggle's": (replaced(SUBMISSION, "0.999500", "0.500000"), f"{SUBMISSION}, row 7: its scores sum", SAME),
    "an id of Kaggle's": (replaced(SUBMISSION, "\nf,", "\nff,"), f"{SUBMISSION}, row 7", SAME),
    "a label of Kaggle's": (replaced(SUBMISSION, "cat,dog", "dog,cat"), f"{SUBMISSION}, row 1", f"{SUBMISSION}, row 2"),
    "scores of a fault": (replaced(SUBMISSION, "0.333333,0.333333", "0.200000,0.466666"), f"{SUBMISSION}, row 4", SAME),
    "a reason": (replaced("rejected.csv", "missing", "not there"), "rejected.csv, row 2", SAME),
    "a stage": (replaced("rejected.csv", ",read,", ",later,"), "rejected.csv, row 2", SAME),
    "a message": (replaced("failed.csv", "in time", "for now"), "failed.csv, row 2", None),
    "an image in two files": (
        replaced("failed.csv", "e.jpg", "c.jpg"),
        "failed.csv, row 2",
        "failed.csv, row 2: c.jpg",
    ),
    "an image that nobody listed": (replaced("failed.csv", "e.jpg", "x.jpg"), "failed.csv, row 2", SUBMISSION),
    "a file in another's place": (
        copied("rejected.csv", "failed.csv"),
        "failed.csv, row 2",
        "failed.csv, row 2: c.jpg",
    ),
    "a count": (told("predicted", 6), "run.json: listed is 8", SAME),
    "the accuracy": (told("accuracy", 1.0), "run.json: accuracy is 1.0", SAME),
    "the summary": (told("summary", {"labels": []}), "run.json: summary", SAME),
    "the model": (told("model", {"name": "m", "version": 2, "fingerprint": "x"}), f"{PARQUET}: its metadata", SAME),
    "the time that it took": (told("seconds", 12.0), "run.json: it has other bytes", None),
    "half a run.json": (cut("run.json", 50), "run.json: ", SAME),
    "a form that is not wanted": (
        told("options", {"format": "csv", "threshold": 0.6, "top_k": 2}),
        "run.json: it has other bytes",
        f"{JSON}: the run has no file",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_first_wrong_row_is_named(output: Path, name: str) -> None:
    change, begin, begin_without = WRONG[name]
    change(output)
    assert (found(output) or ["nothing"])[0].startswith(begin)
    then = found(without_state(output))
    if begin_without is None:
        assert then == []
    else:
        assert (then or ["nothing"])[0].startswith(begin if begin_without == SAME else begin_without)


@pytest.mark.parametrize("name", [CSV, JSON, PARQUET, SUBMISSION, "rejected.csv", "failed.csv", "run.json"])
def test_any_byte_that_is_changed_is_found(output: Path, name: str) -> None:
    """With the run's own files; without them, it is at least no other error."""
    data = (output / name).read_bytes()
    chance = random.Random(name)
    shutil.copytree(output, copy := output.with_name("copy"), ignore=shutil.ignore_patterns("_state"))
    for _ in range(40):
        place, value = chance.randrange(len(data)), chance.randrange(1, 256)
        changed = data[:place] + bytes([data[place] ^ value]) + data[place + 1 :]
        for folder in (output, copy):
            (folder / name).write_bytes(changed)
        assert found(output), (place, value)
        found(copy)


def test_a_part_that_was_changed_or_is_gone_is_named(output: Path) -> None:
    part = min((output / "_state" / "parts").rglob("0-*.jsonl"))
    data = part.read_bytes()
    part.write_bytes(data.replace(b"0.75", b"0.76"))
    assert "is damaged" in found(output)[0]
    part.unlink()
    assert part.name in found(output)[0]


def test_a_list_that_was_changed_is_said(output: Path) -> None:
    (path,) = (output / "_state").glob("manifest-*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"f.jpg", b"x.jpg"))
    with pytest.raises(FlowImagesError, match="was changed"):
        check_run(str(output))


def test_predictions_of_another_run_are_told(tmp_path: Path, output: Path) -> None:
    other = complete(tmp_path / "other", [Image("z.jpg", [0.1, 0.2, 0.7])], LABELS, threshold=0.6, top_k=2)
    shutil.copy(other / "predictions.csv", output / "predictions.csv")
    assert found(output)[0].startswith("predictions.csv, row 1: the columns")


def test_a_run_in_a_bucket_is_checked_there(output: Path, s3_folder: str) -> None:
    store = Stores()(s3_folder)
    for path in output.rglob("*"):
        if path.is_file():
            store.create(f"{s3_folder}/{path.relative_to(output)}", path.read_bytes())
    assert check_run(s3_folder).findings == []
    with store.replacing(f"{s3_folder}/rejected.csv") as file:
        file.write((output / "failed.csv").read_bytes())
    assert str(check_run(s3_folder).findings[0]).startswith("rejected.csv, row 2")


def test_a_folder_without_a_run_and_a_run_without_an_end(tmp_path: Path, output: Path) -> None:
    with pytest.raises(UsageError, match="no run in it"):
        check_run(str(tmp_path))
    (output / "run.json").unlink()
    with pytest.raises(Incomplete):
        check_run(str(output))


def test_nothing_is_changed(output: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]}
    check_run(str(output))
    assert {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]} == before


def test_a_model_may_have_a_label_id(tmp_path: Path) -> None:
    images = [Image("a.jpg", [0.3, 0.7]), Image("b.jpg", [0.9, 0.1])]
    output = complete(tmp_path / "out", images, ["id", "cat"], format_="kaggle", formats=("csv", "kaggle"), top_k=2)
    assert found(output) == []
    assert found(without_state(output)) == []


@pytest.mark.parametrize("text", ["[" * 100_000, '{"path": 1}', "", "\N{DOG FACE}".encode("utf-16").decode("latin-1")])
def test_lines_that_are_no_rows_are_named(output: Path, text: str) -> None:
    (output / "predictions.jsonl").write_text(text + "\n", encoding="latin-1")
    assert any(one.startswith("predictions.jsonl") for one in found(output))
    assert any(one.startswith("predictions.jsonl") for one in found(without_state(output)))


def test_metadata_of_another_kind_is_of_another_run(output: Path) -> None:
    path = output / "predictions.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata({"flow_images": "[]"}), path)
    assert "predictions.parquet: its metadata is of another run" in found(without_state(output))
