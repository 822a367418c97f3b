"""The orientation is what the graph finds, in every format, however damaged; turning it is what the graph does."""

import functools
import io
import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from serving.images import exif, exif_graph
from tests.faults.fuzz import damage


@functools.cache
def tagged() -> list[bytes]:
    """Files with an orientation: in each format that has a place for it, by both byte orders."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8))
    files = []
    for format_ in ("JPEG", "PNG", "WEBP"):
        for order, number in (("<", 3), (">", 6), ("<", 8)):
            tags = Image.Exif()
            tags.endian = order
            tags[0x0112] = number
            stream = io.BytesIO()
            image.save(stream, format_, exif=tags)
            files.append(stream.getvalue())
    return files


def test_a_tag_is_found() -> None:
    assert [exif.exif_orientation(data) for data in tagged()] == 3 * [3, 6, 8]


def test_damaged_files_have_the_orientation_that_the_graph_finds() -> None:
    chance = random.Random(5)
    files = [damage(tagged(), chance) for _ in range(1500)]
    found = [exif.exif_orientation(data) for data in files]
    assert found == [int(exif_graph.exif_orientation(tf.constant(data))) for data in files]
    assert len(set(found)) > 3


@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_as_the_graph_turns_it(orientation: int) -> None:
    image = np.random.default_rng(1).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        exif.turn_upright(image, orientation), exif_graph.turn_upright(tf.constant(image), tf.constant(orientation))
    )
