"""What is printed of an evaluation: at most a screen, and no shares of a class that has an image or two."""

import numpy as np
import pytest

from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.metrics import measure
from trainer.evaluation_table import print_evaluation
from trainer.images.labelled_images import LabelledImage


def evaluation(classes: int, images: int, wrong: int, name: str = "class") -> Evaluation:
    """An evaluation with so many images a class; in the first `wrong` classes one is taken for the last class."""
    labels = [f"{name} {number:03}" for number in range(classes)]
    rows, there = [], []
    for number, label in enumerate(labels):
        for image in range(images):
            scores = np.full(classes, 0.1 / (classes - 1))
            scores[classes - 1 if number < wrong and image == 0 else number] = 0.9
            rows.append(scores)
            there.append(LabelledImage(f"{label}/{image}.jpg", label))
    return measure(np.array(rows), there, labels)


def test_many_classes_fit_on_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(evaluation(classes=120, images=6, wrong=40), "test images")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert lines[0] == "accuracy: 0.944 of 720 test images, 0.925 to 0.959 with 95 % confidence"
    assert "all images right in 80 of 120 classes" in lines
    assert sum(line.startswith(" class ") or line.startswith("class ") for line in lines) == 10
    assert lines[-1].startswith("most often confused: class 000 taken for class 119 (1), ")


def test_classes_of_one_image_are_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(evaluation(classes=25, images=1, wrong=3), "test images")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("; so few images say little")
    assert not [line for line in lines if "recall" in line]
    assert lines[-2] == "3 classes have wrong answers, but fewer than 5 images each"


def test_where_all_are_right_nothing_is_confused(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(evaluation(classes=3, images=6, wrong=0), "images")
    assert capsys.readouterr().out.splitlines()[-1] == "all images right in 3 of 3 classes"


def test_labels_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich's markup and emoji codes, in the table and in the line of what is confused."""
    print_evaluation(evaluation(classes=3, images=6, wrong=1, name="[red]pug :dog:"), "images")
    out = capsys.readouterr().out
    assert "\n [red]pug :dog: 000 " in out
    assert "most often confused: [red]pug :dog: 000 taken for [red]pug :dog: 002 (1)" in out
