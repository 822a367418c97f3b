"""Trains the model: a head on the features of a frozen hub module, and from there on, if wanted, all of it."""

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras

from serving.console.terminal import printable
from serving.contract import Preprocessing
from serving.errors import FlowImagesError, UsageError
from serving.images.preprocessing import make_decoder
from trainer.data import create_data_batches, image_options
from trainer.features import extract_features
from trainer.head import HeadOptions, TrainedHead, accuracy, class_weights, train_head
from trainer.head_search import HeadChoice, candidates, choose_head, out_of_fold
from trainer.hub.module import HubModule
from trainer.images.labelled_images import LabelledImage, class_names, read_again
from trainer.images.split import Split
from trainer.model import model_of, with_head
from trainer.progress import Epoch, Progress
from trainer.strategy import training_strategy
from trainer.train_options import HEAD_EPOCHS, TrainOptions
from trainer.work_folder import WorkFolder

if TYPE_CHECKING:
    from trainer.fine_tune import Tuned

Array = np.ndarray[Any, np.dtype[Any]]

_EPOCHS_UNWATCHED = 15
"""Where neither validation images nor folds say when to stop."""
_STILL_FALLING = 10
"""Last epochs of all, of which the best one says that more would have helped."""
_LEAST_OUT_OF_FOLD = 10
"""Training images, below which no fold says much about a label."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model, and what is known of it before anything is measured."""

    model: tf_keras.Model
    """Maps float32 [n, height, width, 3] in the value range to probabilities float32 [n, classes]."""
    labels: list[str]
    preprocessing: Preprocessing
    history: list[Epoch]
    best_epoch: int
    """Number of the epoch whose weights were taken."""
    choice: HeadChoice | None
    """What cross-validation chose of; None where the user gave all."""
    hyperparameters: dict[str, float | int | str]
    """The hyperparameters that were used."""
    validation_probabilities: Array
    """float32 [images, classes], in the order of the split."""
    test_probabilities: Array
    """The same of the test images: what a server has to reproduce."""
    out_of_fold: Array | None
    """float32 [training images, classes], by heads that were not trained on the image; None for too few images."""
    control_accuracy: float | None
    """The accuracy on the test images of a head that was trained on shuffled labels; None unless it was asked for."""
    seconds: dict[str, float]
    """How long each step took."""


def preprocessing_of(options: TrainOptions, image_size: int) -> Preprocessing:
    """How an image becomes the hub module's input."""
    black, white = options.value_range.split("..")
    return Preprocessing(
        height=image_size, width=image_size, orientation=options.orientation, value_range=(float(black), float(white))
    )


