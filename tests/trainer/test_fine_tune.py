"""Fine-tuning goes on from the trained head, leaves batch normalization alone, and survives a kill."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from serving.contract import Preprocessing
from serving.errors import FlowImagesError
from tests.conftest import drawn_split
from trainer.fine_tune import Tuned, fine_tune
from trainer.hub.module import load_module
from trainer.images.split import Split
from trainer.model import model_of
from trainer.progress import Progress
from trainer.train_options import TrainOptions
from trainer.work_folder import WorkFolder

SIZE = 32
PREPROCESSING = Preprocessing(height=SIZE, width=SIZE)
OPTIONS = TrainOptions(fine_tune=True, epochs=3, learning_rate=0.01)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A feature vector with convolution, batch normalization and a `training` argument, as TF Hub's own have them."""
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        tf_keras.layers.Conv2D(8, 5, strides=3, input_shape=(SIZE, SIZE, 3)),
        tf_keras.layers.BatchNormalization(),
        tf_keras.layers.ReLU(),
        tf_keras.layers.GlobalAveragePooling2D(),
    ])  # fmt: skip
    folder = str(tmp_path_factory.mktemp("backbone"))
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def split(drawn: Path) -> Split:
    return drawn_split(drawn)


def new_model(backbone: str, *, trainable: bool = True, dropout: float = 0.0) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(1)
    return model_of(load_module(backbone, trainable=trainable), 6, dropout)


def tune(model: tf_keras.Model, split: Split, options: TrainOptions = OPTIONS, **changes: Any) -> Tuned:
    labels = sorted({image.label for image in split.training})
    given: dict[str, Any] = {"preprocessing": PREPROCESSING, "weights": np.ones(6, np.float32)}
    return fine_tune(model, split, labels, options, **given | changes)


def averages(model: tf_keras.Model) -> list[Any]:
    """Moving mean and variance."""
    return [weight.numpy() for weight in model.layers[0].non_trainable_weights]


