"""The columns and values of predictions."""

from pathlib import Path

import pytest

from beam_jobs.listing import Listed
from beam_jobs.manifest import Row
from beam_jobs.parts import Outcome
from beam_jobs.plan import OutputForms, Plan
from beam_jobs.prediction_rows import PredictionRows
from serving.contract import ModelContract, Preprocessing
from tests.beam_jobs.runs import planned

GROUPED = ModelContract(
    labels=["lion", "tiger", "wolf"],
    preprocessing=Preprocessing(height=8, width=8),
    groups={"lion": "cats", "tiger": "cats", "wolf": "dogs"},
)


def record(plan: Plan, forms: OutputForms, row: Row, outcome: Outcome) -> dict[str, object]:
    rows = PredictionRows(plan, forms)
    _, values = rows.answer_and_values(row, outcome)
    return dict(zip([column.name for column in rows.columns], values, strict=True))


def test_below_the_threshold_the_label_is_unknown_and_the_models_own_is_kept(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, [Listed("a.jpg", id="1", label="b")])
    row = Row("a.jpg", id="1", label="b")
    forms = OutputForms(threshold=0.7, top_k=2)
    assert record(plan, forms, row, Outcome(0, "predicted", [1, 0], [0.699999, 0.300001])) == {
        "path": "a.jpg",
        "label": "unknown",
        "score": None,
        "label_2": "a",
        "score_2": 0.300001,
        "model_label": "b",
        "model_score": 0.699999,
        "id": "1",
        "true_label": "b",
    }
    sure = record(plan, forms, row, Outcome(0, "predicted", [1, 0], [0.7, 0.3]))
    assert (sure["label"], sure["score"], sure["model_label"], sure["model_score"]) == ("b", 0.7, "b", 0.7)
    without = record(plan, OutputForms(top_k=2), row, Outcome(0, "predicted", [1, 0], [0.6, 0.4]))
    assert (without["label"], without["score"]) == ("b", 0.6)
    assert "model_label" not in without


@pytest.mark.parametrize(("threshold", "group"), [(0.0, "cats"), (0.8, "cats"), (0.95, "unknown")])
def test_a_group_is_known_where_its_labels_together_reach_the_threshold(
    tmp_path: Path, threshold: float, group: str
) -> None:
    _, plan = planned(tmp_path, [Listed("a.jpg")], GROUPED)
    outcome = Outcome(0, "predicted", [0, 1], [0.46, 0.44], group=("cats", 0.9))
    found = record(plan, OutputForms(threshold=threshold, top_k=2), Row("a.jpg"), outcome)
    assert (found["group"], found["group_score"]) == (group, 0.9)
    assert found["label"] == ("unknown" if threshold else "lion")


def test_of_all_scores_in_label_order_the_best_are_shown(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, [Listed("a.jpg")], GROUPED, top_k=0, format_="kaggle")
    outcome = Outcome(0, "predicted", [0, 1, 2], [0.25, 0.5, 0.25])
    found = record(plan, OutputForms(top_k=2), Row("a.jpg"), outcome)
    assert [found[name] for name in ("label", "score", "label_2", "score_2")] == ["tiger", 0.5, "lion", 0.25]


def test_a_model_may_have_a_label_unknown(tmp_path: Path) -> None:
    contract = GROUPED.model_copy(update={"labels": ["lion", "unknown"], "groups": None})
    _, plan = planned(tmp_path, [Listed("a.jpg")], contract)
    forms = OutputForms(threshold=0.7, top_k=1)
    unsure = record(plan, forms, Row("a.jpg"), Outcome(0, "predicted", [1, 0], [0.6, 0.4]))
    assert (unsure["label"], unsure["score"], unsure["model_label"]) == ("unknown", None, "unknown")
    sure = record(plan, forms, Row("a.jpg"), Outcome(0, "predicted", [1, 0], [0.8, 0.2]))
    assert (sure["label"], sure["score"], sure["model_label"]) == ("unknown", 0.8, "unknown")
    rows = PredictionRows(plan, forms)
    outcomes = [Outcome(0, "predicted", [1, 0], [score, 1 - score]) for score in (0.6, 0.8)]
    answers = [rows.answer_and_values(Row("a.jpg"), one)[0] for one in outcomes]
    assert [answer.is_unknown for answer in answers] == [True, False]
