"""What holds for the columns and values of predictions, whatever the images are."""

import datetime
import re
from collections.abc import Mapping, Sequence

from beam_jobs.prediction_rows import UNKNOWN, further_ranks, models_best, prediction_columns
from beam_jobs.table_files import Column, Value
from serving.contract import ModelContract
from serving.images.facts import FACTS, NUMBERS
from serving.images.header import FORMATS

_SLACK = 1e-3
"""Arithmetic may take a score this much below 0 or above 1."""
_SUM_SLACK = 1e-2
"""The same for a sum of scores."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def columns_of(names: Sequence[str], top_k: int, threshold: float, facts: Sequence[str]) -> list[Column]:
    """The columns that a file of these names must have, in their order, where the run's plan is gone.

    Args:
      names: as the file has them. They tell how many labels the model has, and what the inputs had.
      top_k: of the run.
      threshold: of the run.
      facts: that the run was asked for.
    """
    return prediction_columns(
        1 + min(len(further_ranks(names)), top_k - 1),
        has_threshold=bool(threshold),
        has_groups="group" in names,
        has_ids="id" in names,
        has_labels="true_label" in names,
        facts=facts,
    )


class RowRules:
    """Checks one row at a time."""

    def __init__(self, threshold: float, contract: ModelContract | None) -> None:
        """Rules for a threshold, 0 for none, and for the labels of a model, if they are known."""
        self._threshold = threshold
        self._labels = set(contract.labels) if contract else None
        self._groups = set(contract.groups.values()) if contract and contract.groups else None

    def problem(self, record: Mapping[str, Value]) -> str | None:
        """What is wrong with a row; None if nothing is."""
        if not record["path"]:
            return "it has no path"
        return self._ranks(record) or self._group(record) or _facts(record)

    def _ranks(self, record: Mapping[str, Value]) -> str | None:
        label, score = record["label"], record["score"]
        best, best_score = models_best(record)
        if self._threshold:
            is_unknown = isinstance(best_score, float) and best_score < self._threshold
            expected = (UNKNOWN, None) if is_unknown else (best, best_score)
            if is_unknown and label != UNKNOWN:
                return f"label is {label!r}, and {best_score} is below the threshold {self._threshold}"
            if (label, score) != expected:
                return f"label and score are {label!r} and {score}, and the model's are {best!r} and {best_score}"
        ranks = further_ranks(record)
        labels = [best, *(record[f"label{rank}"] for rank in ranks)]
        scores = [best_score, *(record[f"score{rank}"] for rank in ranks)]
        for one, value in zip(labels, scores, strict=True):
            if not isinstance(value, float) or not -_SLACK <= value <= 1 + _SLACK:
                return f"the score of {one!r} is {'missing' if value is None else value}"
            if self._labels is not None and one not in self._labels:
                return f"{one!r} is no label of the model"
        if len(set(labels)) < len(labels):
            return "a label is there twice"
        numbers = [value for value in scores if isinstance(value, float)]
        if numbers != sorted(numbers, reverse=True):
            return "its scores are not in descending order"
        return None

    def _group(self, record: Mapping[str, Value]) -> str | None:
        group, score = record.get("group"), record.get("group_score")
        if group in (None, "") and score is None:
            return None
        if not isinstance(score, float) or not -_SUM_SLACK <= score <= 1 + _SUM_SLACK:
            return f"the score of the group {group!r} is {'missing' if score is None else score}"
        if score < self._threshold:
            return None if group == UNKNOWN else f"group is {group!r}, and {score} is below the threshold"
        if self._groups is not None and group not in self._groups:
            return f"{group!r} is no group of the model"
        return None


def _facts(record: Mapping[str, Value]) -> str | None:
    for name in (fact for fact in FACTS if fact in NUMBERS):
        if name in record and not (isinstance(value := record[name], int) and value > 0):
            return f"{name} is {value}"
    if "format" in record and record["format"] not in FORMATS:
        return f"format is {record['format']!r}"
    if "sha256" in record and not _SHA256.fullmatch(str(record["sha256"])):
        return f"sha256 is {record['sha256']!r}"
    if taken := record.get("taken"):
        try:
            datetime.datetime.fromisoformat(str(taken))
        except ValueError:
            return f"taken is {taken!r}"
    return None


def kaggle_problem(values: Sequence[Value]) -> str | None:
    """What is wrong with a row of Kaggle's form, which has an id and the score of each label; None if nothing is."""
    identifier, *scores = values
    numbers = [score for score in scores if isinstance(score, float)]
    if not identifier or len(numbers) < len(scores):
        return "it lacks an id or a score"
    if not all(-_SLACK <= number <= 1 + _SLACK for number in numbers):
        return "a score is not in 0 to 1"
    if abs(sum(numbers) - 1) > _SUM_SLACK:
        return f"its scores sum to {sum(numbers):.6g}, and not to 1"
    return None