def train(
    split: Split,
    options: TrainOptions,
    module: HubModule,
    *,
    control: bool = False,
    work: WorkFolder | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains on one part of the images, and chooses by another.

    Each image is read, decoded and run through the module once. With `fine_tune` or `augment` the training goes on from
    the head that was trained so. On a CPU the same images, options and library versions give the same weights.

    Args:
      split: checked images.
      options: what the user decides.
      module: loaded with `trainable` where `fine_tune` is wanted.
      control: whether a head is trained on shuffled labels, too.
      work: keeps features and checkpoints; with the same one a killed training goes on.
      progress: is told how it goes on.

    Raises:
      UsageError: an image can't be decoded.
      FlowImagesError: training needs more memory than there is, or the loss became NaN or infinite.
      DiskFull: the work folder is full.
    """
    progress = progress or Progress()
    preprocessing = preprocessing_of(options, module.image_size)
    with _explained([*split.training, *split.validation, *split.test], preprocessing, options.batch_size):
        return _Training(split, options, module, preprocessing, work, progress).run(control)


class _Training:
    def __init__(
        self,
        split: Split,
        options: TrainOptions,
        module: HubModule,
        preprocessing: Preprocessing,
        work: WorkFolder | None,
        progress: Progress,
    ) -> None:
        self._split, self._options, self._module, self._preprocessing = split, options, module, preprocessing
        # With fine-tuning, the rate and the epochs that are given are its own.
        self._head_options = (
            dataclasses.replace(options, learning_rate=None, epochs=None) if self._is_tuned else options
        )
        self._work, self._progress, self._strategy = work, progress, training_strategy()
        self._labels = class_names(split.training)
        number = {label: index for index, label in enumerate(self._labels)}
        self._targets = [np.array([number[image.label] for image in part], int) for part in split]
        self._weights = class_weights(self._targets[0], len(self._labels), options.class_weights)
        self._seconds: dict[str, float] = {}

    def run(self, control: bool) -> Trained:
        tf_keras.utils.set_random_seed(self._options.seed)
        training, validation, test = self._features()
        choice = self._choose(training)
        options = choice.chosen.options if choice else candidates(self._head_options)[0]
        trained = self._train_head(training, validation, options, choice)
        history, best_epoch, head = trained.history, trained.best_epoch, trained.head
        answers = [head.probabilities(part) for part in (validation, test)]
        apart = self._out_of_fold(training, options, best_epoch)
        control_accuracy = self._control(training, test, options, best_epoch) if control else None
        with self._strategy.scope():
            model = with_head(model_of(self._module, len(self._labels), options.dropout), head)
        used: dict[str, float | int | str] = {**options._asdict(), "batch_size": self._options.batch_size}
        if self._options.fine_tune or self._options.augment:
            tuned = self._fine_tune(model)
            history, best_epoch = tuned.history, tuned.best_epoch
            used["fine_tuning_rate"] = tuned.learning_rate
            answers = [self._ask(model, part) for part in (self._split.validation, self._split.test)]
        used |= {"epochs": best_epoch, "class_weights": self._options.class_weights}
        return Trained(
            model=model,
            labels=self._labels,
            preprocessing=self._preprocessing,
            history=history,
            best_epoch=best_epoch,
            choice=choice,
            hyperparameters=used,
            validation_probabilities=answers[0],
            test_probabilities=answers[1],
            out_of_fold=apart,
            control_accuracy=control_accuracy,
            seconds=self._seconds,
        )

    def _features(self) -> list[Array]:
        """The features of the three parts, computed in one pass."""
        paths = [image.path for part in self._split for image in part]
        self._progress.begin(f"running {len(paths):,} images through the hub module", len(paths))
        with self._timed("features"):
            found = extract_features(self._module.layer, self._module.features, paths, self._preprocessing,
                                     name="features", batch_size=self._options.batch_size, work=self._work,
                                     progress=self._progress)  # fmt: skip
        ends = np.cumsum([len(part) for part in self._split])
        return np.split(found, ends[:-1])

    def _choose(self, training: Array) -> HeadChoice | None:
        if len(candidates(self._head_options)) == 1 or Counter(self._targets[0].tolist()).most_common()[-1][1] < 2:
            return None  # nothing to choose, or a class that only one fold would have
        self._progress.begin("choosing the head's options by cross-validation")
        with self._timed("search"):
            return choose_head(training, self._targets[0], len(self._labels), self._head_options,
                               self._weights, self._progress.advance)  # fmt: skip

    def _train_head(
        self, training: Array, validation: Array, options: HeadOptions, choice: HeadChoice | None
    ) -> TrainedHead:
        epochs = self._head_options.epochs or HEAD_EPOCHS
        if not len(validation):  # nothing says when to stop but the folds
            epochs = min(epochs, choice.chosen.epochs if choice else _EPOCHS_UNWATCHED)
        self._progress.begin("training the head", epochs)

        def on_epoch(epoch: Epoch) -> None:
            self._progress.advance()
            self._progress.epoch(epoch, epochs)

        with self._timed("head"):
            trained = train_head(
                training, self._targets[0], len(self._labels), options, validation=(validation, self._targets[1]),
                epochs=epochs, batch_size=self._options.batch_size, weights=self._weights, seed=self._options.seed,
                stops_early=self._head_options.epochs is None, on_epoch=on_epoch,
            )  # fmt: skip
        if not (self._is_tuned or self._head_options.epochs) and trained.best_epoch > HEAD_EPOCHS - _STILL_FALLING:
            self._progress.note(
                f"the validation loss still fell at the end of {HEAD_EPOCHS} epochs: `epochs` {2 * HEAD_EPOCHS} may do "
                "a little better"
            )
        return trained

    def _out_of_fold(self, training: Array, options: HeadOptions, epochs: int) -> Array | None:
        if len(training) < _LEAST_OUT_OF_FOLD:
            return None
        self._progress.begin("looking for wrong labels by cross-validation")
        with self._timed("out of fold"):
            return out_of_fold(training, self._targets[0], len(self._labels), options, epochs=epochs,
                               batch_size=self._options.batch_size, weights=self._weights, seed=self._options.seed,
                               on_epoch=self._progress.advance)  # fmt: skip

    def _control(self, training: Array, test: Array, options: HeadOptions, epochs: int) -> float:
        """Accuracy on the test images of a head that learnt shuffled labels: what luck alone gives."""
        self._progress.begin("training a control on shuffled labels")
        shuffled = np.random.default_rng(self._options.seed).permutation(self._targets[0])
        nothing = (test[:0], self._targets[2][:0])
        with self._timed("control"):
            control = train_head(
                training, shuffled, len(self._labels), options, validation=nothing, epochs=epochs,
                batch_size=self._options.batch_size, weights=self._weights, seed=self._options.seed,
            )  # fmt: skip
        return accuracy(control.head.probabilities(test), self._targets[2])

    @property
    def _is_tuned(self) -> bool:
        return self._options.fine_tune or self._options.augment

    def _fine_tune(self, model: tf_keras.Model) -> "Tuned":
        from trainer.fine_tune import fine_tune

        with self._timed("fine-tuning"):
            return fine_tune(
                model, self._split, self._labels, self._options, preprocessing=self._preprocessing,
                weights=self._weights, work=self._work, strategy=self._strategy, progress=self._progress,
            )  # fmt: skip

    def _ask(self, model: tf_keras.Model, images: Sequence[LabelledImage]) -> Array:
        """Probabilities float32 [images, classes] of the model as it is now."""
        if not images:
            return np.zeros((0, len(self._labels)), np.float32)
        batches = create_data_batches([image.path for image in images], test_data=True,
                                      **image_options(self._preprocessing))  # fmt: skip
        return np.concatenate([model(batch, training=False).numpy() for batch in batches])

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[step] = round(time.monotonic() - began, 2)


@contextmanager
def _explained(images: Sequence[LabelledImage], preprocessing: Preprocessing, batch_size: int) -> Iterator[None]:
    """Turns TensorFlow's errors into a user's."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise FlowImagesError(
            f"there is too little memory for `batch_size` {batch_size} of {preprocessing.height} x "
            f"{preprocessing.width} pixels: take smaller batches; nothing was published"
        ) from error
    except tf.errors.OpError as error:
        _name_damaged(images, preprocessing, error)
        reason = str(error.message).strip().partition("\n")[0]
        raise FlowImagesError(f"TensorFlow can't train: {reason}; nothing was published") from error


def _name_damaged(images: Sequence[LabelledImage], preprocessing: Preprocessing, error: Exception) -> None:
    """Looks for images that can't be decoded: a valid header proves little, and TensorFlow names no file.

    Raises:
      UsageError: some can't.
    """
    decode = make_decoder(preprocessing, "float32")
    broken = []
    for image in images:
        try:
            decode(read_again(image.path))
        except tf.errors.InvalidArgumentError:
            broken.append(printable(image.path))
    if broken:
        more = f" (and {len(broken) - 1} more: {', '.join(broken[1:10])})" if len(broken) > 1 else ""
        raise UsageError(
            f"{broken[0]} is damaged and can't be decoded{more}; repair or remove it, and its label"
        ) from error
