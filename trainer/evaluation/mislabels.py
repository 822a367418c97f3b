"""Labels that are likely wrong: models that were not trained on an image are sure of another class."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.evaluation.evaluation import Suspect
from trainer.evaluation.metrics import targets_of
from trainer.images.labelled_images import LabelledImage

Array = np.ndarray[Any, np.dtype[Any]]


def rank_labels(images: Sequence[LabelledImage], out_of_fold: Array, labels: Sequence[str]) -> list[Suspect]:
    """Every image, the one whose label is most likely wrong first.

    They are ordered by the margin of the best other class over the label. A label `is_likely` wrong where that class
    is scored above the label, and no lower than it is on average for images of its own: the rule of confident learning
    (Northcutt et al. 2021).

    Args:
      images: n labelled images.
      out_of_fold: float [n, classes], by models that were not trained on the image.
      labels: the classes.
    """
    targets = targets_of(images, labels)
    rows = np.arange(len(targets))
    own = out_of_fold[rows, targets]
    others = out_of_fold.copy()
    others[rows, targets] = -1
    suggested = others.argmax(axis=1)
    best = others[rows, suggested]
    usual = np.array(
        [own[targets == number].mean() if (targets == number).any() else 1.0 for number in range(len(labels))]
    )
    likely = (best >= usual[suggested]) & (best > own)
    order = np.lexsort((own - best, ~likely))
    return [
        Suspect(
            path=images[row].path,
            label=images[row].label,
            suggested=labels[suggested[row]],
            label_score=float(own[row]),
            suggested_score=float(best[row]),
            is_likely=bool(likely[row]),
        )
        for row in order.tolist()
    ]
