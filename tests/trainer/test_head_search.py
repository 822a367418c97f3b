"""The head's options are chosen on the training images alone."""

import numpy as np
import pytest

from serving.errors import FlowImagesError
from tests.trainer.test_head import blobs
from trainer.head import HeadOptions
from trainer.head_search import candidates, choose_head, out_of_fold
from trainer.train_options import TrainOptions

WEIGHTS = np.ones(4, np.float32)


def test_what_is_given_is_not_tried() -> None:
    assert len(candidates(TrainOptions())) == 12
    assert {one.learning_rate for one in candidates(TrainOptions(learning_rate=0.5))} == {0.5}
    given = TrainOptions(learning_rate=0.5, weight_decay=0.1, dropout=0)
    assert candidates(given) == [HeadOptions(0.5, 0.1, 0)]


def test_the_candidate_with_the_least_loss_is_chosen_and_repeats() -> None:
    features, targets = blobs(90, 4, 20, spread=2.0)
    choice = choose_head(features, targets, 4, TrainOptions(), WEIGHTS)
    losses = [one.log_loss for one in choice.candidates]
    assert losses == sorted(losses)
    assert choice.chosen == choice.candidates[0]
    assert {one.options for one in choice.candidates} == set(candidates(TrainOptions()))
    assert all(one.log_loss_spread > 0 for one in choice.candidates)
    assert choose_head(features, targets, 4, TrainOptions(), WEIGHTS) == choice


def test_many_images_are_sampled_by_class() -> None:
    features, targets = blobs(5000, 4, 3)
    assert 1990 <= choose_head(features, targets, 4, TrainOptions(dropout=0, weight_decay=0), WEIGHTS).images <= 2010


def test_features_that_are_no_numbers_are_told() -> None:
    features, targets = blobs(40, 4, 5)
    with pytest.raises(FlowImagesError, match="not a number with any `learning_rate` that was tried"):
        choose_head(features * np.float32(np.nan), targets, 4, TrainOptions(), WEIGHTS)


def test_each_image_is_judged_by_a_head_that_did_not_see_it() -> None:
    features, targets = blobs(60, 4, 80, spread=4.0)  # so many features that a head knows all that it saw by heart
    answers = out_of_fold(
        features, targets, 4, HeadOptions(0.03, 0, 0), epochs=30, batch_size=8, weights=WEIGHTS, seed=0
    )
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    shuffled = np.random.default_rng(0).permutation(targets)
    guesses = out_of_fold(
        features, shuffled, 4, HeadOptions(0.03, 0, 0), epochs=30, batch_size=8, weights=WEIGHTS, seed=0
    )
    assert (guesses.argmax(axis=1) == shuffled).mean() < 0.5  # of an image that it saw, it would know the wrong label
