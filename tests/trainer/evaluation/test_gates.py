"""A gate passes where its condition holds, and else says by which figures and images it failed."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from serving.errors import UsageError
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.gate_outcome import Gate
from trainer.evaluation.gates import InService, check_slices, judge
from trainer.evaluation.metrics import measure
from trainer.images.labelled_images import LabelledImage
from trainer.train_options import TrainJob

LABELS = ["a", "b"]


def evaluation(place_x: range = range(10)) -> Evaluation:
    """Of 40 images 30 are right: 0 to 17 of 20 a, 20 to 31 of 20 b."""
    right = [True] * 18 + [False] * 2 + [True] * 12 + [False] * 8
    images = [
        LabelledImage(f"{row}.jpg", LABELS[row // 20], None, (("place", "x" if row in place_x else "y"),))
        for row in range(40)
    ]
    numbers = [row // 20 if hit else 1 - row // 20 for row, hit in enumerate(right)]
    return measure(np.eye(2)[numbers] * 0.8 + 0.1, images, LABELS)


def one_gate(in_service: InService | None = None, control: float | None = None, **gates: Any) -> Gate:
    job = TrainJob(folder="x", model_store="m", name="n", **gates)
    (gate,) = judge(evaluation(), job, control_accuracy=control, in_service=in_service)
    return gate


def test_no_gate_is_asked_for_by_default() -> None:
    job = TrainJob(folder="x", model_store="m", name="n")
    assert judge(evaluation(), job, control_accuracy=None, in_service=None) == []


def test_accuracy() -> None:
    assert one_gate(min_accuracy=0.75).passed
    failed = one_gate(min_accuracy=0.76)
    assert not failed.passed
    assert failed.wanted == "at least 0.760"
    assert failed.found.startswith("0.750 (")
    assert len(failed.images) == 10
    assert "18.jpg" in failed.images


def test_lift_over_shuffled_labels() -> None:
    assert one_gate(min_lift=0.2, control=0.5).passed
    failed = one_gate(min_lift=0.2, control=0.6)
    assert (failed.passed, failed.found) == (False, "0.150: 0.750, and 0.600 with shuffled labels")


def compared(accuracy: float, new: float, images: int = 40) -> InService:
    return InService(version=3, images=images, left_out=2, accuracy=accuracy, new_accuracy=new, lost=("1.jpg",))


@pytest.mark.parametrize(("accuracy", "passed"), [(0.70, True), (0.77, True), (0.78, False)])
def test_regression_against_the_version_in_service(accuracy: float, passed: bool) -> None:
    gate = one_gate(in_service=compared(accuracy, 0.75), max_regression=0.02)
    assert gate.passed == passed
    assert gate.images == (() if passed else ("1.jpg",))
    assert f"{accuracy:.3f} of version 3, on 40 images; 2 are left out, because it was trained on them or" in gate.found


def test_without_a_version_in_service_nothing_can_be_worse() -> None:
    assert one_gate(max_regression=0.0).passed
    few = one_gate(in_service=compared(0.5, 0.9, images=9), max_regression=0.0)
    assert not few.passed
    assert "only 9 test images to compare on" in few.found


def test_slices() -> None:
    assert one_gate(min_slice_accuracy=0.6).passed
    failed = one_gate(min_slice_accuracy=0.65)
    assert not failed.passed
    assert failed.found.startswith("label 'b': 0.600 (")
    assert set(failed.images) == {f"{row}.jpg" for row in range(32, 40)}


def test_a_slice_of_a_column_names_its_images() -> None:
    job = TrainJob(folder="x", model_store="m", name="n", min_slice_accuracy=0.6)
    (failed,) = judge(evaluation(range(27, 39)), job, control_accuracy=None, in_service=None)
    assert not failed.passed
    assert failed.found.startswith("place 'x': 0.417 (")
    assert set(failed.images) == {f"{row}.jpg" for row in range(32, 39)}


def test_slices_that_are_too_small_are_told_before_training() -> None:
    images = [LabelledImage(f"{row}.jpg", LABELS[row % 2]) for row in range(18)]
    job = TrainJob(folder="x", model_store="m", name="n", min_slice_accuracy=0.5)
    with pytest.raises(UsageError, match="the largest has 9"):
        check_slices(images, job)
    check_slices(images, dataclasses.replace(job, min_slice_accuracy=None))
    check_slices([*images, LabelledImage("18.jpg", "a")], job)
