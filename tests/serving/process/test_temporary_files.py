"""Where temporary files find no place, that is said, and not what failed for want of them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.errors import DiskFull, UsageError
from serving.process.temporary_files import check_temporary_files, explaining_full_temporary_files
from tests.conftest import MODEL_NAME

WITHOUT_A_PLACE = """
import tempfile
tempfile._candidate_tempdir_list = lambda: ["/proc/none", "/proc"]  # where nobody can write, root neither
"""
"""Runs at the start of each Python, the servers' that a command starts included."""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 2 MB for temporary files."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill_and_fail(disk: Path) -> None:
    (disk / "fill").write_bytes(bytes(1_500_000))
    raise ValueError("the source file is empty")


def test_a_disk_that_is_nearly_full_is_named(small: Path) -> None:
    check_temporary_files()
    assert os.listdir(small) == []
    (small / "fill").write_bytes(bytes(1_500_000))
    with pytest.raises(DiskFull, match=f"^{small}: No space left on device: there is no room for temporary files"):
        check_temporary_files()


def test_what_fails_for_want_of_room_is_explained_by_that(small: Path) -> None:
    with pytest.raises(ValueError, match="another reason"), explaining_full_temporary_files():
        raise ValueError("another reason")
    with pytest.raises(UsageError, match="ours"), explaining_full_temporary_files():
        raise UsageError("ours")
    tempfile.gettempdir()  # it was found while there was room
    with pytest.raises(DiskFull, match=str(small)), explaining_full_temporary_files():
        fill_and_fail(small)


def test_a_training_ends_resumable_and_names_the_disk(small: Path, drawn: Path, hub_module: Path) -> None:
    (small / "fill").write_bytes(bytes(1_500_000))
    done = subprocess.run(
        [sys.executable, "-m", "flow_images", "train", "--labels", drawn / "labels.csv", "--images", drawn / "train",
         "--hub-model", hub_module, "--model-store", small.parent / "models", "--name", "x"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"flow-images train: {small}: No space left on device")
    assert "Traceback" not in done.stderr


def without_a_place(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command where no temporary file can be written."""
    (folder / "sitecustomize.py").write_text(WITHOUT_A_PLACE)
    path = f"{folder}:{Path(__file__).resolve().parents[3]}"
    return subprocess.run(
        [sys.executable, "-m", "flow_images", *map(str, words)], capture_output=True, text=True, timeout=120,
        cwd="/proc", env={**os.environ, "PYTHONPATH": path, "TMPDIR": "/proc/none"}, check=False,
    )  # fmt: skip


def test_without_any_place_a_server_is_asked_in_any_wire_form(drawn: Path, server: str, tmp_path: Path) -> None:
    image = sorted((drawn / "train").iterdir())[0]
    done = without_a_place(
        tmp_path, "classify", image, "--server", server, "--model-name", MODEL_NAME, "--wire", "float32"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["train", "serve", "evaluate", "classify --model"])
def test_without_any_place_each_command_says_it_in_one_line(
    command: str, drawn: Path, hub_module: Path, model_store: Path, tmp_path: Path
) -> None:
    image = sorted((drawn / "train").iterdir())[0]
    labelled = ["--labels", drawn / "labels.csv", "--images", drawn / "train"]
    arguments = {
        "train": [*labelled, "--hub-model", hub_module, "--model-store", tmp_path / "models", "--name", "x"],
        "serve": ["--model-base-path", model_store, "--model-name", "x"],
        "evaluate": ["--model", model_store, *labelled, "--output", tmp_path / "measured"],
        "classify --model": [image, "--model", model_store],
    }[command]  # fmt: skip
    done = without_a_place(tmp_path, command.split()[0], *arguments)
    assert "Traceback" not in done.stderr
    assert "no place for temporary files" in done.stderr.splitlines()[-1]
    assert "let TMPDIR name a folder that can be written to" in done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
