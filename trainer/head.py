"""The head: a dense layer with softmax over the features of a hub module, trained by AdamW.

Written out, as an epoch on features takes milliseconds, and as a search trains many heads side by side on the same
batches. With one head, its steps are those of a Keras loop over the whole model with the module frozen.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from serving.errors import FlowImagesError
from trainer.progress import Epoch

Array = np.ndarray[Any, np.dtype[Any]]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
"""Adam's, as Keras has them."""
_TINY = 1e-7
"""Least probability in a logarithm, as Keras has it."""
_PATIENCE = 50
"""Epochs without a lower validation loss, after which training stops."""
_THREADS = ThreadpoolController()
"""NumPy's. Products this small take one thread: several wait for each other, ten times as long on a busy machine; and
the sums are the same on any number of cores."""


class HeadOptions(NamedTuple):
    """What a head's training depends on."""

    learning_rate: float
    weight_decay: float
    """Each step takes `learning_rate * weight_decay` of the kernel away (Loshchilov and Hutter 2019)."""
    dropout: float
    """Share of the features that a step doesn't see (Srivastava et al. 2014)."""


class Head(NamedTuple):
    """Weights of a dense layer."""

    kernel: Array
    """float32 [features, classes]."""
    bias: Array
    """float32 [classes]."""

    def probabilities(self, features: Array) -> Array:
        """float32 [n, classes] for features float32 [n, features]."""
        with _THREADS.limit(limits=1):
            return _softmax(features @ self.kernel + self.bias)


class TrainedHead(NamedTuple):
    """A head with the weights of its best epoch, and all its epochs."""

    head: Head
    best_epoch: int
    history: list[Epoch]


def class_weights(targets: Array, classes: int, kind: Literal["none", "balanced"]) -> Array:
    """Weight of each class in the loss, float32 [classes]; `balanced`: images / (classes * images of the class)."""
    if kind == "none":
        return np.ones(classes, np.float32)
    counts = np.bincount(targets, minlength=classes)
    return (len(targets) / (classes * np.maximum(counts, 1))).astype(np.float32)


def log_loss(probabilities: Array, targets: Array) -> float:
    """Mean negative natural logarithm of the label's probability; nan where there are no rows."""
    if not len(targets):
        return math.nan
    right = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.clip(right, _TINY, 1.0)).mean())


def accuracy(probabilities: Array, targets: Array) -> float:
    """Share of rows whose best class is the label's; nan where there are no rows."""
    return float((probabilities.argmax(axis=-1) == targets).mean()) if len(targets) else math.nan


