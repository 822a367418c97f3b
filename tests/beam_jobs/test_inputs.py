"""What users name as input, against real folders and files."""

import csv
import glob
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.inputs import Listed, list_pictures
from beam_jobs.patterns import glob_to_regex
from serving.errors import UsageError


def listed(*inputs: str | Path, leave_out: Sequence[str] = ()) -> list[str]:
    return sorted(one.path for one in list_pictures([str(i) for i in inputs], leave_out=leave_out))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "b/.hidden.jpg", ".git/f.jpg", "c[1].jpg", "notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_two_stars_match_zero_or_more_folders(folder: Path) -> None:
    assert listed(f"{folder}/**/*.jpg") == [f"{folder}/{n}" for n in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "c[1].jpg")]


def test_a_folder_means_every_file_that_is_not_hidden(folder: Path) -> None:
    assert listed(folder) == [f"{folder}/{n}" for n in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "c[1].jpg", "notes.md")]


def test_a_name_with_brackets_is_a_name(folder: Path) -> None:
    names = folder.parent / "names.txt"
    names.write_text(f"{folder}/c[1].jpg\r\n\n{folder}/a.jpg\n")
    assert listed(names) == [f"{folder}/a.jpg", f"{folder}/c[1].jpg"]
    assert listed(f"{folder}/c[1].jpg") == [f"{folder}/c[1].jpg"]


def test_lists_keep_names_that_are_hard_to_write(tmp_path: Path) -> None:
    hard = ["=1+1.jpg", 'quo"te.jpg', "com,ma.jpg", " blank .jpg", "犬.jpg", "new\nline.jpg"]
    with open(tmp_path / "l.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "path", "label"], *[[str(i), p, "cat"] for i, p in enumerate(hard)]])
    found = list(list_pictures([str(tmp_path / "l.csv")]))
    assert found == [Listed(p, None, str(i), "cat") for i, p in enumerate(hard)]


def test_a_runs_own_files_are_never_input(folder: Path) -> None:
    own = [f"{folder}/b/../b", f"{folder}/notes.md"]
    assert listed(folder, leave_out=own) == [f"{folder}/{n}" for n in ("a.jpg", "c[1].jpg")]


@pytest.mark.parametrize("pattern", ["**/*.jpg", "*/**/?.jpg", "b/**/d/*.jpg", "**"])
def test_a_pattern_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.chdir(folder)
    found = [path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()]
    assert listed(pattern) == sorted(found)
    assert listed(f"{folder}/{pattern}") == [f"{folder}/{path}" for path in sorted(found)]


def test_a_linked_folder_that_is_left_out_is_told(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.jpg").touch()
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    listed = [one.path for one in list_pictures([str(folder)])]
    assert listed
    assert not [path for path in listed if path.endswith("far.jpg")]
    assert f"{folder}/link" in caplog.text
    assert [one.path for one in list_pictures([f"{folder}/link"])] == [f"{folder}/link/far.jpg"]


def test_links_that_lead_in_circles_list_nothing_twice(folder: Path) -> None:
    for name in ("b/up", "b/again", "b/d/self"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    names = ["a.jpg", "b/c.jpg", "b/d/e.jpg", "c[1].jpg", "gone.jpg", "itself.jpg"]
    assert listed(f"{folder}/**/*.jpg") == [f"{folder}/{name}" for name in names]
    assert listed(folder) == [f"{folder}/{name}" for name in [*names, "notes.md"]]


def test_a_path_that_nobody_can_read_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a.jpg\nhttp://localhost/b.jpg\n")
    with pytest.raises(UsageError, match="http:// is not supported"):
        listed(tmp_path / "names.txt")


def test_an_empty_id_or_label_is_none(tmp_path: Path) -> None:
    (tmp_path / "L.CSV").write_text("path,id,label,more\na.jpg,,,x\nb.jpg,,,\n")
    found = list(list_pictures([str(tmp_path / "L.CSV")]))
    assert found == [Listed("a.jpg"), Listed("b.jpg")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,label\n1,cat\n", "must name one column 'path'"),
        ("path,path\na,b\n", "must name one column 'path'"),
        ("", "must name one column 'path'"),
        ('"path" x\n', "bad.csv, line"),
        ('path\n""\n', "the path is empty"),
        ('path\n"a" b\n', "bad.csv, line"),
    ],
    ids=["columns", "two-columns", "empty-file", "quotes-in-header", "empty-path", "quotes"],
)
def test_a_bad_csv_is_named_with_its_fault(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(UsageError, match=says) as error:
        listed(tmp_path / "bad.csv")
    assert "bad.csv" in str(error.value)


def test_an_input_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        listed(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"hdfs:// is not supported"):
        listed("hdfs://x/y")


def test_a_name_that_is_not_utf8_is_listed(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jpg")).write_bytes(b"x")
    assert len(listed(tmp_path)) == 1


@given(st.lists(st.sampled_from(["a", "b", "[", "]", ".", "*", "?", "/", "**/", "\\", "^", "-", "!"]), max_size=8))
def test_a_pattern_without_wildcards_matches_itself_only(pieces: list[str]) -> None:
    import re

    pattern = "".join(pieces)
    expression = re.compile(glob_to_regex(pattern), re.DOTALL)  # any pattern compiles
    if not set(pattern) & set("*?["):
        assert expression.fullmatch(pattern)
        assert not expression.fullmatch(pattern + "x")
