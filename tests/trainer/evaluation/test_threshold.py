"""A threshold keeps what it promises, or there is none."""

import numpy as np
import pytest

from trainer.evaluation.threshold import choose_threshold, measure_threshold


def two(scores: np.ndarray) -> np.ndarray:
    return np.column_stack([scores, 1 - scores])


def test_the_lowest_score_that_promises_enough_is_chosen() -> None:
    scores = np.linspace(0.999, 0.501, 200)
    targets = np.where(np.arange(200) < 150, 0, np.arange(200) % 2)  # the last 50 are right half of the time
    value = choose_threshold(two(scores), targets, 0.95)
    assert value is not None
    found = measure_threshold(two(scores), targets, value, 0.95)
    assert found.precision is not None
    assert found.precision >= 0.95
    assert found.coverage > 0.8
    one_lower = measure_threshold(two(scores), targets, scores[scores < value][1], 0.95)
    assert one_lower.precision is not None
    assert one_lower.precision < found.precision


@pytest.mark.parametrize(("count", "is_promised"), [(17, False), (18, True)])
def test_a_handful_of_right_answers_promises_nothing(count: int, is_promised: bool) -> None:
    value = choose_threshold(two(np.linspace(0.9, 0.8, count)), np.zeros(count, int), 0.95)
    assert (value is not None) == is_promised


def test_images_of_one_score_are_taken_together() -> None:
    scores = np.full(60, 0.9)
    assert choose_threshold(two(scores), np.array([0] * 40 + [1] * 20), 0.95) is None
    assert choose_threshold(two(scores[:0]), np.zeros(0, int), 0.95) is None


def test_what_is_promised_holds_on_new_images() -> None:
    kept = []
    for seed in range(200):
        chance = np.random.default_rng(seed)
        scores = chance.uniform(0.5, 1, (2, 100))
        targets = (chance.random((2, 100)) > scores).astype(int)  # a score of 0.8 is right in 80 of 100 cases
        value = choose_threshold(two(scores[0]), targets[0], 0.9)
        if value is not None:
            found = measure_threshold(two(scores[1]), targets[1], value, 0.9)
            if found.precision is not None:
                kept.append(found.precision)
    assert np.mean(kept) > 0.87
