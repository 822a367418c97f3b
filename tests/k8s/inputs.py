"""What the pods of tier (c) work on: drawn images of one colour a class, and a module that sees colours."""

import csv
import random
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

Colour = tuple[int, int, int]


def draw_images(folder: Path, classes: Mapping[str, Colour], *, each: int) -> None:
    """Writes train/*.jpg and labels.csv in Kaggle's layout, and as many new ones in photos/, class after class."""
    chance = random.Random(0)
    for place in ("train", "photos"):
        (folder / place).mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "breed"])
        for i in range(each * len(classes)):
            label, colour = list(classes.items())[i % len(classes)]
            draw(colour, chance).save(folder / f"train/{i:04d}.jpg")
            draw(colour, chance).save(folder / f"photos/new-{i:04d}.jpg")
            rows.writerow([f"{i:04d}", label])


def make_hub_module(folder: Path) -> None:
    """Writes a TensorFlow Hub module without weights: the mean colour of each of 16 tiles of an image."""
    import tensorflow as tf

    class Colours(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = tf.Variable(10.0, trainable=False)  # So that few steps of training are enough.

        @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.float32)])
        def __call__(self, images: "tf.Tensor") -> "tf.Tensor":
            tiles = tf.nn.avg_pool2d(images, ksize=56, strides=56, padding="VALID")
            return tf.reshape(tiles, [-1, 48]) * self.scale

    tf.saved_model.save(Colours(), str(folder))


def draw(colour: Colour, chance: random.Random, size: tuple[int, int] = (240, 200)) -> Image.Image:
    """A noisy image: random spots, mixed with the colour of its class."""
    noise = Image.frombytes("RGB", (16, 16), chance.randbytes(3 * 16 * 16)).resize(size)
    return Image.blend(Image.new("RGB", size, colour), noise, 0.3)
