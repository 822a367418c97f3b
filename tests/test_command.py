"""The command `flow-images` as a process: help at hand, one line for a user's mistake, and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flow_images import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


def flow_images(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flow_images", *map(str, words)]
    wide = os.environ | {"COLUMNS": "300"}  # so that tables fold nothing
    return subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = flow_images(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: flow-images {command} ")


def test_the_commands_are_listed_without_being_loaded() -> None:
    done = flow_images("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if f"\n  {name} " in done.stdout] == list(COMMANDS)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        pytest.param(["prdict"], 2, "No such command 'prdict'", id="unknown command"),
        pytest.param(["predict"], 2, "Missing option '--input'", id="missing flag"),
        pytest.param(["classify", "x.jpg"], 2, "give either --server HOST:PORT, or --model", id="no server"),
        pytest.param(["classify", "x.jpg", "--model", "/nowhere"], 2, "--model /nowhere: no such folder", id="model"),
        pytest.param(["classify", "x.jpg", "--server", "localhost", "--model-name", "m"], 2, "expected HOST:PORT",
                     id="address"),
        pytest.param(["demo", "--images", "x"], 2, "--images needs --labels", id="demo"),
        pytest.param(["merge", "--output", "/nowhere/out"], 2, "--output /nowhere/out: no run in it", id="merge"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_no_traceback(words: list[str], code: int, says: str) -> None:
    done = flow_images(*words)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (
            ["predict", "--input", "x", "--output", "o", "--server", "h:1", "--model-name", "m"],
            "apache_beam",
            "predict",
        ),
        (["demo"], "tensorflow", "all"),
        (["deploy", "status"], "kubernetes", "k8s"),
    ],
)
def test_a_part_that_is_not_installed_is_named(words: list[str], module: str, extra: str, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {words}\nimport flow_images; flow_images.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"flow-images {words[0]}: {module} is not installed: pip install 'flow-images[{extra}" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_are_utf8_whatever_the_locale() -> None:
    foreign = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "flow_images", "merge", "--output", "/nowhere/é"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | foreign, capture_output=True, timeout=300, check=False)
    assert "--output /nowhere/é: no run in it" in done.stderr.decode()


def test_a_server_that_is_away_is_resumable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    done = flow_images("predict", "--input", tmp_path, "--output", tmp_path / "out", "--server", "127.0.0.1:1",
                       "--model-name", "m", "--patience", 0)  # fmt: skip
    assert done.returncode == 75
    assert "the same command continues" in done.stderr
    assert "Traceback" not in done.stderr


def test_classify_shows_each_picture_or_its_reason(model_store: Path, drawn: Path, tmp_path: Path) -> None:
    picture = sorted((drawn / "train").iterdir())[0]
    (tmp_path / "page.jpg").write_text("<html>")
    done = flow_images("classify", picture, tmp_path / "page.jpg", "--model", model_store, "--top-k", 2)
    assert done.returncode == 1, done.stderr
    assert str(picture) in done.stdout
    assert "the bytes are not a picture in any known format" in done.stdout


def test_the_demonstration_trains_serves_and_predicts(tmp_path: Path) -> None:
    done = flow_images("demo", "--output", tmp_path, "--epochs", 8)
    assert done.returncode == 0, done.stderr
    assert "they stand in for Kaggle's photos" in done.stdout
    assert "it stands in for a TF Hub URL" in done.stdout
    assert "WARNING" not in done.stderr  # its golden pictures tell every slip of preprocessing
    assert "30 listed = 30 predicted + 0 rejected + 0 failed" in done.stdout
    accuracy = float(done.stdout.rpartition("accuracy ")[2].split()[0])
    assert accuracy > 0.4  # of 6 classes: 0.17 by chance
