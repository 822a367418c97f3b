"""What a run found, on at most a screen: labels, faults, and how right it was where the right labels are known."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import pydantic

from beam_jobs.prediction_rows import Answer
from serving.client.accuracy import wilson

_CONFUSIONS = 10


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)


class LabelCount(_Frozen):
    """How many images have a label as their best one."""

    label: str
    count: int
    mean_score: float


class FaultCount(_Frozen):
    """How many images were rejected or failed for one reason."""

    verdict: str
    reason: str
    count: int
    example: str
    """The path of the first one."""


class Confusion(_Frozen):
    """How many images of one label were taken for another."""

    label: str
    taken_for: str
    count: int


class Accuracy(_Frozen):
    """The share of the labelled images whose best label is right, with its 95 % interval."""

    value: float
    low: float
    high: float
    images: int

    @classmethod
    def of(cls, correct: int, images: int) -> Self:
        """The accuracy of at least one image."""
        share = wilson(correct, images)
        return cls(value=round(share.value, 6), low=round(share.low, 4), high=round(share.high, 4), images=images)


class Unknown(_Frozen):
    """How many answers are below the threshold, and how right the others are."""

    threshold: float
    count: int
    accuracy: Accuracy | None = None
    """How right the answers are that are not below it; None where no right label is known."""


class Summary(_Frozen):
    """All of it, as run.json has it."""

    labels: list[LabelCount] = []
    """The most frequent first."""
    faults: list[FaultCount] = []
    """The most frequent first."""
    accuracy: Accuracy | None = None
    """That of the model's best label; None where no right label is known."""
    not_in_model: int = 0
    """Labelled images whose label the model doesn't have: none of them can be right."""
    unknown: Unknown | None = None
    """None where no threshold was set."""
    confusions: list[Confusion] = []
    """The ten most frequent."""


class Tally:
    """Counts outcomes for a summary."""

    def __init__(self, threshold: float = 0.0, labels: Sequence[str] | None = None) -> None:
        """Counts nothing yet.

        Args:
          threshold: of the answers; 0 for none.
          labels: the model's, if they are known.
        """
        self._threshold = threshold
        self._known = None if labels is None else frozenset(labels)
        self._not_in_model = 0
        self._unknown = self._sure = self._sure_correct = 0
        self._labels: Counter[str] = Counter()
        self._scores: dict[str, float] = {}
        self._faults: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self._confusions: Counter[tuple[str, str]] = Counter()
        self.labelled = 0
        """Predicted images whose right label is known."""
        self.correct = 0
        """How many of those have the right label as their best one."""

    def predicted(self, answer: Answer, true_label: str | None) -> None:
        """Counts an image by its answer; `true_label` is the right one, if it is known."""
        label = answer.model_label
        if answer.is_unknown:
            self._unknown += 1
        else:
            self._labels[label] += 1
            self._scores[label] = self._scores.get(label, 0.0) + answer.model_score
        if true_label is not None:
            self.labelled += 1
            self._not_in_model += self._known is not None and true_label not in self._known
            self.correct += label == true_label
            self._sure += not answer.is_unknown
            self._sure_correct += not answer.is_unknown and label == true_label
            if label != true_label:
                self._confusions[true_label, label] += 1

    def fault(self, verdict: str, reason: str, path: str) -> None:
        """Counts an image that was rejected or failed."""
        self._faults[verdict, reason] += 1
        self._examples.setdefault((verdict, reason), path)

    def summary(self) -> Summary:
        """What was counted."""
        return Summary(
            labels=[
                LabelCount(label=label, count=count, mean_score=round(self._scores[label] / count, 6))
                for label, count in _ordered(self._labels)
            ],
            faults=[
                FaultCount(verdict=key[0], reason=key[1], count=count, example=self._examples[key])
                for key, count in _ordered(self._faults)
            ],
            accuracy=Accuracy.of(self.correct, self.labelled) if self.labelled else None,
            not_in_model=self._not_in_model,
            unknown=self._summary_of_unknown() if self._threshold else None,
            confusions=[
                Confusion(label=label, taken_for=taken_for, count=count)
                for (label, taken_for), count in _ordered(self._confusions)[:_CONFUSIONS]
            ],
        )

    def _summary_of_unknown(self) -> Unknown:
        accuracy = Accuracy.of(self._sure_correct, self._sure) if self._sure else None
        return Unknown(threshold=self._threshold, count=self._unknown, accuracy=accuracy)


def _ordered(counts: Counter[Any]) -> list[tuple[Any, int]]:
    """The most frequent first; equal ones by name, whatever order they were counted in."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
