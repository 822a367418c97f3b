"""What holds for a row by itself."""

from typing import Any

import pytest

from beam_jobs.check.row_rules import RowRules, columns_of, kaggle_problem
from serving.contract import ModelContract, Preprocessing

CONTRACT = ModelContract(
    labels=["lion", "tiger", "wolf"],
    preprocessing=Preprocessing(height=8, width=8),
    groups={"lion": "cats", "tiger": "cats", "wolf": "dogs"},
)
RIGHT: dict[str, Any] = {
    "path": "a.jpg", "label": "lion", "score": 0.7, "label_2": "wolf", "score_2": 0.2,
    "model_label": "lion", "model_score": 0.7, "group": "cats", "group_score": 0.8,
    "width": 3, "height": 4, "bytes": 5, "format": "JPEG", "taken": "2024-05-01T12:00:00+02:00", "sha256": "0" * 64,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"label": "unknown", "score": None, "model_score": 0.4},
        {"group": "unknown", "group_score": 0.45},
        {"group": "", "group_score": None},
        {"taken": None},
        {"taken": "2024-05-01T12:00:00"},
        {"score": 0.5, "model_score": 0.5},
    ],
    ids=range(7),
)
def test_a_row_that_a_run_writes_is_right(change: dict[str, Any]) -> None:
    assert RowRules(0.5, CONTRACT).problem(RIGHT | change) is None


@pytest.mark.parametrize(
    "change",
    [
        {"path": ""},
        {"score": None},
        {"label": "wolf"},
        {"label": "unknown", "score": None},
        {"model_score": 0.4},
        {"model_score": None},
        {"score": 1.7, "model_score": 1.7},
        {"label": "cow", "model_label": "cow"},
        {"label_2": "cow"},
        {"label_2": "lion"},
        {"score_2": 0.9},
        {"score_2": None},
        {"group": "cows"},
        {"group": "unknown"},
        {"group_score": 0.3},
        {"group_score": None},
        {"width": 0},
        {"bytes": None},
        {"format": "TIFF"},
        {"taken": "yesterday"},
        {"sha256": "0" * 63},
    ],
    ids=range(21),
)
def test_what_no_run_writes_is_found(change: dict[str, Any]) -> None:
    assert RowRules(0.5, CONTRACT).problem(RIGHT | change)


def test_the_columns_are_known_without_the_plan() -> None:
    names = [
        "path",
        "label",
        "score",
        "label_2",
        "score_2",
        "model_label",
        "model_score",
        "id",
        "true_label",
        "sha256",
        "width",
    ]
    assert [column.name for column in columns_of(names, 5, 0.5, ["sha256", "width"])] == names
    assert [column.name for column in columns_of([*names, "label_4"], 5, 0.0, [])] == [*names[:5], "id", "true_label"]


@pytest.mark.parametrize(
    ("values", "is_right"),
    [
        (["a", 0.5, 0.5], True),
        (["a", 0.333333, 0.666667], True),
        (["a", 0.5, 0.4], False),
        (["a", 1.5, -0.5], False),
        (["", 0.5, 0.5], False),
        (["a", 1.0, None], False),
    ],
    ids=range(6),
)
def test_a_row_of_kaggles_sums_to_one(values: list[Any], is_right: bool) -> None:
    assert (kaggle_problem(values) is None) == is_right
