"""`classify` tells of each file what `predict` would."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flow_images.classify_command import classify
from tests.conftest import MODEL_NAME


@pytest.fixture
def image(drawn: Path) -> Path:
    return sorted((drawn / "train").iterdir())[0]


def run(server: str, *words: object) -> Result:
    asked = ["--server", server, "--model-name", MODEL_NAME, "--wire", "encoded"]
    return CliRunner(env={"COLUMNS": "600"}).invoke(classify, [*map(str, words), *asked])


def test_every_kind_of_file_has_its_reason_and_hides_no_other(server: str, image: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty.jpg").touch()
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(10 * 2**30)
    (tmp_path / "page.jpg").write_text("<html>")
    latin = shutil.copy(image, tmp_path / os.fsdecode(b"lat\xe9.jpg"))
    acting = shutil.copy(image, tmp_path / "[red]:dog:\x1b[2J\n.jpg")
    expected = {
        tmp_path / "fifo": "not_a_file: a folder or a device",
        tmp_path: "not_a_file: a folder or a device",
        Path("/dev/zero"): "not_a_file: a folder or a device",
        tmp_path / "none.jpg": "missing: there is no such file",
        tmp_path / "page.jpg" / "below.jpg": "missing: there is no such file",
        tmp_path / ("n" * 300): "missing: there is no such file",
        tmp_path / "empty.jpg": "empty: the file has no bytes",
        tmp_path / "huge.jpg": "too_large: 10,737,418,240 bytes, over the limit of 67,108,864",
        tmp_path / "page.jpg": "not_an_image: the bytes are not an image",
    }
    done = run(server, *expected, latin, acting, image)
    assert done.exit_code == 1, done.output
    lines = done.output.splitlines()
    for path, reason in expected.items():
        assert [line for line in lines if f" {path} " in line and reason in line], f"{path}: {done.output}"
    assert [line for line in lines if r"lat\xe9.jpg" in line and "bad_name: the file's name is not UTF-8" in line]
    assert r"[red]:dog:\x1b[2J\x0a.jpg" in done.output
    assert str(image) in done.output
    assert "\x1b" not in done.output


def test_more_classes_than_there_are_means_all(server: str, image: Path) -> None:
    done = run(server, image, "--top-k", 1_000_000)
    assert done.exit_code == 0, done.output
    for label in ("checks", "clouds", "dots", "rings", "stripes", "waves"):
        assert label in done.output


def test_a_limit_is_a_flag_of_this_command(server: str, image: Path) -> None:
    done = run(server, image, "--max-image-bytes", 10)
    assert done.exit_code == 1
    assert "over the limit of 10 bytes (--max-image-bytes)" in done.output
