"""What a person sees of a run: on a terminal of two widths, and in a log."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODEL_NAME
from tests.hostile import noisy_jpeg
from tests.terminal import ROOT, on_terminal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "environment"), [(80, {}), (200, {}), (80, {"NO_COLOR": "1"}), (80, {"TERM": "dumb"})], ids=str
)
def test_a_terminal_shows_the_account_and_no_control_codes(
    server: str, drawn: Path, tmp_path: Path, columns: int, environment: dict[str, str]
) -> None:
    code, screen, written = on_terminal(
        columns, "predict", "--input", drawn / "train", "--output", "out", "--server", server,
        "--model-name", MODEL_NAME, "--wire", "encoded", folder=tmp_path, **environment,
    )  # fmt: skip
    assert code == 0, screen
    assert screen[0] == "48 listed = 48 predicted + 0 rejected + 0 failed"  # the bar has gone
    assert screen[1].startswith(f"{MODEL_NAME} version 1: 48 images in ")
    assert screen[2].split() == ["label", "images", "mean", "score"]
    assert screen[-1] == "predictions: out/predictions.csv"
    assert len(screen) < 25
    assert not [line for line in screen if "\\x1b" in line or "[1m" in line]
    if "TERM" not in environment:
        assert b"predicting" in written
    else:
        assert b"\x1b" not in written


@pytest.mark.slow
def test_a_terminal_shows_nothing_that_decoders_say_of_damaged_images(server: str, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, path in enumerate(sorted((drawn / "train").iterdir())[:8]):
        data = path.read_bytes()
        (folder / path.name).write_bytes(data[: len(data) * 2 // 3] if number % 2 else noisy_jpeg(data))
    code, screen, written = on_terminal(
        120, "predict", "--input", folder, "--output", "out", "--server", server, "--model-name",
        MODEL_NAME, "--wire", "float32", "--max-rejected", "4", folder=tmp_path,
    )  # fmt: skip
    assert code == 0, screen
    assert screen[0] == "8 listed = 4 predicted + 4 rejected + 0 failed"
    assert [line for line in screen if line.startswith("rejected: 4 corrupt, such as ")]
    for noise in (b"Corrupt JPEG", b".cc:", b"0000 00:00"):
        assert noise not in written


def test_the_screen_of_a_command_in_a_pod_is_lines(server: str, drawn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flow_images", "predict", "--input", str(drawn / "train"), "--server", server,
               "--model-name", MODEL_NAME, "--wire", "encoded"]  # fmt: skip
    done, quiet = (
        subprocess.run([*command, "--output", str(tmp_path / name), *more], cwd=ROOT, capture_output=True, text=True)
        for name, more in (("out", []), ("quiet", ["--quiet"]))
    )
    lines = done.stderr.splitlines()
    assert lines[0] == f"flow-images: asking {server}"
    assert lines[1].startswith("flow-images: checking 16 golden images")
    assert f"predicting 48 images of {drawn / 'train'} with version" in lines[3]
    assert quiet.stderr == ""
    *account, path = quiet.stdout.splitlines()
    assert path == f"predictions: {tmp_path / 'quiet' / 'predictions.csv'}"
    timeless = [line for line in account if " a second" not in line]
    assert timeless == [line for line in done.stdout.splitlines()[:-1] if " a second" not in line]
