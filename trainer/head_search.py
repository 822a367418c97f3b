"""Chooses how the head is trained by cross-validation on the training images' features, which costs seconds."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from serving.errors import FlowImagesError
from trainer.head import HeadOptions, HeadTraining, accuracy, log_loss
from trainer.train_options import TrainOptions

Array = np.ndarray[Any, np.dtype[Any]]

_RATES, _DECAYS, _DROPOUTS = (1e-3, 3e-3, 1e-2), (0.0, 0.3), (0.0, 0.4)
_FOLDS = 3
_OUT_OF_FOLD = 5
_WEIGHT_STEPS = 1.5e9
"""Weights of all heads times steps that a search may take: about twenty seconds on two cores."""
_MOST_EPOCHS, _FEWEST_EPOCHS = 60, 5
_ROWS = 2000
"""Images that a search looks at, of each class in proportion; more change its choice little, and take longer."""


class Candidate(NamedTuple):
    """Options that were tried, and what the folds said."""

    options: HeadOptions
    log_loss: float
    """Mean over the folds, of the epoch at which that is least."""
    log_loss_spread: float
    """Standard deviation over the folds."""
    accuracy: float
    accuracy_spread: float
    epochs: int
    """That epoch."""


class HeadChoice(NamedTuple):
    """The candidate with the least log loss, and all of them, the best first. None were tried where all is given."""

    chosen: Candidate
    candidates: list[Candidate]
    folds: int
    images: int
    """How many the search looked at."""


def candidates(options: TrainOptions) -> list[HeadOptions]:
    """The grid: what the user has not given is tried."""

    def tried(given: float | None, grid: tuple[float, ...]) -> tuple[float, ...]:
        return grid if given is None else (given,)

    return [
        HeadOptions(*values)
        for values in itertools.product(
            tried(options.learning_rate, _RATES),
            tried(options.weight_decay, _DECAYS),
            tried(options.dropout, _DROPOUTS),
        )
    ]


def choose_head(
    features: Array,
    targets: Array,
    classes: int,
    options: TrainOptions,
    weights: Array,
    on_epoch: Callable[[], None] = lambda: None,
) -> HeadChoice:
    """Tries each candidate on the folds of the training images.

    Args:
      features: float32 [n, features], of training images only.
      targets: int [n], the classes' numbers.
      classes: how many there are.
      options: what the user has given is not tried.
      weights: float32 [classes], of each class in the loss.
      on_epoch: called after each epoch of each fold.

    Raises:
      FlowImagesError: the loss is not a number with any candidate.
    """
    tried = candidates(options)
    rows = _sample(targets, _ROWS, options.seed)
    features, targets = features[rows], targets[rows]
    steps = math.ceil(len(targets) * (_FOLDS - 1) / _FOLDS / options.batch_size)
    weight_steps = features.shape[1] * classes * len(tried) * _FOLDS * steps
    epochs = min(
        options.epochs or _MOST_EPOCHS, max(_FEWEST_EPOCHS, min(_MOST_EPOCHS, int(_WEIGHT_STEPS / weight_steps)))
    )
    losses = np.full((_FOLDS, epochs, len(tried)), np.nan)
    rights = losses.copy()
    for fold, (inside, outside) in enumerate(_folds(targets, _FOLDS, options.seed)):
        training = HeadTraining(features[inside], targets[inside], classes, tried, batch_size=options.batch_size,
                                weights=weights, seed=options.seed)  # fmt: skip
        for epoch in range(epochs):
            training.epoch()
            on_epoch()
            answers = [head.probabilities(features[outside]) for head in training.heads()]
            losses[fold, epoch] = [log_loss(answer, targets[outside]) for answer in answers]
            rights[fold, epoch] = [accuracy(answer, targets[outside]) for answer in answers]
    means = np.where(np.isfinite(losses).all(axis=0), losses.mean(axis=0), np.inf)
    best = means.argmin(axis=0)
    found = [
        Candidate(head, float(means[epoch, number]), float(losses[:, epoch, number].std()),
                  float(rights[:, epoch, number].mean()), float(rights[:, epoch, number].std()), int(epoch) + 1)
        for number, (head, epoch) in enumerate(zip(tried, best, strict=True))
    ]  # fmt: skip
    found.sort(key=lambda candidate: candidate.log_loss)
    if not math.isfinite(found[0].log_loss):
        raise FlowImagesError(
            "the loss is not a number with any `learning_rate` that was tried: the hub module's features are too "
            "large, or not numbers; nothing was published"
        )
    return HeadChoice(found[0], found, _FOLDS, len(rows))


def out_of_fold(
    features: Array,
    targets: Array,
    classes: int,
    head: HeadOptions,
    *,
    epochs: int,
    batch_size: int,
    weights: Array,
    seed: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> Array:
    """What heads say of images that they were not trained on: float32 [n, classes].

    Args:
      features: float32 [n, features], of training images.
      targets: int [n], the classes' numbers.
      classes: how many there are.
      head: how each is trained.
      epochs: of each.
      batch_size: rows a step.
      weights: float32 [classes], of each class in the loss.
      seed: of the folds, the first weights and the order.
      on_epoch: called after each epoch of each fold.
    """
    found = np.zeros((len(targets), classes), np.float32)
    for inside, outside in _folds(targets, _OUT_OF_FOLD, seed):
        training = HeadTraining(features[inside], targets[inside], classes, [head], batch_size=batch_size,
                                weights=weights, seed=seed)  # fmt: skip
        for _ in range(epochs):
            training.epoch()
            on_epoch()
        (trained,) = training.heads()
        found[outside] = trained.probabilities(features[outside])
    return found


def _folds(targets: Array, folds: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Rows to train on and rows to ask, so that each row is asked once, and each class is spread over the folds."""
    fold = np.empty(len(targets), int)
    place = 0
    for target in np.unique(targets):
        rows = np.random.default_rng([seed, int(target)]).permutation(np.flatnonzero(targets == target))
        fold[rows] = (place + np.arange(len(rows))) % folds
        place += len(rows)
    for number in range(folds):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(inside) and len(outside):
            yield inside, outside


def _sample(targets: Array, count: int, seed: int) -> Array:
    """Rows, of each class in proportion and at least two."""
    if len(targets) <= count:
        return np.arange(len(targets))
    chosen = []
    for target in np.unique(targets):
        rows = np.random.default_rng([seed, int(target)]).permutation(np.flatnonzero(targets == target))
        chosen.append(rows[: max(2, round(len(rows) * count / len(targets)))])
    return np.sort(np.concatenate(chosen))
