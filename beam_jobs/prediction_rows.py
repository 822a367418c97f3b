"""The rows of predictions: the same columns and values in CSV, JSON Lines and Parquet.

An answer whose score is below the threshold is `unknown`; what the model said is in columns of its own then.
"""

import itertools
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple, TypeVar

from beam_jobs.manifest import Row
from beam_jobs.parts import Outcome
from beam_jobs.plan import OutputForms, Plan
from beam_jobs.table_files import Column, Value
from serving.client.scores import format_score
from serving.images.facts import NUMBERS

T = TypeVar("T")
UNKNOWN = "unknown"
"""The label of an answer, or of a group, whose score is below the threshold."""


class Answer(NamedTuple):
    """What is said of one image."""

    label: str
    """The model's best label, or `unknown`."""
    model_label: str
    """The model's best label."""
    model_score: float
    """The score of that label, as it is written."""
    is_unknown: bool = False
    """Is the score below the threshold? A model may have a label `unknown`, so the label alone doesn't tell."""


def prediction_columns(
    ranks: int,
    *,
    has_threshold: bool,
    has_groups: bool,
    has_ids: bool,
    has_labels: bool,
    facts: Sequence[str],
) -> list[Column]:
    """The columns of predictions, in their order.

    Args:
      ranks: how many labels each image has.
      has_threshold: may an answer be unknown?
      has_groups: has the model groups of labels?
      has_ids: have the inputs ids?
      has_labels: have they the right labels?
      facts: that are kept of each image.
    """
    columns = [Column("path", str)]
    for rank in ["", *(f"_{number}" for number in range(2, ranks + 1))]:
        columns += [Column(f"label{rank}", str), Column(f"score{rank}", float)]
    if has_threshold:
        columns += [Column("model_label", str), Column("model_score", float)]
    if has_groups:
        columns += [Column("group", str), Column("group_score", float)]
    columns += [Column("id", str)] * has_ids + [Column("true_label", str)] * has_labels
    return columns + [Column(fact, int if fact in NUMBERS else str) for fact in facts]


def further_ranks(names: Container[str]) -> list[str]:
    """`_2`, `_3` and so on, as far as a row has such labels, by the names of its columns."""
    return list(itertools.takewhile(lambda rank: f"label{rank}" in names, (f"_{n}" for n in itertools.count(2))))


def models_best(record: Mapping[str, T]) -> tuple[T, T]:
    """The model's best label and its score in a row by column, whether there is a threshold or not."""
    prefix = "model_" if "model_label" in record else ""
    return record[f"{prefix}label"], record[f"{prefix}score"]


class PredictionRows:
    """Makes rows of outcomes."""

    def __init__(self, plan: Plan, forms: OutputForms) -> None:
        """Makes rows of the run that is planned, with the threshold and number of ranks that `forms` has."""
        self._labels = plan.model.contract.labels
        self._threshold = forms.threshold
        self._ranks = min(forms.top_k, len(self._labels))
        self._are_in_label_order = plan.options.top_k == 0
        self._has_groups = plan.model.contract.groups is not None
        self._has_ids, self._has_labels = plan.manifest.has_ids, plan.manifest.has_labels
        self._facts = plan.options.columns

    @property
    def columns(self) -> list[Column]:
        """The columns, in their order."""
        return prediction_columns(
            self._ranks,
            has_threshold=bool(self._threshold),
            has_groups=self._has_groups,
            has_ids=self._has_ids,
            has_labels=self._has_labels,
            facts=self._facts,
        )

    def answer_and_values(self, row: Row, outcome: Outcome) -> tuple[Answer, list[Value]]:
        """What is said of a predicted image, and its row: a value for each column."""
        ranked = self._ranked(outcome)
        answer = self._answer(*ranked[0])
        values: list[Value] = [row.path, answer.label, None if answer.is_unknown else answer.model_score]
        for index, score in ranked[1:]:
            values += [self._labels[index], written(score)]
        if self._threshold:
            values += [answer.model_label, answer.model_score]
        if self._has_groups:
            values += self._group(outcome)
        values += [row.id] * self._has_ids + [row.label] * self._has_labels
        return answer, values + list(outcome.facts)

    def _ranked(self, outcome: Outcome) -> list[tuple[int, float]]:
        """Index and score of the best labels."""
        scores = zip(outcome.classes, outcome.scores, strict=True)
        if self._are_in_label_order:
            return sorted(scores, key=lambda one: (-one[1], one[0]))[: self._ranks]
        return list(scores)[: self._ranks]

    def _answer(self, index: int, score: float) -> Answer:
        label, score = self._labels[index], written(score)
        is_unknown = score < self._threshold
        return Answer(UNKNOWN if is_unknown else label, label, score, is_unknown)

    def _group(self, outcome: Outcome) -> Sequence[Value]:
        if outcome.group is None:  # by a release that knew no groups
            return [None, None]
        group, score = outcome.group
        return [UNKNOWN if written(score) < self._threshold else group, written(score)]


def written(score: float) -> float:
    """A score as each file has it."""
    return float(format_score(score))
