"""Batches: the seed's pixels and specs, a shuffle that shuffles, labels that stay with their images."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trainer.data import BATCH_SIZE, IMG_SIZE, create_data_batches, get_image_label, one_hot, process_image


@pytest.fixture(scope="module")
def paths(drawn: Path) -> list[str]:
    return [str(path) for path in sorted((drawn / "train").iterdir())][:10]


def rows(data: tf.data.Dataset) -> list[int]:
    """Numbers of the images of a data set, in its order; label i is one-hot at i."""
    return [int(row) for _, labels in data for row in np.argmax(labels, axis=1)]


def test_process_image_is_the_seeds_recipe(paths: list[str]) -> None:
    pixels = tf.io.decode_jpeg(tf.io.read_file(paths[0]), channels=3)
    expected = tf.image.resize(tf.image.convert_image_dtype(pixels, tf.float32), [IMG_SIZE, IMG_SIZE])
    # Resized before it is divided by 255, which spares a float copy of the whole image: the last bit may differ.
    np.testing.assert_allclose(process_image(paths[0]), expected, rtol=0, atol=1.8e-7)
    image, label = get_image_label(paths[0], "pug", img_size=32)
    assert (image.shape, label) == ((32, 32, 3), "pug")


def test_different_paths_give_different_images(paths: list[str]) -> None:
    assert np.abs(process_image(paths[0], 32) - process_image(paths[1], 32)).max() > 0.1


def test_specs_are_the_seeds(paths: list[str]) -> None:
    labels = one_hot(["a"] * 10, [f"breed {i}" for i in range(120)])
    image = tf.TensorSpec([None, 224, 224, 3], tf.float32)
    for valid in (False, True):
        data = create_data_batches(paths, labels, valid_data=valid)
        assert data.element_spec == (image, tf.TensorSpec([None, 120], tf.bool))
    assert create_data_batches(paths, test_data=True).element_spec == image
    assert BATCH_SIZE == 32


def test_training_data_are_shuffled_anew_each_epoch_and_lose_nothing(paths: list[str]) -> None:
    data = create_data_batches(paths, np.eye(10, dtype=bool), batch_size=4, seed=0, img_size=16)
    first, second = rows(data), rows(data)
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(range(10)) != first != second
    again = create_data_batches(paths, np.eye(10, dtype=bool), batch_size=4, seed=0, img_size=16)
    assert rows(again) == first


def test_validation_and_test_data_keep_their_order(paths: list[str]) -> None:
    validation = create_data_batches(paths, np.eye(10, dtype=bool), batch_size=4, valid_data=True, img_size=16)
    assert rows(validation) == list(range(10))
    assert [len(labels) for _, labels in validation] == [4, 4, 2]
    test = np.concatenate(list(create_data_batches(paths, batch_size=4, test_data=True, img_size=16)))
    np.testing.assert_array_equal(test, np.stack([process_image(path, 16) for path in paths]))


def test_a_label_stays_with_its_image(paths: list[str]) -> None:
    data = create_data_batches(paths, np.eye(10, dtype=bool), batch_size=4, seed=3, img_size=16)
    for images, labels in data:
        for image, number in zip(images, np.argmax(labels, axis=1), strict=True):
            np.testing.assert_array_equal(image, process_image(paths[number], 16))


def test_one_hot() -> None:
    assert one_hot(["b", "a"], ["a", "b", "c"]).tolist() == [[False, True, False], [True, False, False]]
