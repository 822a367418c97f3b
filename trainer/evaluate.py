"""How good an exported model is, asked as a client asks it: whole files, through its own signature."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.contract import Wire
from trainer.labelled_images import LabelledPicture, read_again

Array = np.ndarray[Any, np.dtype[Any]]
Ask = Callable[[Wire, Any], Array]


class ClassAccuracy(NamedTuple):
    """One class: how many pictures it has, how many of them were right."""

    label: str
    pictures: int
    right: int


class Evaluation(NamedTuple):
    """Accuracy over all pictures, and by class in label order."""

    accuracy: float
    classes: list[ClassAccuracy]


def evaluate(ask: Ask, pictures: Sequence[LabelledPicture], labels: Sequence[str], batch_size: int = 32) -> Evaluation:
    """Share of the pictures whose most probable class is right.

    Args:
      ask: the model; its wire form `encoded` is used, with which the model does all preprocessing itself.
      pictures: at least one; no picture that the model was trained on, if the accuracy is to mean anything.
      labels: the model's.
      batch_size: pictures a call.
    """
    hits: list[bool] = []
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        best = ask("encoded", [read_again(picture.path) for picture in batch]).argmax(axis=1)
        hits += [labels[index] == picture.label for index, picture in zip(best, batch, strict=True)]
    there = Counter(picture.label for picture in pictures)
    right = Counter(picture.label for hit, picture in zip(hits, pictures, strict=True) if hit)
    classes = [ClassAccuracy(label, there[label], right[label]) for label in labels]
    return Evaluation(sum(hits) / len(hits), classes)
