"""Trains on whole images, from the trained head on: the hub module's weights as well, or the head on augmented images.

Each epoch's order, augmentation and dropout depend on the seed and its number alone, and its state is kept in the work
folder, so a training that was killed goes on near the step in which that happened, and ends as it would have.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from serving.contract import Preprocessing
from serving.errors import FlowImagesError
from serving.images.preprocessing import from_uint8, to_range
from trainer.augmentation import augment, uniform
from trainer.checkpoints import Checkpoints
from trainer.decoded_images import DecodedImages
from trainer.head import accuracy, log_loss
from trainer.images.split import Split
from trainer.progress import Epoch, Progress
from trainer.train_options import AUGMENT_RATE, FINE_TUNE_EPOCHS, FINE_TUNE_RATE, TrainOptions
from trainer.work_folder import WorkFolder

Array = np.ndarray[Any, np.dtype[Any]]

_PATIENCE = 3
"""Epochs without a lower validation loss, after which training stops."""
_WARM_UP = 0.1
"""Share of all steps in which the rate rises to its full value."""
_KEPT_EVERY_S = 60.0
"""Within an epoch: what a kill costs at most."""
_SALT = 2**30
"""Added to an image's seed for its dropout, which has other numbers than its augmentation."""


class Tuned(NamedTuple):
    """What was done; the model has the weights of its best epoch."""

    history: list[Epoch]
    best_epoch: int
    """0 if no epoch was better than the head before."""
    learning_rate: float
    """Highest."""


def fine_tune(
    model: tf_keras.Model,
    split: Split,
    labels: Sequence[str],
    options: TrainOptions,
    *,
    preprocessing: Preprocessing,
    weights: Array,
    work: WorkFolder | None = None,
    strategy: tf.distribute.Strategy | None = None,
    progress: Progress | None = None,
    kept_every_s: float = _KEPT_EVERY_S,
) -> Tuned:
    """Trains a model in place, and leaves it with the weights of the epoch with the lowest validation loss.

    The rate rises over the first tenth of the steps and falls as a cosine to zero. Batch normalization stays as it was
    learnt, unless `options.train_batch_norm`: a few images a step would spoil its averages.

    Args:
      model: hub module, dropout if wanted, dense head, made in the strategy's scope; its trainable weights are trained.
      split: the images.
      labels: the classes.
      options: `fine_tune`, `augment`, `epochs`, `learning_rate`, `batch_size`, `mixed_precision`, `seed`.
      preprocessing: the model's.
      weights: float32 [classes], of each class in the loss.
      work: keeps images and the training's state; None to keep nothing.
      strategy: spreads each step over devices.
      progress: is told of each step and epoch.
      kept_every_s: seconds after which the state is kept, besides after each epoch.

    Raises:
      FlowImagesError: the loss became NaN or infinite.
      tf.errors.OpError: an image can't be decoded, or there is too little memory.
    """
    strategy = strategy or tf.distribute.get_strategy()
    progress = progress or Progress()
    with strategy.scope(), _sixteen_bits(options.mixed_precision):
        before = _untrained(model)
        tuned = _Tuning(
            model, split, labels, options, preprocessing, weights, work, strategy, progress, kept_every_s
        ).run()
        if options.train_batch_norm and tuned.best_epoch and _equal(before, _untrained(model)):
            progress.note(
                "`train_batch_norm` changed nothing: the hub module has no batch normalization that can learn"
            )
    return tuned


def _untrained(model: tf_keras.Model) -> list[Array]:
    """Weights that no gradient changes, such as averages."""
    return [weight.numpy() for weight in model.non_trainable_weights]


def _equal(one: list[Array], other: list[Array]) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


class _Done(NamedTuple):
    """What an epoch that is under way has behind it."""

    steps: int = 0
    loss: float = 0.0
    """Sum over its images."""
    right: float = 0.0


