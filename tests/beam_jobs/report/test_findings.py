"""What is counted, against a plain count."""

import math

import pytest

from beam_jobs.report.findings import Findings
from beam_jobs.result_files import Answer, Fault


def test_a_log_loss_needs_the_score_of_each_true_label() -> None:
    scored = [Answer("a", "cat", 0.8, "cat", 0.8), Answer("b", "cat", 0.6, "dog", 0.0), Answer("c", "cat", 0.9)]
    loss = Findings(scored, []).truth.log_loss
    assert loss == pytest.approx(-(math.log(0.8) + math.log(1e-15)) / 2)
    assert Findings([*scored, Answer("d", "cat", 0.6, "dog", None)], []).truth.log_loss is None


def test_the_most_confident_mistakes_come_first_and_no_right_answer_is_one() -> None:
    answers = [
        Answer(f"{number:02}", "cat", number / 100, "dog" if number % 2 else "cat", 0.1) for number in range(100)
    ]
    mistakes = Findings(answers, []).truth.mistakes
    assert [one.path for one in mistakes] == [f"{number:02}" for number in range(99, 99 - 48, -2)]


def test_recall_and_precision_are_of_the_images_with_a_true_label() -> None:
    answers = [
        Answer("a", "cat", 0.9, "cat"), Answer("b", "cat", 0.9, "dog"), Answer("c", "dog", 0.9, "dog"),
        Answer("d", "owl", 0.9, "dog"), Answer("e", "owl", 0.9),
    ]  # fmt: skip
    found = {one.label: (one.images, one.recall, one.precision) for one in Findings(answers, []).truth.labels}
    assert found == {"cat": (1, 1.0, 0.5), "dog": (3, pytest.approx(1 / 3), 1.0), "owl": (0, None, 0.0)}


def test_a_score_outside_0_and_1_is_in_the_first_or_the_last_bar() -> None:
    scores = [-0.5, 0.0, 0.05, 1.0, 7.5]
    histogram = Findings([Answer("a", "cat", score) for score in scores], []).histogram
    assert (histogram[0], histogram[1], histogram[-1], sum(histogram)) == (2, 1, 2, 5)


def test_reasons_are_counted_by_verdict_with_a_few_examples() -> None:
    faults = [Fault("rejected", f"{n}.jpg", "read", "missing", "") for n in range(20)]
    faults += [Fault("rejected", "x.jpg", "decode", "corrupt", ""), Fault("failed", "y.jpg", "read", "missing", "")]
    found = Findings([], faults)
    assert [(reason, images.count) for reason, images in found.reasons("rejected")] == [("missing", 20), ("corrupt", 1)]
    assert [(reason, images.count) for reason, images in found.reasons("failed")] == [("missing", 1)]
    assert len(found.reasons("rejected")[0][1].some) == 6
    assert (found.count("rejected"), found.count("failed")) == (21, 1)
