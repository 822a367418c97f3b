"""The command: what it prints, how it ends, and how it is stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from beam_jobs.sort.record import NAME
from beam_jobs.sort.sort_command import sort
from serving.errors import EXIT_FAILED, FileError, UsageError
from tests.beam_jobs.report.complete_runs import Image, complete
from tests.terminal import ROOT, on_terminal
from tests.web_server import Web

LABELS = ("cat", "dog")


@pytest.fixture
def output(tmp_path: Path) -> str:
    """A run of two dogs, a cat, a file that is no image, and one that was never there."""
    (tmp_path / "in").mkdir()
    for name in ("rex", "pug", "tom", "text"):
        (tmp_path / "in" / f"{name}.jpg").write_text(name)
    images = [
        Image(f"{tmp_path}/in/rex.jpg", [0.0, 1.0]),
        Image(f"{tmp_path}/in/pug.jpg", [0.0, 1.0]),
        Image(f"{tmp_path}/in/tom.jpg", [1.0, 0.0]),
        Image(f"{tmp_path}/in/text.jpg", fault=("rejected", "not_an_image", "a text")),
        Image(f"{tmp_path}/in/gone.jpg", fault=("rejected", "missing", "there is no such file")),
    ]
    return str(complete(tmp_path / "out", images, LABELS))


def run(*words: object) -> Result:
    return CliRunner().invoke(sort, list(map(str, words)))


def test_the_counts_are_those_of_the_run(output: str, tmp_path: Path) -> None:
    done = run(output, "--into", tmp_path / "sorted")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "5 listed = 3 of 2 labels + 0 unknown + 2 rejected + 0 failed\n"
        "of them: 4 linked, 1 gone\n"
        f"sorted: {tmp_path}/sorted\n"
    )
    again = run(output, "--into", tmp_path / "sorted")
    assert "of them: 4 there already, 1 gone\n" in again.stdout


def test_a_file_in_the_way_is_named_and_the_exit_code_says_so(output: str, tmp_path: Path) -> None:
    run(output, "--into", tmp_path / "sorted")
    (tmp_path / "sorted" / "dog" / "rex.jpg").unlink()
    (tmp_path / "sorted" / "dog" / "rex.jpg").write_text("mine")
    done = run(output, "--into", tmp_path / "sorted")
    assert done.exit_code == EXIT_FAILED
    assert "of them: 3 there already, 1 gone, 1 with another file in the way\n" in done.stdout
    assert done.stderr == "flow-images: dog/rex.jpg: another file is there, and is left as it is\n"


def test_it_fits_a_narrow_terminal(output: str, tmp_path: Path) -> None:
    seen = on_terminal(50, "sort", output, "--into", "sorted", folder=tmp_path)
    assert seen.code == 0
    assert seen.screen == [
        "5 listed = 3 of 2 labels + 0 unknown + 2 rejected",
        "  + 0 failed",
        "of them: 4 linked, 1 gone",
        "sorted: sorted",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["", "--into", "x"], "`output` is empty"),
        (["nowhere", "--into", "x"], "no run in it"),
        (["{output}", "--into", "{output}"], "has other files in it"),
        (["{output}", "--into", "{output}/run.json"], "Not a directory"),
        (["{output}", "--into", "{output}/run.json/x"], "Not a directory"),
    ],
    ids=["empty", "no-run", "not-empty", "file", "below-a-file"],
)
def test_wrong_folders_are_refused(output: str, words: list[str], told: str) -> None:
    done = run(*(word.format(output=output) for word in words))
    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)


@pytest.fixture
def nobody(output: str, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes this process one that may not write everywhere, as root may, until the test ends."""
    user = os.geteuid()
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest" in str(folder):  # pytest's own folders are the owner's only
            folder.chmod(0o755)
    # What is imported when it is needed may not be readable for others than its owner.
    run(output, "--into", tmp_path / "imported", "--link", "copy")
    yield lambda: os.seteuid(65534) if user == 0 else None
    os.seteuid(user)


def test_a_folder_that_may_not_be_written_to_is_said(output: str, tmp_path: Path, nobody: Callable[[], None]) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    nobody()
    done = run(output, "--into", tmp_path / "locked" / "sorted")
    assert isinstance(done.exception, UsageError | FileError)
    assert f"`into` {tmp_path}/locked/sorted can't be used" in str(done.exception)
    assert list((tmp_path / "locked").iterdir()) == []


def test_images_that_may_not_be_read_are_named_and_the_others_are_copied(
    output: str, tmp_path: Path, nobody: Callable[[], None]
) -> None:
    (tmp_path / "in" / "rex.jpg").chmod(0)
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted").chmod(0o777)
    nobody()
    done = run(output, "--into", tmp_path / "sorted", "--link", "copy")
    assert done.exit_code == EXIT_FAILED, done.output
    assert "of them: 3 copied, 1 gone, 1 not readable\n" in done.stdout
    assert "flow-images: dog/rex.jpg: " in done.stderr
    assert sorted(path.name for path in (tmp_path / "sorted").glob("*/*")) == ["pug.jpg", "text.jpg", "tom.jpg"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"])
def test_it_stops_within_seconds_though_a_server_is_silent_and_is_continued(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with Web({f"/{name}.jpg": name.encode() for name in "ab"}) as web:
        images = [Image(f"{web.url}/{name}.jpg", [0.0, 1.0]) for name in ("a", "b", "silent")]
        words = ["sort", str(complete(tmp_path / "out", images, LABELS)), "--into", str(tmp_path / "sorted")]
        command = [sys.executable, "-m", "flow_images", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        while len(list(tmp_path.glob("sorted/dog/*"))) < 2 or "/silent.jpg" not in web.asked:
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == code
        assert said.rstrip().endswith("flow-images sort: interrupted; the same command continues")
        web.files["/silent.jpg"] = b"silent"
        done = run(*words[1:])
    assert done.exit_code == 0, done.output
    assert "of them: 1 copied, 2 there already\n" in done.stdout
    assert {path.name: path.read_text() for path in (tmp_path / "sorted" / "dog").iterdir()} == {
        "a.jpg": "a", "b.jpg": "b", "silent.jpg": "silent",
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "sorted").iterdir()) == [NAME, "dog"]
