"""`classify` tells of each file what `predict` would."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import flow_images as fi
from flow_images.classify_command import classify
from serving.client.scores import format_score
from tests.conftest import MODEL_NAME
from tests.terminal import on_terminal


@pytest.fixture
def image(drawn: Path) -> Path:
    return sorted((drawn / "train").iterdir())[0]


def run(server: str, *words: object) -> Result:
    asked = ["--server", server, "--model-name", MODEL_NAME, "--wire", "encoded"]
    return CliRunner().invoke(classify, [*map(str, words), *asked])


def test_every_kind_of_file_has_its_reason_and_hides_no_other(server: str, image: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty.jpg").touch()
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(10 * 2**30)
    (tmp_path / "page.jpg").write_text("<html>")
    latin = shutil.copy(image, tmp_path / os.fsdecode(b"lat\xe9.jpg"))
    acting = shutil.copy(image, tmp_path / "[red]:dog:\x1b[2J\n.jpg")
    expected = {
        tmp_path / "fifo": "not_a_file\ta folder or a device",
        tmp_path: "not_a_file\ta folder or a device",
        Path("/dev/zero"): "not_a_file\ta folder or a device",
        tmp_path / "none.jpg": "missing\tthere is no such file",
        tmp_path / "page.jpg" / "below.jpg": "missing\tthere is no such file",
        tmp_path / ("n" * 300): "missing\tthere is no such file",
        tmp_path / "empty.jpg": "empty\tthe file has no bytes",
        tmp_path / "huge.jpg": "too_large\t10,737,418,240 bytes, over the limit of 67,108,864",
        tmp_path / "page.jpg": "not_an_image\tthe bytes are not an image",
    }
    done = run(server, *expected, latin, acting, image)
    assert done.exit_code == 1, done.output
    lines = done.output.splitlines()
    assert len(lines) == len(expected) + 3
    for line, (path, reason) in zip(lines, expected.items(), strict=False):
        assert line.startswith(f"{path}\t\t\t{reason}")
    assert lines[-3].endswith("lat\\xe9.jpg\t\t\tbad_name\tthe file's name is not UTF-8: rename it")
    assert lines[-2].startswith(rf"{tmp_path}/[red]:dog:\x1b[2J\x0a.jpg" + "\t")
    assert lines[-1].startswith(f"{image}\t")
    assert "\x1b" not in done.output


def test_a_line_has_the_labels_and_scores_that_the_library_gives(server: str, image: Path) -> None:
    done = run(server, image, "--top-k", 2)
    with fi.Client(server, MODEL_NAME, top_k=2) as client:
        (first, second) = client.classify(image).top
    cells = [str(image), first.label, format_score(first.score), second.label, format_score(second.score)]
    assert done.output == "\t".join(cells) + "\n"


def test_json_is_an_object_an_image_whatever_its_name(server: str, image: Path, tmp_path: Path) -> None:
    acting = shutil.copy(image, tmp_path / "\x9b2J\u202e犬.jpg")
    latin = tmp_path / os.fsdecode(b"lat\xe9.jpg")
    latin.touch()
    done = run(server, acting, latin, tmp_path / "huge.jpg", "--json", "--max-image-bytes", 10**6)
    assert done.exit_code == 1
    assert done.output.isascii()
    found = [json.loads(line) for line in done.output.splitlines()]
    with fi.Client(server, MODEL_NAME) as client:
        assert found == [one.as_dict() for one in client.classify([acting, latin, tmp_path / "huge.jpg"])]
    assert [one["verdict"] for one in found] == ["predicted", "rejected", "rejected"]


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_it_is_a_table(server: str, image: Path, tmp_path: Path, columns: int) -> None:
    _, screen, _ = on_terminal(columns, "classify", image, tmp_path / "none.jpg", "--server", server,
                         "--model-name", MODEL_NAME, "--wire", "encoded", "--top-k", 3)  # fmt: skip
    assert screen[0] == f"{MODEL_NAME}, wire encoded"
    assert [word for word in screen[2].split() if word.isalpha()] == ["image", "label", "score"]
    shown = "\n".join(screen)
    assert "missing: there is no" in shown
    with fi.Client(server, MODEL_NAME, top_k=3) as client:
        for label, score in client.classify(image).top:
            assert re.search(rf"│ {label} +│ {re.escape(format_score(score))} +│", shown)


def test_more_classes_than_there_are_means_all(server: str, image: Path) -> None:
    done = run(server, image, "--top-k", 1_000_000)
    assert done.exit_code == 0, done.output
    for label in ("checks", "clouds", "dots", "rings", "stripes", "waves"):
        assert label in done.output


def test_a_limit_is_a_flag_of_this_command(server: str, image: Path) -> None:
    done = run(server, image, "--max-image-bytes", 10)
    assert done.exit_code == 1
    assert "over the limit of 10 bytes (--max-image-bytes)" in done.output
