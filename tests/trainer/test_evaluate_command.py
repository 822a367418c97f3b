"""`flow-images evaluate` measures a published or served model on new labelled images."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving.errors import UsageError
from tests.conftest import MODEL_NAME
from trainer.demo_data import draw_images
from trainer.evaluate_command import evaluate


def run(*words: object) -> Result:
    return CliRunner().invoke(evaluate, [str(word) for word in words])


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that no model has seen."""
    folder = tmp_path_factory.mktemp("new")
    draw_images(folder, per_class=4, seed=77)
    return folder


def test_a_server_is_measured(new: Path, server: str, tmp_path: Path) -> None:
    done = run("--server", server, "--model-name", MODEL_NAME, "--labels", new / "labels.csv", "--images",
               new / "train", "--output", tmp_path / "out")  # fmt: skip
    assert done.exception is None, done.output
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["images"] == 24
    assert found["accuracy"]["value"] > 0.4
    assert f"accuracy: {found['accuracy']['value']:.3f} of 24 images, " in done.output
    assert "a server doesn't tell which images its model was trained on" in done.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{found['accuracy']['value']:.1%}" in page
    assert "The images" in page


def test_labels_that_the_model_does_not_know_are_told(new: Path, server: str, tmp_path: Path) -> None:
    with (new / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "l.csv").open("w") as file:
        file.write(
            "id,breed\n"
            + "".join(f"{row['id']},{'poodle' if n == 3 else row['breed']}\n" for n, row in enumerate(rows))
        )
    done = run("--server", server, "--model-name", MODEL_NAME, "--labels", tmp_path / "l.csv", "--images",
               new / "train", "--output", tmp_path / "out")  # fmt: skip
    assert isinstance(done.exception, UsageError)
    assert "the model doesn't know 1 of the labels: 'poodle'; it knows 'checks'" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_wrong_usage_is_told_before_images_are_read(tmp_path: Path) -> None:
    for words, told in (
        (["--folder", "x"], "give either `server` HOST:PORT, or `model`"),
        (["--server", "a:1", "--model-name", "m"], "say where the images are"),
        (["--model", "/nowhere", "--folder", "x"], "`model` /nowhere: no such folder"),
    ):
        done = run(*words, "--output", tmp_path / "out")
        assert isinstance(done.exception, UsageError)
        assert told in str(done.exception)
