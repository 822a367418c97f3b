"""Measures a model's answers to labelled images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.client.accuracy import wilson
from trainer.evaluation.calibration import measure_calibration
from trainer.evaluation.evaluation import ClassMetrics, Estimate, Evaluation, Mistake, SliceMetrics
from trainer.evaluation.threshold import measure_threshold
from trainer.images.labelled_images import LabelledImage

Array = np.ndarray[Any, np.dtype[Any]]

_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
"""Percentiles of a 95 % interval."""
_MISTAKES = 200
_MOST_VALUES = 50
"""A column of the CSV with more values is not a slice, but an id or a date."""
_TINY = 1e-15


def targets_of(images: Sequence[LabelledImage], labels: Sequence[str]) -> Array:
    """int [images]: the number of each image's label."""
    number = {label: index for index, label in enumerate(labels)}
    return np.array([number[image.label] for image in images], int)


def measure(
    probabilities: Array,
    images: Sequence[LabelledImage],
    labels: Sequence[str],
    *,
    temperature: float = 1.0,
    threshold: float | None = None,
    target_precision: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """All figures of one evaluation.

    Intervals are Wilson's (1927) for shares of the images, and for other figures percentiles of 1,000 bootstrap samples
    of the images (Efron and Tibshirani 1993).

    Args:
      probabilities: float [n, classes], as the model answers them.
      images: n ≥ 1 labelled images.
      labels: the model's; each image's is one of them.
      temperature: that is in the probabilities.
      threshold: that the model carries.
      target_precision: for which it was chosen.
      seed: of the bootstrap.
    """
    from sklearn.metrics import confusion_matrix

    targets = targets_of(images, labels)
    predicted = probabilities.argmax(axis=1)
    right = predicted == targets
    scores = probabilities[np.arange(len(targets)), targets]
    in_top_5 = (probabilities > scores[:, np.newaxis]).sum(axis=1) < min(5, len(labels))
    losses = -np.log(np.maximum(scores, _TINY))
    samples = np.random.default_rng(seed).integers(len(targets), size=(_RESAMPLES, len(targets)), dtype=np.int32)
    return Evaluation(
        labels=tuple(labels),
        images=len(targets),
        accuracy=_share(right),
        top_5=_share(in_top_5),
        macro_f1=_macro_f1(targets, predicted, len(labels), samples),
        log_loss=_mean(losses, samples),
        calibration=measure_calibration(probabilities, targets, temperature),
        threshold=None if threshold is None else measure_threshold(probabilities, targets, threshold, target_precision),
        classes=_classes(targets, predicted, labels),
        slices=_slices(images, right),
        confusion=tuple(
            tuple(map(int, row)) for row in confusion_matrix(targets, predicted, labels=range(len(labels)))
        ),
        mistakes=_mistakes(probabilities, images, labels, targets, predicted),
    )


def _mean(values: Array, samples: Array) -> Estimate:
    low, high = np.percentile(np.array([values[sample].mean() for sample in samples]), _INTERVAL)
    return Estimate(value=float(values.mean()), low=float(low), high=float(high))


def _share(hits: Array) -> Estimate:
    """A share of images."""
    return Estimate(**wilson(int(hits.sum()), len(hits))._asdict())


def _macro_f1(targets: Array, predicted: Array, classes: int, samples: Array) -> Estimate:
    """Mean F1 of the classes that have images."""

    def of(rows: Array | slice) -> float:
        there = np.bincount(targets[rows], minlength=classes)
        answered = np.bincount(predicted[rows], minlength=classes)
        hits = np.bincount(targets[rows][targets[rows] == predicted[rows]], minlength=classes)
        known = there > 0
        return float((2 * hits[known] / (there + answered)[known]).mean())

    low, high = np.percentile([of(sample) for sample in samples], _INTERVAL)
    return Estimate(value=of(slice(None)), low=float(low), high=float(high))


def _classes(targets: Array, predicted: Array, labels: Sequence[str]) -> tuple[ClassMetrics, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, there = precision_recall_fscore_support(
        targets, predicted, labels=range(len(labels)), zero_division=np.nan
    )
    answered = np.bincount(predicted, minlength=len(labels))
    hits = np.bincount(targets[targets == predicted], minlength=len(labels))

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return tuple(
        ClassMetrics(
            label=label,
            images=int(there[number]),
            predicted=int(answered[number]),
            right=int(hits[number]),
            precision=known(precision[number]),
            recall=known(recall[number]),
            f1=known(f1[number]),
        )
        for number, label in enumerate(labels)
    )


def slice_values(images: Sequence[LabelledImage]) -> dict[str, list[str]]:
    """What images are sliced by: their labels, and the CSV's other columns that have few values; a value an image."""
    columns: dict[str, list[str]] = {"label": [image.label for image in images]}
    for name in dict.fromkeys(name for image in images for name, _ in image.columns):
        values = [dict(image.columns).get(name, "") for image in images]
        if 1 < len(set(values)) <= _MOST_VALUES:
            columns[name] = values
    return columns


def _slices(images: Sequence[LabelledImage], right: Array) -> tuple[SliceMetrics, ...]:
    found = []
    for name, values in slice_values(images).items():
        for value in sorted(set(values)):
            hits = right[np.array([one == value for one in values])]
            found.append(SliceMetrics(column=name, value=value, images=len(hits), accuracy=_share(hits)))
    return tuple(found)


def _mistakes(
    probabilities: Array, images: Sequence[LabelledImage], labels: Sequence[str], targets: Array, predicted: Array
) -> tuple[Mistake, ...]:
    rows = np.flatnonzero(predicted != targets)
    rows = rows[np.argsort(-probabilities[rows, predicted[rows]], kind="stable")][:_MISTAKES]
    return tuple(
        Mistake(
            path=images[row].path,
            label=images[row].label,
            predicted=labels[predicted[row]],
            score=float(probabilities[row, predicted[row]]),
            label_score=float(probabilities[row, targets[row]]),
            columns=dict(images[row].columns),
        )
        for row in rows.tolist()
    )
