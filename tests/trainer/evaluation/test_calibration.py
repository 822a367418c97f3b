"""The temperature that makes scores honest is found, and few images don't lead it astray."""

import numpy as np
import pytest

from trainer.evaluation.calibration import calibration_error, fit_temperature, measure_calibration, with_temperature


def answers(count: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are too sure (below 1) or not sure enough by a temperature, and labels drawn from honest ones."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(0, 2, (count, 5))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.array([chance.choice(5, p=row) for row in honest])
    return with_temperature(honest, 1 / temperature), targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    scores, targets = answers(3000, temperature)
    fitted = fit_temperature(scores, targets)
    assert fitted == pytest.approx(temperature, rel=0.1)
    after = with_temperature(scores, fitted)
    assert calibration_error(after, targets) < 0.03
    if temperature != 1:
        assert calibration_error(after, targets) < calibration_error(scores, targets) / 2
    measured = measure_calibration(after, targets, fitted)
    assert measured.error_before == pytest.approx(calibration_error(scores, targets), abs=1e-6)
    assert measured.error == pytest.approx(calibration_error(after, targets))


def test_it_is_the_expected_calibration_error() -> None:
    scores = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    targets = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    assert calibration_error(scores, targets) == pytest.approx(0.5 * abs(0.9 - 0.7) + 0.5 * abs(0.6 - 0.6))


def test_a_few_images_that_are_all_right_ask_for_little() -> None:
    scores = np.array([[0.7, 0.2, 0.1]] * 5)
    assert 0.5 < fit_temperature(scores, np.zeros(5, int)) < 1
    assert 1 < fit_temperature(scores, np.ones(5, int)) < 3
    assert fit_temperature(scores[:0], np.zeros(0, int)) == 1.0


def test_scores_of_zero_are_taken() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    fitted = fit_temperature(scores, np.array([0, 1, 1]))
    assert np.isfinite(with_temperature(scores, fitted)).all()
