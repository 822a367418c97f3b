"""What a person sees of a run: on a terminal of two widths, and in a log."""

import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path

import pyte
import pytest

from tests.conftest import MODEL_NAME
from tests.hostile import noisy_jpeg

ROOT = Path(__file__).resolve().parents[2]


def on_terminal(columns: int, folder: Path, *arguments: str, **environment: str) -> tuple[int, list[str], bytes]:
    """The exit code of a command, the lines of the screen at its end, and all bytes that it wrote."""
    main, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    plain: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flow_images", *arguments], stdin=side, stdout=side, stderr=side, close_fds=True,
        cwd=folder, env={**plain, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    os.close(side)
    written = bytearray()
    while select.select([main], [], [], 300)[0]:
        try:
            data = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        written += data
    os.close(main)
    screen = pyte.Screen(columns, 50)
    pyte.ByteStream(screen).feed(bytes(written))
    return process.wait(), [line.rstrip() for line in screen.display if line.strip()], bytes(written)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "environment"), [(80, {}), (200, {}), (80, {"NO_COLOR": "1"}), (80, {"TERM": "dumb"})], ids=str
)
def test_a_terminal_shows_the_account_and_no_control_codes(
    server: str, drawn: Path, tmp_path: Path, columns: int, environment: dict[str, str]
) -> None:
    code, screen, written = on_terminal(
        columns, tmp_path, "predict", "--input", str(drawn / "train"), "--output", "out", "--server", server,
        "--model-name", MODEL_NAME, "--wire", "encoded", **environment,
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
        120, tmp_path, "predict", "--input", str(folder), "--output", "out", "--server", server, "--model-name",
        MODEL_NAME, "--wire", "float32", "--max-rejected", "4",
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
