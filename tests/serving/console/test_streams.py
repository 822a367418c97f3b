"""The command as a process whose streams, locale or folders are not as one would wish: the run decides."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import MODEL_NAME
from tests.faults.jobs import rows

ROOT = Path(__file__).resolve().parents[3]


def flow_images(
    *words: object,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "flow_images", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment_with(environment or {}), stdout=stdout, stderr=stderr,
                          timeout=300, check=False)  # fmt: skip


def environment_with(values: Mapping[str, str]) -> dict[str, str]:
    return os.environ | {"COLUMNS": "300"} | dict(values)


@pytest.fixture(params=["closed pipe", "full disk"])
def lost(request: pytest.FixtureRequest) -> int:
    """A descriptor that nothing can be written to."""
    if request.param == "full disk":
        return os.open("/dev/full", os.O_WRONLY)
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.fixture
def good(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sorted((drawn / "train").iterdir())[0], tmp_path / "good.jpg"))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["predict", "--help"], 0),
        (["prdict"], 2),
        (["merge", "--output", "/x"], 2),
    ],
    ids=["help", "version", "predict", "unknown", "merge"],
)
def test_what_is_said_in_vain_changes_no_exit_code(words: list[str], code: int, lost: int) -> None:
    both = flow_images(*words, stdout=lost, stderr=lost)
    assert both.returncode == code
    shown = flow_images(*words, stdout=lost)
    assert shown.returncode == code
    assert b"Traceback" not in shown.stderr
    assert b"Exception ignored" not in shown.stderr


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_nor_does_it_of_the_drop_in_server(flag: str, lost: int) -> None:
    command = [sys.executable, "-m", "serving.server", flag]
    heard = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=300, check=False)
    unheard = subprocess.run(command, cwd=ROOT, stdout=lost, stderr=subprocess.PIPE, timeout=300, check=False)
    assert unheard.returncode == heard.returncode
    assert b"Traceback" not in unheard.stderr
    assert b"Exception ignored" not in unheard.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_message_reaches_the_terminal_with_control_codes(encoding: str) -> None:
    name = os.fsdecode("\x1b[2J犬\x9b".encode() + b"\xe9")
    for words in (["merge", "--output", name], [name], ["merge", "--output", "x", f"--{name}"]):
        done = flow_images(*words, environment={"PYTHONIOENCODING": encoding})
        assert done.returncode == 2
        assert rb"\x1b[2J" in done.stderr
        assert b"e9" in done.stderr  # as \xe9, or as repr shows it
        assert b"\x1b" not in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_run_is_complete_though_nobody_hears_of_it(server: str, good: Path, tmp_path: Path, lost: int) -> None:
    asked = ["--server", server, "--model-name", MODEL_NAME, "--wire", "encoded"]
    for words, code in (
        (["predict", "--input", good, "--output", tmp_path / "out", *asked], 0),
        (["merge", "--output", tmp_path / "out"], 0),
        (["classify", good, *asked], 0),
        (["classify", good, tmp_path / "none.jpg", *asked], 1),
    ):
        done = flow_images(*words, stdout=lost)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["predicted"] == 1


def test_streams_that_are_closed_from_the_start_are_no_error(server: str, good: Path, tmp_path: Path) -> None:
    words = ["predict", "--input", str(good), "--output", str(tmp_path / "out"), "--server", server, "--model-name",
             MODEL_NAME, "--wire", "encoded"]  # fmt: skip
    script = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "flow_images", *words], cwd=ROOT, timeout=300, check=False
    )
    assert done.returncode == 0
    assert len(rows(tmp_path / "out" / "predictions.csv")) == 1


def _latin1(folder: Path) -> dict[str, str]:
    """Variables of a Latin-1 locale, made for the purpose; of an ASCII one where the system can't make any."""
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / "en_US.ISO-8859-1"], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    if made:
        return {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1"}
    return {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_names_are_utf8_whatever_the_locale(server: str, good: Path, tmp_path: Path) -> None:
    folder, locale = tmp_path / "in", _latin1(tmp_path)
    folder.mkdir()
    shutil.copy(good, folder / "café.jpg")
    shutil.copy(good, folder / os.fsdecode(b"lat\xe9.jpg"))
    script = "import sys; print(sys.getfilesystemencoding())"
    unlike = subprocess.run(
        [sys.executable, "-c", script], env=environment_with(locale), capture_output=True, text=True
    )
    assert unlike.stdout.strip() != "utf-8"  # or this test would show nothing
    asked = ["--server", server, "--model-name", MODEL_NAME, "--wire", "encoded"]
    done = flow_images("predict", "--input", folder, "--output", tmp_path / "out", *asked, environment=locale)
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in rows(tmp_path / "out" / "predictions.csv")] == [f"{folder}/café.jpg"]
    assert [row["path"] for row in rows(tmp_path / "out" / "rejected.csv")] == [f"{folder}/lat\\xe9.jpg"]
    shown = flow_images("classify", *folder.iterdir(), *asked, environment=locale)
    assert "café.jpg" in shown.stdout.decode()
    assert r"lat\xe9.jpg" in shown.stdout.decode()
    assert shown.returncode == 1


def test_an_own_server_starts_whatever_lies_in_the_folder_and_however_long_tmpdir_is(
    model_store: Path, good: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for module in ("random", "json", "tensorflow", "grpc", "numpy", "serving"):
        (here / f"{module}.py").write_text("raise SystemExit('taken from the working directory')")
    long = tmp_path / ("l" * 100) / ("m" * 100)
    long.mkdir(parents=True)
    done = flow_images("classify", good, "--model", model_store, "--wire", "encoded", cwd=here,
                       environment={"PYTHONPATH": ":.", "TMPDIR": str(long)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"good.jpg" in done.stdout
    assert b"waiting" not in done.stderr
