"""Planted wrong labels come first."""

import numpy as np
import pytest

from tests.trainer.test_head import blobs
from trainer.evaluation.mislabels import rank_labels
from trainer.head import HeadOptions
from trainer.head_search import out_of_fold
from trainer.images.labelled_images import LabelledImage

LABELS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("seed", range(5))
def test_planted_mislabels_are_in_the_first_fifth(seed: int) -> None:
    features, targets = blobs(400, 4, 8, seed=seed, spread=0.8)
    wrong = np.random.default_rng(seed).choice(400, 20, replace=False)
    given = targets.copy()
    given[wrong] = (given[wrong] + 1 + np.arange(20) % 3) % 4
    answers = out_of_fold(features, given, 4, HeadOptions(0.01, 0, 0), epochs=15, batch_size=32,
                          weights=np.ones(4, np.float32), seed=seed)  # fmt: skip
    images = [LabelledImage(str(row), LABELS[number]) for row, number in enumerate(given)]
    ranked = rank_labels(images, answers, LABELS)
    assert len(ranked) == 400
    first = {int(one.path) for one in ranked[:80]}
    assert len(first & set(wrong.tolist())) >= 16
    likely = {int(one.path) for one in ranked if one.is_likely}
    assert len(likely & set(wrong.tolist())) >= max(10, len(likely) / 2)  # few are accused that are right
    assert sum(LABELS[targets[int(one.path)]] == one.suggested for one in ranked[:10]) >= 8
