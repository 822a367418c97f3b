"""The resize gives TensorFlow's numbers, to the last bit, for any sizes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.images.resize import resize

SIDES = st.integers(1, 90)


@settings(max_examples=200)
@given(height=SIDES, width=SIDES, to_height=SIDES, to_width=SIDES, seed=st.integers(0, 99))
def test_the_numbers_are_tensorflows(height: int, width: int, to_height: int, to_width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = tf.image.resize(image, [to_height, to_width]).numpy()
    np.testing.assert_allclose(resize(image, to_height, to_width), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(375, 500), (1536, 2048), (224, 224), (100, 3000), (1, 1)])
def test_so_are_those_of_photos_sizes(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, 224, 224), tf.image.resize(image, [224, 224]).numpy())


def test_a_view_is_resized_as_its_copy() -> None:
    image = np.random.default_rng(2).integers(0, 256, (60, 40, 3), dtype=np.uint8).swapaxes(0, 1)[:, ::-1]
    np.testing.assert_array_equal(resize(image, 32, 24), resize(image.copy(), 32, 24))
