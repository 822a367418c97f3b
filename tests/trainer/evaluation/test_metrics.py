"""Figures of an evaluation, against values that were worked out by hand."""

import math

import numpy as np
import pytest

from trainer.evaluation.metrics import measure
from trainer.images.labelled_images import LabelledImage

LABELS = ["a", "b", "c", "d", "e", "f", "g"]


def image(number: int, label: str, **columns: str) -> LabelledImage:
    return LabelledImage(f"{number}.jpg", label, None, tuple(columns.items()))


def scores(*best: tuple[int, float]) -> np.ndarray:
    """Rows with a score for one class, and the rest shared by the others."""
    rows = np.empty((len(best), len(LABELS)))
    for row, (number, score) in zip(rows, best, strict=True):
        row[:] = (1 - score) / (len(LABELS) - 1)
        row[number] = score
    return rows


IMAGES = [image(0, "a", place="in"), image(1, "a", place="out"), image(2, "b", place="in"), image(3, "c", place="in")]
SCORES = scores((0, 0.9), (1, 0.8), (1, 0.7), (1, 0.6))  # right, wrong, right, wrong


def test_figures_by_hand() -> None:
    found = measure(SCORES, IMAGES, LABELS)
    assert (found.images, found.accuracy.value) == (4, 0.5)
    losses = [-math.log(0.9), -math.log(0.2 / 6), -math.log(0.7), -math.log(0.4 / 6)]
    assert found.log_loss.value == pytest.approx(sum(losses) / 4)
    # F1: a: 2 * 1 / (2 + 1); b: 2 * 1 / (1 + 3); c: 0; the others have no images.
    assert found.macro_f1.value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    a, b, c, d = found.classes[:4]
    assert (a.images, a.predicted, a.right, a.precision, a.recall) == (2, 1, 1, 1.0, 0.5)
    assert (b.images, b.predicted, b.right, b.recall) == (1, 3, 1, 1.0)
    assert b.precision == pytest.approx(1 / 3)
    assert (c.precision, c.recall) == (None, 0.0)
    assert (d.images, d.precision, d.recall) == (0, None, None)
    assert found.confusion[0] == (1, 1, 0, 0, 0, 0, 0)
    assert found.confusion[2] == (0, 1, 0, 0, 0, 0, 0)
    assert [(one.path, one.predicted) for one in found.mistakes] == [("1.jpg", "b"), ("3.jpg", "b")]


def test_the_label_may_be_among_the_best_five() -> None:
    rows = np.tile(np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]), (2, 1))
    found = measure(rows, [image(0, "e"), image(1, "f")], LABELS)
    assert (found.accuracy.value, found.top_5.value) == (0.0, 0.5)


def test_slices_are_classes_and_columns_with_few_values() -> None:
    images = [one._replace(columns=(*one.columns, ("id", one.path))) for one in IMAGES * 20]
    images = [one._replace(columns=(one.columns[0], ("id", str(place)))) for place, one in enumerate(images)]
    found = {(one.column, one.value): one for one in measure(np.tile(SCORES, (20, 1)), images, LABELS).slices}
    assert set(found) == {("label", "a"), ("label", "b"), ("label", "c"), ("place", "in"), ("place", "out")}
    assert found["place", "in"].images == 60
    assert found["place", "in"].accuracy.value == pytest.approx(2 / 3)
    assert found["place", "out"].accuracy.value == 0


def test_intervals_are_those_of_the_binomial_distribution() -> None:
    chance = np.random.default_rng(0)
    best = [(0, 0.9) if chance.random() < 0.8 else (1, 0.9) for _ in range(400)]
    found = measure(scores(*best), [image(number, "a") for number in range(400)], LABELS)
    share = found.accuracy.value
    half = 1.96 * math.sqrt(share * (1 - share) / 400)
    assert found.accuracy.low == pytest.approx(share - half, abs=0.01)
    assert found.accuracy.high == pytest.approx(share + half, abs=0.01)
    for estimate in (found.log_loss, found.macro_f1, found.top_5):
        assert estimate.low <= estimate.value <= estimate.high
    assert measure(scores(*best), [image(number, "a") for number in range(400)], LABELS) == found


def test_a_few_images_that_are_all_right_prove_little() -> None:
    found = measure(scores(*[(0, 0.9)] * 25), [image(number, "a") for number in range(25)], LABELS)
    assert (found.accuracy.value, found.accuracy.high) == (1.0, 1.0)
    assert found.accuracy.low == pytest.approx(0.867, abs=0.001)  # Wilson's interval of 25 of 25
    none = measure(scores(*[(1, 0.9)] * 25), [image(number, "a") for number in range(25)], LABELS)
    assert none.accuracy.high == pytest.approx(0.133, abs=0.001)