def test_the_module_learns_and_its_averages_stay(backbone: str, split: Split) -> None:
    model = new_model(backbone)
    before, kernel = averages(model), model.layers[0].trainable_weights[0].numpy()
    tuned = tune(model, split)
    assert len(before) == 2
    for one, other in zip(before, averages(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(model.layers[0].trainable_weights[0].numpy() - kernel).max() > 0
    losses = [epoch.loss for epoch in tuned.history]
    assert losses[-1] < losses[0]


def test_batch_normalization_learns_if_it_is_told_to(backbone: str, split: Split) -> None:
    model = new_model(backbone)
    before = averages(model)
    tune(model, split, dataclasses.replace(OPTIONS, train_batch_norm=True))
    assert np.abs(before[0] - averages(model)[0]).max() > 0


def test_a_frozen_module_stays_while_its_head_sees_augmented_images(backbone: str, split: Split) -> None:
    model = new_model(backbone, trainable=False)
    weights = [weight.numpy() for weight in model.layers[0].weights]
    head = model.layers[-1].get_weights()[0]
    options = dataclasses.replace(OPTIONS, fine_tune=False, augment=True)
    one = tune(model, split, options)
    for before, after in zip(weights, model.layers[0].weights, strict=True):
        np.testing.assert_array_equal(before, after.numpy())
    assert np.abs(model.layers[-1].get_weights()[0] - head).max() > 0
    again = tune(new_model(backbone, trainable=False), split, options)
    assert again.history == one.history


def test_the_best_epoch_counts_and_it_never_gets_worse(backbone: str, split: Split) -> None:
    model = new_model(backbone)
    worse = tune(model, split, dataclasses.replace(OPTIONS, learning_rate=0.9))
    untouched = new_model(backbone)
    if worse.best_epoch == 0:
        for one, other in zip(model.get_weights(), untouched.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    else:
        losses = [epoch.validation_loss for epoch in worse.history]
        assert min(losses) == losses[worse.best_epoch - 1]
    stops = tune(new_model(backbone), split, dataclasses.replace(OPTIONS, epochs=None, learning_rate=1e-9))
    assert len(stops.history) <= 10


class Killing(Progress):
    """Kills the process in a step, and counts steps."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.steps: list[int] = []
        self.is_tuning = False

    def begin(self, step: str, total: int | None = None) -> None:
        self.is_tuning = step == "fine-tuning"

    def advance(self, count: int = 1) -> None:
        if self.is_tuning:
            self.steps.append(count)
            if self.kill_at is not None and sum(self.steps) >= self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


KILLED = dataclasses.replace(OPTIONS, augment=True, batch_size=8, epochs=3)


def tune_and_die(backbone: str, folder: str, work: str, step: int) -> None:
    """Run in a process of its own."""
    tune(new_model(backbone, dropout=0.3), drawn_split(Path(folder)), KILLED, work=WorkFolder.open(work, ["k"]),
         progress=Killing(step), kept_every_s=0)  # fmt: skip


def test_a_killed_run_goes_on_and_ends_as_it_would_have(
    backbone: str, split: Split, drawn: Path, tmp_path: Path
) -> None:
    """By `kill -9` in the second epoch; order, augmentation, dropout and Adam's moments go on."""
    steps = math.ceil(len(split.training) / KILLED.batch_size)
    assert steps > 2
    program = f"from {__name__} import tune_and_die; tune_and_die"
    given = (backbone, str(drawn), str(tmp_path), steps + 2)
    killed = subprocess.run([sys.executable, "-c", f"{program}{given!r}"], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    whole, model, progress = new_model(backbone, dropout=0.3), new_model(backbone, dropout=0.3), Killing()
    expected = tune(whole, split, KILLED)
    work = WorkFolder.open(str(tmp_path), ["k"])
    assert tune(model, split, KILLED, work=work, progress=progress) == expected
    assert progress.steps == [steps + 1, *[1] * (2 * steps - 1)]
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_state_of_another_model_is_not_taken(backbone: str, split: Split, tmp_path: Path) -> None:
    work = WorkFolder.open(str(tmp_path), ["k"])
    tune(new_model(backbone, dropout=0.3), split, dataclasses.replace(OPTIONS, epochs=1), work=work)
    model = model_of(load_module(backbone, trainable=True), 7)
    labels = [*sorted({image.label for image in split.training}), "seventh"]
    tuned = fine_tune(model, split, labels, dataclasses.replace(OPTIONS, epochs=1), preprocessing=PREPROCESSING,
                      weights=np.ones(7, np.float32), work=work)  # fmt: skip
    assert len(tuned.history) == 1


@pytest.mark.parametrize("watched", [True, False], ids=["validation", "none"])
def test_weights_that_become_no_numbers_end_it(split: Split, tmp_path: Path, watched: bool) -> None:
    """The loss of the step before is finite, and an epoch whose validation loss is nan must not count as the best."""
    root = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])
    def call(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(images, [1, 2]) + tf.sqrt(root)  # whose slope at 0 is infinite

    module = tf.train.Checkpoint(variables=[root], trainable_variables=[root])
    module.__call__ = call
    tf.saved_model.save(module, str(tmp_path / "m"))
    options = dataclasses.replace(OPTIONS, batch_size=64)
    with pytest.raises(FlowImagesError, match=r"the loss is (nan|inf) in epoch 1: take a smaller `learning_rate`"):
        tune(new_model(str(tmp_path / "m")), split if watched else split._replace(validation=[]), options)


def test_without_validation_images_the_last_epoch_counts(backbone: str, split: Split) -> None:
    tuned = tune(new_model(backbone), split._replace(validation=[]))
    assert tuned.best_epoch == 3
    assert math.isnan(tuned.history[0].validation_loss)


def test_sixteen_bits_leave_a_model_of_32(backbone: str, split: Split) -> None:
    model = new_model(backbone)
    tuned = tune(model, split, dataclasses.replace(OPTIONS, mixed_precision=True))
    assert math.isfinite(tuned.history[-1].loss)
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert not tf.config.optimizer.get_experimental_options().get("auto_mixed_precision", False)


def test_rates_fit_what_is_trained(backbone: str, split: Split) -> None:
    default = dataclasses.replace(OPTIONS, learning_rate=None, epochs=1)
    assert tune(new_model(backbone), split, default).learning_rate == 1e-4


def test_a_module_that_has_no_averages_to_learn_is_told(split: Split, tmp_path: Path) -> None:
    notes: list[str] = []

    class Noting(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    layers = [tf_keras.layers.Conv2D(4, 5, input_shape=(SIZE, SIZE, 3)), tf_keras.layers.GlobalAveragePooling2D()]
    tf_keras.Sequential(layers).save(tmp_path / "m")
    options = dataclasses.replace(OPTIONS, train_batch_norm=True, epochs=1)
    tune(new_model(str(tmp_path / "m")), split._replace(validation=[]), options, progress=Noting())
    assert notes == ["`train_batch_norm` changed nothing: the hub module has no batch normalization that can learn"]
