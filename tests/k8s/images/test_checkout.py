import re
from collections.abc import Callable
from pathlib import Path

import pytest

from k8s.images.checkout import CONTEXT, commit, copy_context
from k8s.images.engine import CONTAINERFILE
from serving.errors import UsageError
from tests.k8s.images.conftest import run_git

ROOT = Path(__file__).resolve().parents[3]
COMMITTED_AT = 1767323045


def test_a_commit_has_its_hash_its_tag_and_its_time(checkout: Path) -> None:
    at = commit(checkout)
    assert at.revision == run_git(checkout, "rev-parse", "HEAD")
    assert (at.described, at.time, at.is_dirty) == ("v1.2.0", COMMITTED_AT, False)


def test_the_environment_may_say_another_time(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert commit(checkout).time == 1700000000


def _change(checkout: Path) -> None:
    (checkout / "trainer/module.py").write_text("1")


def _remove(checkout: Path) -> None:
    (checkout / "trainer/module.py").unlink()


def _add(checkout: Path) -> None:
    (checkout / "trainer/new.py").write_text("1")


@pytest.mark.parametrize("change", [_change, _remove, _add])
def test_changes_that_are_in_no_commit_are_said(checkout: Path, change: Callable[[Path], None]) -> None:
    change(checkout)
    at = commit(checkout)
    assert at.is_dirty
    assert at.described == "v1.2.0-dirty"
    assert at.revision == run_git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_what_no_image_is_built_from_changes_nothing(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("mine")
    assert not commit(checkout).is_dirty


def test_the_context_is_what_git_knows(checkout: Path, tmp_path: Path) -> None:
    for name in ("trainer/key.secret", "notes.txt", "trainer/new.py"):
        (checkout / name).write_text("1")
    (checkout / "LICENSE").unlink()
    (checkout / "k8s/run.sh").write_text("#!/bin/sh\n")
    (checkout / "k8s/run.sh").chmod(0o755)
    copy_context(checkout, tmp_path / "context")
    copied = {path.relative_to(tmp_path / "context").as_posix() for path in (tmp_path / "context").rglob("*.*")}
    assert {"pyproject.toml", "trainer/module.py", "trainer/new.py", "k8s/run.sh"} <= copied
    assert not {"trainer/key.secret", "notes.txt"} & copied
    assert not (tmp_path / "context/LICENSE").exists()
    assert (tmp_path / "context/k8s/run.sh").stat().st_mode & 0o111


def test_the_context_is_what_the_containerfile_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / CONTAINERFILE).read_text(), re.MULTILINE)
    assert {name.split("/")[0] for line in copied for name in line.split()} == set(CONTEXT)


def test_a_folder_without_git_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match=r"must be a checkout of git.*not a git repository") as raised:
        commit(tmp_path / "plain")
    assert "\n" not in str(raised.value)


def test_without_git_it_says_what_is_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="git is not installed"):
        commit(checkout)
