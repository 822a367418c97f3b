"""The head's steps are those of a Keras loop over the whole model, and the best epoch's weights are taken."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from serving.errors import FlowImagesError
from trainer.head import HeadOptions, HeadTraining, class_weights, train_head
from trainer.progress import Epoch

Array = np.ndarray[Any, np.dtype[Any]]


def blobs(count: int, classes: int, width: int, seed: int = 0, spread: float = 1.0) -> tuple[Array, Array]:
    """Features around a centre for each class."""
    centres = np.random.default_rng(99).normal(size=(classes, width))
    chance = np.random.default_rng(seed)
    targets = chance.permutation(np.arange(count) % classes)
    return (centres[targets] + chance.normal(size=(count, width)) * spread).astype(np.float32), targets


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["none", "balanced"])
def test_it_is_the_plain_loop(weight_decay: float, kind: Any) -> None:
    features, targets = blobs(75, 3, 6)
    targets[:20] = 0
    weights = class_weights(targets, 3, kind)
    ours = HeadTraining(
        features, targets, 3, [HeadOptions(0.01, weight_decay, 0.0)], batch_size=16, weights=weights, seed=5
    )
    dense = tf_keras.layers.Dense(3, activation="softmax")
    model = tf_keras.Sequential([dense])
    model.build([None, 6])
    (first,) = ours.heads()
    dense.set_weights([first.kernel, first.bias])
    optimizer = tf_keras.optimizers.AdamW(0.01, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, tf_keras.losses.SparseCategoricalCrossentropy(), ["accuracy"])
    for epoch in range(1, 5):
        loss, right = ours.epoch()
        order = np.random.default_rng([5, epoch]).permutation(len(targets))  # the batches, in the same order
        plain = model.fit(features[order], targets[order], batch_size=16, shuffle=False, verbose=0,
                          class_weight=dict(enumerate(weights)))  # fmt: skip
        assert right[0] == pytest.approx(plain.history["accuracy"][0])
        assert loss[0] == pytest.approx(plain.history["loss"][0], rel=1e-4)
    (head,) = ours.heads()
    for mine, theirs in zip(head, dense.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-5)


def test_heads_side_by_side_are_those_trained_alone() -> None:
    features, targets = blobs(60, 4, 5)
    options = [HeadOptions(0.01, 0.0, 0.0), HeadOptions(0.003, 0.3, 0.0), HeadOptions(0.01, 0.0, 0.5)]
    weights = np.ones(4, np.float32)

    def trained(some: list[HeadOptions]) -> list[Any]:
        training = HeadTraining(features, targets, 4, some, batch_size=8, weights=weights, seed=1)
        for _ in range(3):
            training.epoch()
        return training.heads()

    alone = [trained([options[number], options[2]])[0] for number in (0, 1)]
    for head, one in zip(trained(options), alone, strict=False):
        np.testing.assert_allclose(head.kernel, one.kernel, rtol=1e-5, atol=1e-6)
    assert np.abs(trained(options)[2].kernel - trained(options)[0].kernel).max() > 0.01  # dropout does something


def fit(features: Array, targets: Array, classes: int, validation: tuple[Array, Array], **changes: Any) -> Any:
    given: dict[str, Any] = {"epochs": 200, "batch_size": 16, "weights": np.ones(classes, np.float32), "seed": 0}
    options = changes.pop("options", HeadOptions(0.03, 0.0, 0.0))
    return train_head(features, targets, classes, options, validation=validation, **given | changes)


def test_it_stops_when_it_no_longer_gets_better_and_takes_the_best() -> None:
    features, targets = blobs(40, 4, 30, spread=3.0)
    validation = blobs(40, 4, 30, seed=1, spread=3.0)
    epochs: list[Epoch] = []
    found = fit(features, targets, 4, validation, on_epoch=epochs.append)
    losses = [epoch.validation_loss for epoch in found.history]
    assert found.history == epochs
    assert len(epochs) == found.best_epoch + 50 < 200
    assert losses[found.best_epoch - 1] == min(losses)
    again = fit(features, targets, 4, validation, epochs=found.best_epoch)
    np.testing.assert_array_equal(again.head.kernel, found.head.kernel)
    assert len(fit(features, targets, 4, validation, stops_early=False).history) == 200


def test_without_validation_images_the_last_epoch_counts() -> None:
    features, targets = blobs(40, 4, 10)
    found = fit(features, targets, 4, (features[:0], targets[:0]), epochs=30)
    assert (found.best_epoch, len(found.history)) == (30, 30)
    assert math.isnan(found.history[0].validation_loss)


def test_a_loss_that_is_no_number_is_told() -> None:
    features, targets = blobs(40, 4, 10)
    features[0, 0] = np.nan
    with pytest.raises(FlowImagesError, match="the loss is nan after epoch 1: take a smaller `learning_rate`"):
        fit(features, targets, 4, (features, targets))


def test_balanced_weights_make_classes_count_the_same() -> None:
    weights = class_weights(np.array([0, 0, 0, 1]), 2, "balanced")
    assert 3 * weights[0] == pytest.approx(weights[1])
    assert weights[[0, 0, 0, 1]].mean() == pytest.approx(1)
    features, targets = blobs(400, 2, 3, spread=2.0)
    kept = (targets == 1) | (np.arange(400) < 40)  # class 0 is rare
    rare, labels = features[kept], targets[kept]
    test = blobs(400, 2, 3, seed=7, spread=2.0)

    def recall(kind: Any) -> float:
        head = fit(rare, labels, 2, (rare[:0], labels[:0]), epochs=20, weights=class_weights(labels, 2, kind)).head
        return float((head.probabilities(test[0]).argmax(axis=1) == 0)[test[1] == 0].mean())

    assert recall("balanced") > recall("none") + 0.2


def test_dense_layers_of_tensorflow_give_the_same_probabilities() -> None:
    features, targets = blobs(40, 4, 10)
    head = fit(features, targets, 4, (features, targets), epochs=3).head
    expected = tf.nn.softmax(features @ head.kernel + head.bias).numpy()
    np.testing.assert_allclose(head.probabilities(features), expected, rtol=1e-5, atol=1e-6)
