"""Measures an exported model as a client uses it: whole files, through its own signature."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.wire import Wire
from trainer.labelled_images import LabelledImage, read_again

Array = np.ndarray[Any, np.dtype[Any]]
Ask = Callable[[Wire, Any], Array]


class ClassAccuracy(NamedTuple):
    """A class, how many images it was measured on, and how many of them were right."""

    label: str
    images: int
    right: int


class Evaluation(NamedTuple):
    """Accuracy over all images, and by class in label order."""

    accuracy: float
    classes: list[ClassAccuracy]


def evaluate(ask: Ask, images: Sequence[LabelledImage], labels: Sequence[str], batch_size: int = 32) -> Evaluation:
    """Share of the images whose most probable class is right.

    Args:
      ask: the model; its wire form `encoded` is used, with which the model does all preprocessing itself.
      images: at least one; no image that the model was trained on, if the accuracy is to mean anything.
      labels: the model's.
      batch_size: images a call.
    """
    hits: list[bool] = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        best = ask("encoded", [read_again(image.path) for image in batch]).argmax(axis=1)
        hits += [labels[index] == image.label for index, image in zip(best, batch, strict=True)]
    there = Counter(image.label for image in images)
    right = Counter(image.label for hit, image in zip(hits, images, strict=True) if hit)
    classes = [ClassAccuracy(label, there[label], right[label]) for label in labels]
    return Evaluation(sum(hits) / len(hits), classes)
