"""What is said of a path that isn't there."""

import unicodedata
from pathlib import Path

import pytest

from beam_jobs.path_hints import spelling_hint


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PHOTOS", str(tmp_path))
    (tmp_path / "lists").mkdir()
    for name in ("a.jpg", "lists/b.jpg", unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "ü.jpg")):
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ('"a.jpg"', "remove the quotes around it"),
        ("~/a.jpg", "~ and variables are a shell's"),
        ("$PHOTOS/a.jpg", "~ and variables are a shell's"),
        (r"C:\photos\a.jpg", "a path of Windows"),
        ("D:/a.jpg", "a path of Windows"),
        (r"lists\b.jpg", "folders are separated by /: lists/b.jpg"),
        ("*.jpg", "give the glob as `inputs` of its own"),
        ("b.jpg", "relative paths are taken from the working directory: give `images` lists"),
        ("www.x.org/a.jpg", "did you mean https://www.x.org/a.jpg?"),
        ("s3:/bucket/a.jpg", "did you mean s3://bucket/a.jpg?"),
        ("data:image/png;base64,AAAA", "save it as a file"),
        (unicodedata.normalize("NFC", "é.jpg"), "another Unicode form (NFD)"),
        (unicodedata.normalize("NFD", "ü.jpg"), "another Unicode form (NFC)"),
    ],
)
def test_a_path_that_is_spelled_wrong_is_told_how_it_is_right(path: str, says: str) -> None:
    assert says in spelling_hint(path, "lists")


def test_nothing_is_guessed_of_a_name_that_is_just_not_there() -> None:
    assert spelling_hint("nothing.jpg", "lists") == ""