class HeadTraining:
    """Heads that are trained side by side, on the same batches, each with its own options."""

    def __init__(
        self,
        features: Array,
        targets: Array,
        classes: int,
        options: Sequence[HeadOptions],
        *,
        batch_size: int,
        weights: Array,
        seed: int,
    ) -> None:
        """Heads before the first epoch; all begin with the same random weights.

        Args:
          features: float32 [n, features].
          targets: int [n], the classes' numbers.
          classes: how many there are.
          options: of each head.
          batch_size: rows a step.
          weights: float32 [classes], of each class in the loss.
          seed: of the first weights, the order and the dropout.
        """
        self._features, self._targets = features, targets
        self._classes, self._batch_size, self._weights, self._seed = classes, batch_size, weights, seed
        self._rates, self._decays, self._dropouts = (
            np.array(column, np.float32)[:, np.newaxis, np.newaxis] for column in zip(*options, strict=True)
        )
        width = features.shape[1]
        limit = math.sqrt(6 / (width + classes))  # Glorot and Bengio 2010, Keras's default
        first = np.random.default_rng(seed).uniform(-limit, limit, (width, classes))
        self._kernel = np.repeat(first[np.newaxis].astype(np.float32), len(options), axis=0)
        self._bias = np.zeros((len(options), 1, classes), np.float32)
        self._moments = [[np.zeros_like(value) for _ in range(2)] for value in (self._kernel, self._bias)]
        self._steps = self._epochs = 0

    def heads(self) -> list[Head]:
        """Copies of the weights as they are now."""
        return [Head(kernel.copy(), bias[0].copy()) for kernel, bias in zip(self._kernel, self._bias, strict=True)]

    def epoch(self) -> tuple[Array, Array]:
        """Trains on each row once.

        Returns:
          Mean loss and accuracy of the steps, each float64 [heads].
        """
        self._epochs += 1
        chance = np.random.default_rng([self._seed, self._epochs])
        order = chance.permutation(len(self._targets))
        loss, right = np.zeros(len(self._kernel)), np.zeros(len(self._kernel))
        with _THREADS.limit(limits=1):
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                step_loss, step_right = self._step(self._features[rows], self._targets[rows], chance)
                loss += step_loss
                right += step_right
        return loss / len(order), right / len(order)

    def _step(self, features: Array, targets: Array, chance: np.random.Generator) -> tuple[Array, Array]:
        seen = features[np.newaxis]
        if self._dropouts.any():
            kept = chance.random(features.shape, np.float32) >= self._dropouts
            seen = seen * kept / (1 - self._dropouts)
        probabilities = _softmax(seen @ self._kernel + self._bias)
        rows = np.arange(len(targets))
        weights = self._weights[targets]
        losses = -np.log(np.clip(probabilities[:, rows, targets], _TINY, 1.0)) * weights
        right = (probabilities.argmax(axis=-1) == targets).sum(axis=1)
        error = probabilities
        error[:, rows, targets] -= 1
        error *= weights[:, np.newaxis] / len(targets)
        self._steps += 1
        if self._decays.any():
            self._kernel -= self._rates * self._decays * self._kernel
        self._descend(self._kernel, np.swapaxes(seen, 1, 2) @ error, self._moments[0])
        self._descend(self._bias, error.sum(axis=1, keepdims=True), self._moments[1])
        return losses.sum(axis=1, dtype=np.float64), right

    def _descend(self, value: Array, gradient: Array, moments: list[Array]) -> None:
        """A step of Adam (Kingma and Ba 2015), in place."""
        mean, square = moments
        mean += (gradient - mean) * np.float32(1 - _BETA_1)
        gradient *= gradient
        square += (gradient - square) * np.float32(1 - _BETA_2)
        rate = self._rates * np.float32(math.sqrt(1 - _BETA_2**self._steps) / (1 - _BETA_1**self._steps))
        root = np.sqrt(square)
        root += np.float32(_EPSILON)
        np.divide(mean, root, out=root)
        root *= rate
        value -= root


def train_head(
    features: Array,
    targets: Array,
    classes: int,
    options: HeadOptions,
    *,
    validation: tuple[Array, Array],
    epochs: int,
    batch_size: int,
    weights: Array,
    seed: int,
    stops_early: bool = True,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainedHead:
    """Trains one head, and takes the weights of the epoch with the lowest validation loss.

    Args:
      features: float32 [n, features].
      targets: int [n], the classes' numbers.
      classes: how many there are.
      options: of the head.
      validation: features and targets that choose the epoch; without rows, the last epoch is taken.
      epochs: at most.
      batch_size: rows a step.
      weights: float32 [classes], of each class in the loss.
      seed: of the first weights, the order and the dropout.
      stops_early: once the validation loss has not fallen for fifty epochs.
      on_epoch: called after each epoch.

    Raises:
      FlowImagesError: the loss became NaN or infinite.
    """
    training = HeadTraining(features, targets, classes, [options], batch_size=batch_size, weights=weights, seed=seed)
    history: list[Epoch] = []
    best: tuple[float, int, Head] | None = None
    for number in range(1, epochs + 1):
        loss, right = training.epoch()
        (head,) = training.heads()
        answers = head.probabilities(validation[0])
        epoch = Epoch(number, float(loss[0]), float(right[0]), log_loss(answers, validation[1]),
                      accuracy(answers, validation[1]))  # fmt: skip
        watched = epoch.validation_loss if len(answers) else 0.0
        if not math.isfinite(epoch.loss + watched):  # a nan would count as the best loss
            raise FlowImagesError(
                f"the loss is {epoch.loss + watched} after epoch {number}: take a smaller `learning_rate`; nothing was "
                "published"
            )
        history.append(epoch)
        on_epoch(epoch)
        if best is None or not epoch.validation_loss >= best[0]:  # the last one where there is no validation
            best = (epoch.validation_loss, number, head)
        elif stops_early and number - best[1] >= _PATIENCE:
            break
    assert best is not None
    return TrainedHead(best[2], best[1], history)


def _softmax(logits: Array) -> Array:
    logits = logits - logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits
