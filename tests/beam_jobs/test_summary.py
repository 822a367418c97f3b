"""What a run found, counted."""

import itertools

from beam_jobs.prediction_rows import UNKNOWN, Answer
from beam_jobs.summary import Accuracy, Confusion, FaultCount, LabelCount, Summary, Tally, Unknown

_IMAGES = [("cat", 0.9, "cat"), ("cat", 0.5, "dog"), ("dog", 0.8, None), ("ant", 0.4, "dog"), ("cat", 0.7, "dog")]


def test_outcomes_are_counted_by_label_and_by_reason() -> None:
    for images in itertools.permutations(_IMAGES):
        tally = Tally()
        for label, score, true_label in images:
            tally.predicted(Answer(label, label, score), true_label)
        for reason, path in (("corrupt", "a.jpg"), ("missing", "b.jpg"), ("corrupt", "c.jpg")):
            tally.fault("rejected", reason, path)
        assert tally.summary() == Summary(
            labels=[
                LabelCount(label="cat", count=3, mean_score=0.7),
                LabelCount(label="ant", count=1, mean_score=0.4),
                LabelCount(label="dog", count=1, mean_score=0.8),
            ],
            faults=[
                FaultCount(verdict="rejected", reason="corrupt", count=2, example="a.jpg"),
                FaultCount(verdict="rejected", reason="missing", count=1, example="b.jpg"),
            ],
            accuracy=Accuracy(value=0.25, low=0.0456, high=0.6994, images=4),
            confusions=[
                Confusion(label="dog", taken_for="cat", count=2),
                Confusion(label="dog", taken_for="ant", count=1),
            ],
        )
    assert Tally().summary() == Summary()


def test_unknown_images_are_none_of_a_label_and_the_others_have_an_accuracy_of_their_own() -> None:
    tally = Tally(0.6)
    for label, score, true_label in _IMAGES:
        tally.predicted(Answer(UNKNOWN if score < 0.6 else label, label, score, score < 0.6), true_label)
    found = tally.summary()
    assert found.labels == [
        LabelCount(label="cat", count=2, mean_score=0.8),
        LabelCount(label="dog", count=1, mean_score=0.8),
    ]
    assert found.accuracy == Accuracy.of(1, 4)
    assert found.unknown == Unknown(threshold=0.6, count=2, accuracy=Accuracy.of(1, 2))


def test_labels_that_the_model_does_not_know_are_counted() -> None:
    tally = Tally(labels=["cat", "dog", "ant"])
    for label, true_label in (("cat", "cat"), ("dog", "wolf"), ("dog", "owl"), ("ant", None)):
        tally.predicted(Answer(label, label, 0.9), true_label)
    assert tally.summary().not_in_model == 2
    assert tally.summary().accuracy == Accuracy.of(1, 3)
