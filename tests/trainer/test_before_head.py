"""Models in two parts, compared with the whole."""

from pathlib import Path

import numpy as np
import pytest
import tf_keras

from tests.conftest import IMAGE_SIZE
from trainer.before_head import part_before_head
from trainer.hub.module import load_module
from trainer.model import model_of, with_temperature


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_both_parts_are_the_model(hub_module: Path, dropout: float) -> None:
    module = load_module(str(hub_module))
    model = with_temperature(model_of(module, 4, dropout), 1.5)
    images = np.random.default_rng(0).random((3, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    parted = part_before_head(model)
    assert parted is not None
    features = parted.body(images)
    assert features.shape == (3, parted.width) == (3, module.features)
    np.testing.assert_allclose(features, module.layer(images), atol=1e-5)
    np.testing.assert_allclose(parted.head(features), model(images), atol=1e-6)


def test_dropout_is_off(hub_module: Path) -> None:
    parted = part_before_head(model_of(load_module(str(hub_module)), 4, 0.5))
    assert parted is not None
    images = np.random.default_rng(0).random((3, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    np.testing.assert_array_equal(parted.body(images), parted.body(images))


def dense(*shape: int) -> tf_keras.Sequential:
    return tf_keras.Sequential([tf_keras.layers.Input(shape), tf_keras.layers.Dense(4), tf_keras.layers.Dense(2)])


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda images: images, id="function"),
        pytest.param(tf_keras.Sequential([tf_keras.layers.Dense(2)]), id="head alone"),
        pytest.param(tf_keras.Sequential([tf_keras.layers.Dense(4), tf_keras.layers.Softmax()]), id="no dense end"),
        pytest.param(dense(8, 8), id="map of features"),
    ],
)
def test_a_model_whose_head_is_not_known_is_not_parted(model: object) -> None:
    assert part_before_head(model) is None
