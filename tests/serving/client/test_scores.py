"""Scores: never 0 by formatting, read back by every reader of CSVs, ranked as they are kept."""

import csv
import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client.scores import activate, format_score, round_scores

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, "0.000000"), (-0.0, "0.000000"), (1.0, "1.000000"), (0.7310585786, "0.731059"), (0.001, "0.001000"),
        (0.0123456789, "0.012346"), (0.000999999499, "0.000999999"), (0.0001234567, "0.000123457"), (8e-9, "8e-09"),
        (1.17549435e-38, "1.17549e-38"), (5e-324, "4.94066e-324"), (-7.6, "-7.600000"), (-8e-9, "-8e-09"),
    ],
)  # fmt: skip
def test_a_score_is_written_with_the_digits_that_matter(score: float, text: str) -> None:
    assert format_score(float(round_scores(np.array([score]))[0])) == text


@given(finite)
def test_a_written_score_is_near_the_models_and_0_only_for_0(score: float) -> None:
    rounded = float(round_scores(np.array([score]))[0])
    assert rounded == pytest.approx(score, rel=5.0001e-6 if abs(score) > 1e-300 else 0)
    text = format_score(rounded)
    found = float(next(csv.reader(io.StringIO(text)))[0])
    assert (found == 0) == (score == 0)
    assert found == pytest.approx(score, rel=5.1e-4)


@given(st.lists(finite, min_size=2, max_size=9))
def test_rounding_keeps_the_order(scores: list[float]) -> None:
    ascending = round_scores(np.sort(np.array(scores)))
    assert (np.diff(ascending) >= 0).all() or not np.isfinite(np.diff(ascending)).all()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=9))
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_probability_of_finite_outputs_is_never_0(activation: str, logits: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = activate(np.array([logits], np.float32), activation)[0]  # type: ignore[arg-type]
    assert ((found > 0) & (found <= 1)).all()
    assert activation == "sigmoid" or found.sum() == pytest.approx(1)
    assert found[np.argmax(logits)] == found.max()
    assert (found.astype(np.float32) > 0).all()  # whoever reads it in single precision


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_no_number_stays_none(activation: str) -> None:
    assert np.isnan(activate(np.array([[np.nan, 1.0]]), activation)).any()  # type: ignore[arg-type]


def test_logits_become_what_tensorflow_makes_of_them() -> None:
    import tensorflow as tf

    logits = np.random.default_rng(0).normal(scale=5, size=(4, 7)).astype(np.float32)
    np.testing.assert_allclose(activate(logits, "softmax"), tf.nn.softmax(logits), rtol=1e-5)
    np.testing.assert_allclose(activate(logits, "sigmoid"), tf.sigmoid(logits), rtol=1e-5)
    assert activate(logits, None) is logits