class _Tuning:
    def __init__(
        self,
        model: tf_keras.Model,
        split: Split,
        labels: Sequence[str],
        options: TrainOptions,
        preprocessing: Preprocessing,
        weights: Array,
        work: WorkFolder | None,
        strategy: tf.distribute.Strategy,
        progress: Progress,
        kept_every_s: float,
    ) -> None:
        self._model, self._options, self._range = model, options, preprocessing.value_range
        self._strategy, self._progress, self._kept_every_s = strategy, progress, kept_every_s
        self._weights, self._checkpoints = weights, Checkpoints(work, "fine_tuning")
        number = {label: index for index, label in enumerate(labels)}
        count = len(split.training) + len(split.validation)
        progress.begin(f"decoding {count:,} images", count)
        self._images, self._validation = (
            DecodedImages(
                [image.path for image in part], preprocessing, name=f"{name} images", rounded=rounded, work=work,
                progress=progress,
            )
            for part, name, rounded in (
                (split.training, "training", options.augment),
                (split.validation, "validation", False),
            )
        )  # fmt: skip
        self._targets, self._validation_targets = (
            np.array([number[image.label] for image in part], np.int32) for part in split[:2]
        )
        self._epochs = options.epochs or FINE_TUNE_EPOCHS
        self._steps = math.ceil(len(self._targets) / options.batch_size)
        self._rate = options.learning_rate or (FINE_TUNE_RATE if options.fine_tune else AUGMENT_RATE)
        self._optimizer = tf_keras.optimizers.Adam(_Schedule(self._rate, self._epochs * self._steps))
        if options.mixed_precision:  # small gradients would be zero in 16 bits
            self._optimizer = tf_keras.mixed_precision.LossScaleOptimizer(self._optimizer)
        self._optimizer.build(model.trainable_variables)
        self._variables = [*model.weights, *self._optimizer.variables]
        self._step = tf.function(self._replicated_step)
        self._answer = tf.function(
            lambda images: strategy.run(lambda mine: model(mine, training=False), args=(images,))
        )  # by each replica, as a SavedModel's functions can't be called outside of one
        self._history: list[Epoch] = []
        self._best, self._best_loss, self._best_weights = 0, math.nan, model.get_weights()

    def run(self) -> Tuned:
        """All epochs that are left."""
        done = self._resume()
        if done is None:
            self._best_loss, done = self._evaluate()[0], _Done()
        self._progress.begin("fine-tuning" if self._options.fine_tune else "training the head on augmented images",
                             self._epochs * self._steps)  # fmt: skip
        self._progress.advance(len(self._history) * self._steps + done.steps)
        while len(self._history) < self._epochs and not self._has_stalled():
            number = len(self._history) + 1
            loss, right = self._epoch(number, done)
            done = _Done()
            epoch = Epoch(number, loss, right, *self._evaluate())
            if len(self._validation):
                _check_number(epoch.validation_loss, number)
            self._history.append(epoch)
            self._progress.epoch(epoch, self._epochs)
            if not epoch.validation_loss >= self._best_loss:  # the last epoch where there is no validation
                self._best, self._best_loss, self._best_weights = number, epoch.validation_loss, self._finite(number)
            self._keep(done)
        self._model.set_weights(self._best_weights)
        return Tuned(self._history, self._best, self._rate)

    def _has_stalled(self) -> bool:
        return self._options.epochs is None and len(self._history) - self._best >= _PATIENCE

    def _finite(self, number: int) -> list[Array]:
        """The weights, which may be no numbers after a last step that no loss has seen yet."""
        found: list[Array] = self._model.get_weights()
        for value in found:
            _check_number(float(np.abs(value).sum()), number)
        return found

    def _epoch(self, number: int, done: _Done) -> tuple[float, float]:
        """Trains on each image once, from the given step on: mean loss and accuracy of the steps."""
        chance = np.random.default_rng([self._options.seed, number])
        order = chance.permutation(len(self._targets))
        seeds = chance.integers(0, _SALT, (len(order), 2), np.int32)
        kept = time.monotonic()
        for step in range(done.steps, self._steps):
            rows = order[step * self._options.batch_size :][: self._options.batch_size]
            loss, hits = self._step(*self._step_inputs(rows, seeds))
            _check_number(float(loss), number)
            done = _Done(step + 1, done.loss + float(loss) * len(rows), done.right + float(hits))
            self._progress.advance()
            if done.steps < self._steps and time.monotonic() - kept >= self._kept_every_s:
                self._keep(done)
                kept = time.monotonic()
        return done.loss / len(order), done.right / len(order)

    def _step_inputs(self, rows: Array, seeds: Array) -> list[Any]:
        """Images, targets, weights and seeds of a step, a part for each replica."""
        targets = self._targets[rows]
        weights = (self._weights[targets] / len(rows)).astype(np.float32)
        return [self._shared_out(column) for column in (self._images[rows], targets, weights, seeds[rows])]

    def _shared_out(self, column: Array) -> Any:
        parts = [tf.constant(part) for part in np.array_split(column, self._strategy.num_replicas_in_sync)]
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    def _replicated_step(self, images: Any, targets: Any, weights: Any, seeds: Any) -> tuple[tf.Tensor, tf.Tensor]:
        losses, hits = self._strategy.run(self._train, args=(images, targets, weights, seeds))
        total = tf.distribute.ReduceOp.SUM
        return self._strategy.reduce(total, losses, axis=None), self._strategy.reduce(total, hits, axis=None)

    def _train(
        self, images: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One replica's part of a step: its share of the loss, and how many it has right."""
        inputs = to_range(augment(from_uint8(images), seeds), self._range) if self._options.augment else images
        with tf.GradientTape() as tape:
            probabilities = self._forward(inputs, seeds)
            each = tf_keras.losses.sparse_categorical_crossentropy(targets, probabilities)
            loss = tf.reduce_sum(each * weights)
            scaled = self._optimizer.get_scaled_loss(loss) if self._options.mixed_precision else loss
        gradients = tape.gradient(scaled, self._model.trainable_variables)
        if self._options.mixed_precision:
            gradients = self._optimizer.get_unscaled_gradients(gradients)
        self._optimizer.apply_gradients(zip(gradients, self._model.trainable_variables, strict=True))
        right = tf.equal(tf.argmax(probabilities, axis=1, output_type=tf.int32), targets)
        return loss, tf.reduce_sum(tf.cast(right, tf.float32))

    def _forward(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """The model in training, with batch normalization as it was learnt unless it is to learn."""
        module, *layers = self._model.layers
        values = module(images, training=self._options.fine_tune and self._options.train_batch_norm)
        for layer in layers:
            if isinstance(layer, tf_keras.layers.Dropout):  # whose own masks are others after a resumption
                kept = uniform(seeds + _SALT, values.shape[1]) >= layer.rate
                values = tf.where(kept, values / (1 - layer.rate), 0.0)
            else:
                values = layer(values, training=True)
        return values

    def _evaluate(self) -> tuple[float, float]:
        """Loss and accuracy on the validation images; nan where there are none."""
        size = self._options.batch_size
        rows = np.arange(len(self._validation))
        found = [np.zeros((0, len(self._weights)), np.float32)]
        for start in range(0, len(rows), size):
            answers = self._answer(self._shared_out(self._validation[rows[start : start + size]]))
            found += [part.numpy() for part in self._strategy.experimental_local_results(answers)]
        probabilities = np.concatenate(found)
        return log_loss(probabilities, self._validation_targets), accuracy(probabilities, self._validation_targets)

    def _keep(self, done: _Done) -> None:
        numbers = {"history": self._history, "best": self._best, "best_loss": self._best_loss, "done": done}
        state = [variable.numpy() for variable in self._variables]
        self._checkpoints.save(numbers, state=state, best=self._best_weights)

    def _resume(self) -> _Done | None:
        """Takes over what a killed run left: how far it was in its last epoch, or None if it left nothing."""
        found = self._checkpoints.load()
        if found is None:
            return None
        numbers, arrays = found
        if [value.shape for value in arrays["state"]] != [tuple(variable.shape) for variable in self._variables]:
            return None  # another release of Keras made it
        self._history = [Epoch(*row) for row in numbers["history"]]
        self._best, self._best_loss, self._best_weights = numbers["best"], numbers["best_loss"], arrays["best"]
        for variable, value in zip(self._variables, arrays["state"], strict=True):
            variable.assign(value)
        return _Done(*numbers["done"])


def _check_number(value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise FlowImagesError(
            f"the loss is {value} in epoch {epoch}: take a smaller `learning_rate`; nothing was published"
        )


class _Schedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises for a tenth of the steps, then falls to zero as a cosine (Loshchilov and Hutter 2017)."""

    def __init__(self, rate: float, steps: int) -> None:
        super().__init__()
        self._rate, self._steps, self._rising = rate, steps, max(1, round(_WARM_UP * steps))

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        done = tf.cast(step, tf.float32) + 1
        rising = done / self._rising
        falling = 0.5 * (1 + tf.cos(math.pi * (done - self._rising) / max(1, self._steps - self._rising + 1)))
        return self._rate * tf.where(done <= self._rising, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """What a new one is made of."""
        return {"rate": self._rate, "steps": self._steps}


@contextlib.contextmanager
def _sixteen_bits(wanted: bool) -> Iterator[None]:
    """Lets TensorFlow compute in 16 bits where that is safe; the module's graph is rewritten, as it is saved in 32."""
    before = tf.config.optimizer.get_experimental_options().get("auto_mixed_precision", False)
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": wanted or before})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision": before})
