"""What users name as input, against real folders and files."""

import csv
import glob
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from beam_jobs.listing import Listed, check_inputs, list_images
from serving.errors import UsageError
from serving.storage.stores import Stores


def listed(*inputs: str | Path, leave_out: Sequence[str] = ()) -> list[str]:
    return sorted(one.path for one in list_images([str(i) for i in inputs], leave_out=leave_out))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "b/.hidden.jpg", ".git/f.jpg", "c[1].jpg", "notes.doc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_two_stars_match_zero_or_more_folders(folder: Path) -> None:
    assert listed(f"{folder}/**/*.jpg") == [f"{folder}/{n}" for n in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "c[1].jpg")]


def test_a_folder_means_every_file_that_is_not_hidden(folder: Path) -> None:
    assert listed(folder) == [f"{folder}/{n}" for n in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "c[1].jpg", "notes.doc")]


def test_a_name_with_brackets_is_a_name(folder: Path) -> None:
    names = folder.parent / "names.txt"
    names.write_text(f"{folder}/c[1].jpg\r\n\n{folder}/a.jpg\n")
    assert listed(names) == [f"{folder}/a.jpg", f"{folder}/c[1].jpg"]
    assert listed(f"{folder}/c[1].jpg") == [f"{folder}/c[1].jpg"]


def test_lists_keep_names_that_are_hard_to_write(tmp_path: Path) -> None:
    hard = ["=1+1.jpg", 'quo"te.jpg', "com,ma.jpg", " blank .jpg", "犬.jpg", "new\nline.jpg"]
    with open(tmp_path / "l.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "path", "label"], *[[str(i), p, "cat"] for i, p in enumerate(hard)]])
    found = list(list_images([str(tmp_path / "l.csv")]))
    assert found == [Listed(p, None, str(i), "cat") for i, p in enumerate(hard)]


@pytest.mark.parametrize("name", ["labels.csv", "README.md", "list.txt.gz", "info.JSON", "sheet.xlsx"])
def test_a_text_among_images_is_left_out_and_counted(folder: Path, name: str) -> None:
    (folder / "b" / name).write_bytes(b"x")
    for given in (folder, f"{folder}/**", f"{folder}/b/*"):
        listing = list_images([str(given)])
        assert not [one for one in listing if one.path.endswith(name)]
        assert listing.left_out["texts"] == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.xlsx", "save the list as .txt, .csv, .tsv, .jsonl, .ndjson (each also as .gz) or .parquet"),
        ("a.json", "save the list as .txt"),
        ("a.zip", "is an archive: unpack it, and give the folder"),
        ("a.tar.gz", "is an archive"),
    ],
)
def test_a_file_that_is_neither_image_nor_list_is_refused_by_name(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    for look in (lambda given: listed(given), lambda given: check_inputs([str(given)], Stores())):
        with pytest.raises(UsageError, match=re.escape(says)):
            look(tmp_path / name)


def test_a_list_none_of_whose_first_images_is_there_is_refused_before_the_run(folder: Path) -> None:
    names = folder / "names.txt"
    names.write_text("a.jpg\nb/c.jpg\n")
    with pytest.raises(UsageError) as error:
        check_inputs([str(names)], Stores())
    assert str(error.value) == (
        f"`inputs` {names}, line 1: there is no a.jpg, nor any of the next 1; relative paths are taken from the "
        f"working directory: give `images` {folder}"
    )
    check_inputs([str(names)], Stores(), str(folder))
    assert [one.path for one in list_images([str(names)], images=str(folder))] == [
        f"{folder}/a.jpg",
        f"{folder}/b/c.jpg",
    ]
    names.write_text(f"gone.jpg\n{folder}/a.jpg\n")  # one that is there tells that the list is right
    check_inputs([str(names)], Stores())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://[::1/a.jpg", "is not a URL"),
        ("https://x.org:99999/a.jpg", "is not a URL: it needs a host, and a port up to 65535"),
        ("http:///a.jpg", "is not a URL"),
        ("HTTP://x.org/a.jpg", "write http:// in small letters"),
        (" https://x.org/a.jpg", "remove the blanks"),
        ("S3://bucket/a.jpg", "write s3:// in small letters"),
    ],
)
def test_a_bad_url_is_named_with_list_and_line(tmp_path: Path, url: str, says: str) -> None:
    names = tmp_path / "names.txt"
    names.write_text(f"https://x.org/a.jpg\n{url}\n")
    for look in (listed, lambda given: check_inputs([str(given)], Stores())):
        with pytest.raises(UsageError) as error:
            look(names)
        assert str(error.value).startswith(f"`inputs` {names}, line 2: ")
        assert says in str(error.value)


def test_a_runs_own_files_are_never_input(folder: Path) -> None:
    own = [f"{folder}/b/../b", f"{folder}/notes.doc"]
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
    listed = [one.path for one in list_images([str(folder)])]
    assert listed
    assert not [path for path in listed if path.endswith("far.jpg")]
    assert f"{folder}/link" in caplog.text
    assert [one.path for one in list_images([f"{folder}/link"])] == [f"{folder}/link/far.jpg"]


def test_links_that_lead_in_circles_list_nothing_twice(folder: Path) -> None:
    for name in ("b/up", "b/again", "b/d/self"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    names = ["a.jpg", "b/c.jpg", "b/d/e.jpg", "c[1].jpg", "gone.jpg", "itself.jpg"]
    assert listed(f"{folder}/**/*.jpg") == [f"{folder}/{name}" for name in names]
    assert listed(folder) == [f"{folder}/{name}" for name in [*names, "notes.doc"]]


def test_a_path_that_nobody_can_read_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a.jpg\nftp://localhost/b.jpg\n")
    with pytest.raises(UsageError, match="ftp:// is not supported"):
        listed(tmp_path / "names.txt")


def test_an_empty_id_or_label_is_none(tmp_path: Path) -> None:
    (tmp_path / "L.CSV").write_text("path,id,label,more\na.jpg,,,x\nb.jpg,,,\n")
    found = list(list_images([str(tmp_path / "L.CSV")]))
    assert found == [Listed("a.jpg"), Listed("b.jpg")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,label\n1,cat\n", "it needs a column of paths"),
        ("path,path\na,b\n", "two columns are named 'path'"),
        ("", "it needs a column of paths"),
        ("path,label,label\na,b,c\n", "two columns are named 'label'"),
        ("path,label,\na,b,\n", "column 3 has no name"),
        ("id, path\n1, a.jpg\n", "remove the blanks around the column's name ' path'"),
        ("path;label\na.jpg;cat\n", "separated by semicolons"),
        ("path\tlabel\na.jpg\tcat\n", "separated by tabs"),
        ('"path" x\n', "bad.csv, line 1: "),
        ('path\n""\n', "line 2: the path is empty"),
        ('path\n"a" b\n', "bad.csv, line 2: "),
        ('path\na\n\n"b\nc\n', "bad.csv, line 4: "),
        ("path,label\na.jpg,great dane, black\n", "line 2: expected 2 values as in the first line, found 3"),
        ("path,label\r\na.jpg,cat\r\nb.jpg\r\n", "line 3: expected 2 values as in the first line, found 1"),
        ("path\na.jpg\0\n", "save it as UTF-8"),
    ],
)
def test_a_bad_csv_is_named_with_its_fault(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content.encode())
    with pytest.raises(UsageError) as error:
        listed(tmp_path / "bad.csv")
    assert f"`inputs` {tmp_path}/bad.csv" in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lists_may_have_any_line_end_and_a_mark(tmp_path: Path, end: str, mark: str) -> None:
    (tmp_path / "l.txt").write_bytes((mark + f"é 1.jpg{end}{end}2.jpg{end}").encode())
    (tmp_path / "l.csv").write_bytes((mark + f"path,label{end}é 1.jpg,a{end}{end}2.jpg,b{end}").encode())
    assert listed(tmp_path / "l.txt") == listed(tmp_path / "l.csv") == ["2.jpg", "é 1.jpg"]


@pytest.mark.parametrize(
    ("encoding", "says"), [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-32", "UTF-32"), ("latin-1", "line 2")]
)
@pytest.mark.parametrize("name", ["l.txt", "l.csv"])
def test_lists_in_another_encoding_are_refused_by_name(tmp_path: Path, name: str, encoding: str, says: str) -> None:
    (tmp_path / name).write_bytes("path\ncafé.jpg\n".encode(encoding))
    with pytest.raises(UsageError, match=f"{name}.*{says}.*save it as UTF-8"):
        listed(tmp_path / name)


def test_a_line_of_other_bytes_may_name_a_file_that_has_them(folder: Path) -> None:
    path = os.fsencode(folder) + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).touch()
    (folder / "l.txt").write_bytes(b"a.jpg\n" + path + b"\n")
    assert os.fsdecode(path) in listed(folder / "l.txt")
    (folder / "l.csv").write_bytes(b"path,label\n" + path + b",caf\xe9\n")
    with pytest.raises(UsageError, match="line 2 is not UTF-8"):
        listed(folder / "l.csv")


def test_blanks_around_a_name_are_kept_where_it_has_them(folder: Path) -> None:
    (folder / " b.jpg").touch()
    (folder / "l.txt").write_text(f"{folder}/ b.jpg\n{folder}/nowhere.jpg \n{folder}/a.jpg \n")
    with pytest.raises(UsageError, match=r"l\.txt, line 3: there is no .*/a\.jpg ', but .*/a\.jpg'"):
        listed(folder / "l.txt")


def test_what_is_left_out_is_counted_by_reason(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "link").symlink_to(tmp_path_factory.mktemp("elsewhere"), target_is_directory=True)
    listing = list_images([str(folder)], leave_out=[f"{folder}/notes.doc"])
    assert len(list(listing)) == 4
    assert listing.left_out == {"hidden_files": 1, "hidden_folders": 1, "linked_folders": 1, "own_files": 1}


@pytest.mark.parametrize("given", ["{}", "{}/", "{}//", "{}/.", "{}/b/.."])
def test_a_folder_that_is_named_twice_is_listed_twice_under_one_name(folder: Path, given: str) -> None:
    names = [f"{folder}/{n}" for n in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "c[1].jpg", "notes.doc")]
    assert listed(folder, given.format(folder)) == sorted(names * 2)


UNREADABLE = """
import json, os, sys
sys.path[:0] = {path!r}
from beam_jobs.listing import list_images
from serving.errors import UsageError
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
for one in sys.argv[1:]:
    try:
        listing = list_images([one])
        print(json.dumps([sorted(os.path.basename(found.path) for found in listing), listing.left_out]))
    except UsageError as error:
        print(error)
"""


def test_a_folder_that_may_not_be_read_is_named(folder: Path) -> None:
    if os.getuid():
        pytest.skip("taking rights away needs root")
    for path in (folder, *folder.parents):
        if "pytest" in str(path):  # pytest's own folders are the owner's only
            path.chmod(0o755)
    locked = folder / "lost+found"
    locked.mkdir(mode=0o700)
    (locked / "x.jpg").touch()
    (folder / "l.txt").write_text("x")
    (folder / "l.txt").chmod(0o600)
    command = [sys.executable, "-c", UNREADABLE.format(path=sys.path)]
    given = [
        folder,
        f"{folder}/**/*.jpg",
        f"{folder}/*/*.jpg",
        locked,
        f"{locked}/*",
        f"{locked}/x.jpg",
        folder / "l.txt",
    ]
    done = subprocess.run([*command, *map(str, given)], capture_output=True, text=True, check=True)
    everything, deep, flat, *refused = done.stdout.splitlines()
    counts = {"hidden_folders": 1, "hidden_files": 1, "unreadable_folders": 1}
    assert json.loads(everything) == [["a.jpg", "c.jpg", "c[1].jpg", "e.jpg", "notes.doc"], counts | {"texts": 1}]
    assert json.loads(deep) == [["a.jpg", "c.jpg", "c[1].jpg", "e.jpg"], counts]
    assert json.loads(flat) == [["c.jpg"], counts]
    assert f"left out: {locked}" in done.stderr
    assert refused[0] == f"`inputs`: the folder {locked} may not be read"
    assert refused[1] == f"`inputs`: the folder {locked}/ may not be read"
    assert refused[2] == f"`inputs` {locked}/x.jpg: a folder above it may not be read"
    assert refused[3] == f"`inputs` {folder}/l.txt: Permission denied"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("missing", "missing: no such file or folder"),
        ("", "`inputs` is empty"),
        ("hdfs://x/y", "hdfs:// is not supported"),
        ("file:///x/y", "give the path on the disk itself"),
        ("s3:/bucket/x", "did you mean s3://bucket/x?"),
        ("fifo", "fifo: neither a file nor a folder"),
        ("itself", "itself: no such file or folder"),
        ("empty", "empty has no image in it"),
        ("empty.txt", "empty.txt names no image: it has no line with a path"),
        ("header.csv", "header.csv names no image: it has no line with a path"),
        ("*.png", "*.png matches no image"),
        ("hidden", "hidden has no image in it (left out: 1 hidden"),
        ("~/x.jpg", "~ and variables are a shell's"),
    ],
)
def test_an_input_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    os.mkfifo("fifo")
    os.symlink("itself", "itself")
    for folder in ("empty", "hidden"):
        os.mkdir(folder)
    for name, text in {"x.jpg": "", "empty.txt": "\n\n", "header.csv": "path\n", "hidden/.a.jpg": ""}.items():
        Path(name).write_text(text)
    with pytest.raises(UsageError) as error:
        listed("x.jpg", given)
    assert says in str(error.value)


def test_a_name_that_is_not_utf8_is_listed(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jpg")).write_bytes(b"x")
    assert len(listed(tmp_path)) == 1
