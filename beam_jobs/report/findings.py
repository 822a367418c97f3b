"""What a page tells of a run's answers and faults: counted in one pass, with a few images of each kind kept."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from beam_jobs.report.largest import Largest
from beam_jobs.result_files import Answer, Fault

BINS = 20
"""Bars of the histogram."""
_OF_A_LABEL, _UNSURE, _MISTAKES, _OF_A_REASON = 4, 12, 24, 6
"""How many images are kept."""
_TINY = 1e-15
"""A score that is not above 0 counts as this in the log loss, as Kaggle has it."""


class LabelImages:
    """The answers with one label."""

    def __init__(self) -> None:
        self.count = 0
        self._scores = 0.0
        # Twice as many: up to there all are shown, in one row.
        self._surest = Largest[Answer](2 * _OF_A_LABEL)
        self._unsurest = Largest[Answer](_OF_A_LABEL)

    def add(self, answer: Answer) -> None:
        """Counts an answer."""
        self.count += 1
        self._scores += answer.score
        self._surest.add(answer.score, answer.path, answer)
        self._unsurest.add(-answer.score, answer.path, answer)

    @property
    def mean_score(self) -> float:
        """How sure the model is of this label in the mean, 0..1."""
        return self._scores / self.count

    @property
    def has_few(self) -> bool:
        """Are all of its images among the surest ones?"""
        return self.count <= 2 * _OF_A_LABEL

    @property
    def surest(self) -> list[Answer]:
        """The images with the highest scores, the highest first; all of them if there are few."""
        return self._surest.items if self.has_few else self._surest.items[:_OF_A_LABEL]

    @property
    def unsurest(self) -> list[Answer]:
        """The images with the lowest scores, the lowest first; none if the surest ones are all there are."""
        return [] if self.has_few else self._unsurest.items


class ReasonImages:
    """The images that were rejected or failed for one reason."""

    def __init__(self) -> None:
        self.count = 0
        self._some = Largest[Fault](_OF_A_REASON)

    def add(self, fault: Fault) -> None:
        """Counts an image."""
        self.count += 1
        self._some.add(0, fault.path, fault)

    @property
    def some(self) -> list[Fault]:
        """A few of them, by chance."""
        return self._some.items


class TrueLabelCount(NamedTuple):
    """How the images of one true label were answered."""

    label: str
    images: int
    right: int
    predicted: int
    """Images with a true label that were taken for this one."""

    @property
    def recall(self) -> float | None:
        """The share of its images that were given this label; None where it has none."""
        return self.right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share of the images given this label that have it; None where none was."""
        return self.right / self.predicted if self.predicted else None


class Truth:
    """The answers about images whose true label is known."""

    def __init__(self) -> None:
        self.images = 0
        self.right = 0
        self.sure = self.sure_right = 0
        """Answers that are not unknown, and the right ones among them."""
        self.confusion: Counter[tuple[str, str]] = Counter()
        """Images by their true label and the label that they were given."""
        self._mistakes = Largest[Answer](_MISTAKES)
        self._loss = 0.0
        self._scored = 0

    def add(self, answer: Answer, *, is_unknown: bool = False) -> None:
        """Counts an answer, unless its true label isn't known."""
        if answer.true_label is None:
            return
        self.images += 1
        self.sure += not is_unknown
        self.sure_right += not is_unknown and answer.true_label == answer.label
        self.confusion[answer.true_label, answer.label] += 1
        if answer.true_label == answer.label:
            self.right += 1
        else:
            self._mistakes.add(answer.score, answer.path, answer)
        if answer.true_score is not None:
            self._scored += 1
            self._loss -= math.log(min(max(answer.true_score, _TINY), 1.0))

    def count_outside(self, labels: Sequence[str]) -> int:
        """How many images have a true label that is none of these."""
        known = set(labels)
        return sum(count for (label, _), count in self.confusion.items() if label not in known)

    @property
    def mistakes(self) -> list[Answer]:
        """The wrong answers with the highest scores, the highest first."""
        return self._mistakes.items

    @property
    def log_loss(self) -> float | None:
        """The mean negative logarithm of the true label's score; None unless the score of each one was written."""
        return self._loss / self._scored if self._scored == self.images else None

    @property
    def labels(self) -> list[TrueLabelCount]:
        """Each label that is a true one or was given to an image with a true one, by name."""
        images, predicted = Counter[str](), Counter[str]()
        for (true_label, label), count in self.confusion.items():
            images[true_label] += count
            predicted[label] += count
        return [
            TrueLabelCount(label, images[label], self.confusion[label, label], predicted[label])
            for label in sorted(images.keys() | predicted.keys())
        ]


class Findings:
    """All of it."""

    def __init__(self, answers: Iterable[Answer], faults: Iterable[Fault], threshold: float = 0.0) -> None:
        """Reads all answers and faults.

        Args:
          answers: of the images that were predicted.
          faults: the others.
          threshold: least score of an answer that is not unknown; 0 for none.
        """
        self.predicted = 0
        self.threshold = threshold
        self.unknown = LabelImages()
        """The answers with a score below the threshold, which are none of a label's."""
        self.histogram = [0] * BINS
        """Answers by their score, in equal steps from 0 to 1."""
        self.truth = Truth()
        self._labels: dict[str, LabelImages] = {}
        self._reasons: dict[tuple[str, str], ReasonImages] = {}
        self._unsurest = Largest[Answer](_UNSURE)
        for answer in answers:
            self._add(answer)
        for fault in faults:
            self._reasons.setdefault((fault.verdict, fault.reason), ReasonImages()).add(fault)

    def _add(self, answer: Answer) -> None:
        self.predicted += 1
        self.histogram[min(max(int(answer.score * BINS), 0), BINS - 1)] += 1
        is_unknown = answer.score < self.threshold
        images = self.unknown if is_unknown else self._labels.setdefault(answer.label, LabelImages())
        images.add(answer)
        self._unsurest.add(-answer.score, answer.path, answer)
        self.truth.add(answer, is_unknown=is_unknown)

    @property
    def labels(self) -> list[tuple[str, LabelImages]]:
        """The labels that were given, the most frequent first."""
        return sorted(self._labels.items(), key=lambda item: (-item[1].count, item[0]))

    @property
    def unsurest(self) -> Sequence[Answer]:
        """The answers with the lowest scores of all, the lowest first."""
        return self._unsurest.items

    def reasons(self, verdict: str) -> list[tuple[str, ReasonImages]]:
        """Why images were `rejected` or `failed`, the most frequent reason first."""
        found = [(reason, images) for (one, reason), images in self._reasons.items() if one == verdict]
        return sorted(found, key=lambda item: (-item[1].count, item[0]))

    def count(self, verdict: str) -> int:
        """How many images were `rejected` or `failed`."""
        return sum(images.count for _, images in self.reasons(verdict))
