"""Modules of each kind: what they take and give is found, and not asked for."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from serving.errors import UsageError
from tests.hub_modules import keras_3_module, tensorflow_1_module
from trainer.hub.module import load_module

IMAGES = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)


@pytest.fixture(scope="module")
def keras_3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two backbones that Keras 3 exports, `map` and `vector`, and what they answer to IMAGES (.npy)."""
    return keras_3_module(tmp_path_factory.mktemp("keras3"))


@pytest.mark.parametrize("kind", ["vector", "map"])
def test_a_backbone_that_keras_3_exports_is_a_module(keras_3: Path, kind: str) -> None:
    expected = np.load(keras_3 / f"{kind}.npy")
    module = load_module(str(keras_3 / kind), trainable=True)
    assert (module.image_size, module.features) == (32, 6)
    found = module.layer(IMAGES)
    np.testing.assert_allclose(found, expected.mean(axis=(1, 2)) if kind == "map" else expected, rtol=1e-4, atol=1e-5)
    assert len(module.layer.trainable_weights) == 4  # kernel, bias, gamma, beta
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module.layer(IMAGES) ** 2)
    assert all(gradient is not None for gradient in tape.gradient(loss, module.layer.trainable_weights))


def saved(folder: Path, function: object, shape: list[int | None]) -> str:
    module = tf.Module()
    module.call = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})
    return str(folder)


def test_a_signature_alone_is_a_frozen_module(tmp_path: Path) -> None:
    handle = saved(tmp_path / "m", lambda images: {"logits": tf.reduce_mean(images, [1, 2])}, [None, 32, 32, 3])
    module = load_module(handle)
    assert (module.image_size, module.features) == (32, 3)
    np.testing.assert_allclose(module.layer(IMAGES), IMAGES.mean(axis=(1, 2)), rtol=1e-5)
    with pytest.raises(UsageError, match="has no weights that can be trained: leave out `fine_tune`"):
        load_module(handle, trainable=True)


def test_of_several_outputs_the_one_of_a_usual_name_is_taken(tmp_path: Path) -> None:
    def two(images: tf.Tensor) -> dict[str, tf.Tensor]:
        mean = tf.reduce_mean(images, [1, 2])
        return {"other": mean * 2, "feature_vector": mean}

    module = load_module(saved(tmp_path / "m", two, [None, 32, 32, 3]))
    np.testing.assert_allclose(module.layer(IMAGES), IMAGES.mean(axis=(1, 2)), rtol=1e-5)
    handle = saved(tmp_path / "n", lambda images: {"a": images[:, 0, 0], "b": images[:, 1, 1]}, [None, 32, 32, 3])
    with pytest.raises(UsageError, match=r"2 outputs \(a, b\), and none of a usual name"):
        load_module(handle)


def callable_module(folder: Path, function: object, shape: list[int | None]) -> str:
    """A reusable module, as TF Hub has them."""
    module = tf.Module()
    module.__call__ = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32)])
    tf.saved_model.save(module, str(folder))
    return str(folder)


def test_a_reusable_module_may_give_several_outputs_by_name_but_no_list(tmp_path: Path) -> None:
    def several(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": tf.reduce_mean(images, [1, 2]), "block_1/output": images}

    handle = callable_module(tmp_path / "m", several, [None, 32, 32, 3])
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as members:
        members.add(handle, ".")
    for module in (load_module(handle), load_module(f"{handle}.tar.gz")):
        assert module.features == 3
        np.testing.assert_allclose(module.layer(IMAGES), IMAGES.mean(axis=(1, 2)), rtol=1e-5)
    handle = callable_module(tmp_path / "n", lambda images: [images[:, 0, 0]], [None, 32, 32, 3])
    with pytest.raises(UsageError, match=r"gives a list for an image, and not one row of features"):
        load_module(handle)


def test_a_module_for_one_image_at_a_time_is_refused(tmp_path: Path) -> None:
    handle = callable_module(tmp_path / "m", lambda images: tf.reduce_mean(images, [1, 2]), [1, 32, 32, 3])
    with pytest.raises(UsageError, match=r"can't be used on a batch of images"):
        load_module(handle)


def test_a_module_of_tensorflow_1_is_a_frozen_one(tmp_path: Path) -> None:
    folder = tensorflow_1_module(tmp_path / "m")
    module = load_module(folder)
    assert (module.image_size, module.features) == (32, 4)
    expected = IMAGES.mean(axis=(1, 2)).sum(axis=1, keepdims=True).repeat(4, axis=1)
    np.testing.assert_allclose(module.layer(IMAGES), expected, rtol=1e-5)
    with pytest.raises(UsageError, match="has no weights that can be trained"):
        load_module(folder, trainable=True)


def test_a_module_in_a_bucket_has_the_digest_of_its_files(tmp_path: Path) -> None:
    handle = Path(saved(tmp_path / "m", lambda images: tf.reduce_mean(images, [1, 2]), [None, 32, 32, 3]))
    for path in handle.rglob("*"):  # ram:// is TensorFlow's own, and read as a bucket is
        if path.is_file():
            tf.io.gfile.makedirs(f"ram://hub/{path.parent.relative_to(handle)}")
            tf.io.gfile.copy(str(path), f"ram://hub/{path.relative_to(handle)}")
    assert load_module("ram://hub").digest == load_module(str(handle)).digest


def test_sizes_come_from_the_module_where_it_says_one(tmp_path: Path) -> None:
    fixed = saved(tmp_path / "fixed", lambda images: tf.reduce_mean(images, [1, 2]), [None, 96, 96, 3])
    free = saved(tmp_path / "free", lambda images: tf.reduce_mean(images, [1, 2]), [None, None, None, 3])
    assert [load_module(fixed).image_size, load_module(free).image_size] == [96, 224]
    assert load_module(free, image_size=50).image_size == 50
    with pytest.raises(UsageError, match=r"`image_size` 50: .* takes images of 96 x 96 pixels"):
        load_module(fixed, image_size=50)


def test_batch_normalization_is_part_of_a_hub_module_and_its_digest_tells_it_apart(tmp_path: Path) -> None:
    for seed in (0, 0, 1):
        tf_keras.utils.set_random_seed(seed)
        model = tf_keras.Sequential([
            tf_keras.layers.Conv2D(4, 3, input_shape=(32, 32, 3)), tf_keras.layers.BatchNormalization(),
            tf_keras.layers.GlobalAveragePooling2D(),
        ])  # fmt: skip
        model.save(tmp_path / str(seed))
    one, other = load_module(str(tmp_path / "0")), load_module(str(tmp_path / "1"))
    assert one.digest != other.digest
    assert one.digest == load_module(str(tmp_path / "0")).digest
    assert len(one.layer.non_trainable_weights) == len(one.layer.weights) == 6
