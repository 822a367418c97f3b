"""The version in service, asked about the same test images as a new one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.client.client_options import ConnectionOptions
from serving.console.terminal import printable
from serving.errors import FlowImagesError, UsageError
from serving.model_store.versions import VersionFolder, versions, whole
from serving.storage.stores import Stores
from trainer.evaluation.answers import ask
from trainer.evaluation.gates import InService
from trainer.images.labelled_images import LabelledImage
from trainer.progress import Progress
from trainer.published_models import read_training_images

Array = np.ndarray[Any, np.dtype[Any]]


def compare(
    model: str,
    images: Sequence[LabelledImage],
    probabilities: Array,
    labels: Sequence[str],
    digests: Mapping[str, str],
    *,
    original: Callable[[str], str] = str,
    stores: Stores,
    progress: Progress | None = None,
) -> InService | None:
    """Asks the highest version of a model, which servers take, about test images of a new version.

    Images that it was trained on, or that chose something in its training, are left out: it would know them.

    Args:
      model: STORE/NAME, on a disk or in a bucket.
      images: the new model's test images, on this machine.
      probabilities: float [images, classes], of the new model.
      labels: its classes.
      digests: SHA-256 of each image's bytes, by path.
      original: gives an image's path as the user knows it.
      stores: holds the model.
      progress: is told of each image.

    Returns:
      None where there is no version.

    Raises:
      FlowImagesError: of the kind that `ask` raises; the version can't be asked.
    """
    progress = progress or Progress()
    found = whole(versions(model, stores(model)))
    if not found:
        return None
    newest = found[max(found)]
    known = _seen_by(newest, stores, progress)
    asked = [row for row, image in enumerate(images) if digests[image.path] not in known]
    options = ConnectionOptions(model=model, model_version=newest.number, model_name="in-service")
    progress.begin(f"asking version {newest.number}, which is in service", len(asked))
    try:
        answers = ask(options, [images[row].path for row in asked], stores=stores, progress=progress)
    except FlowImagesError as error:
        path = printable(newest.path)
        told = f"`max_regression`: {path}, the version in service, can't be asked: {error.args[0]}"
        raise type(error)(told, *error.args[1:]) from error
    there = {label: number for number, label in enumerate(answers.contract.labels)}
    rows, hits, new_hits = [], [], []
    for place, row in enumerate(asked):
        if images[row].label in there:
            rows.append(row)
            hits.append(answers.probabilities[place].argmax() == there[images[row].label])
            new_hits.append(labels[probabilities[row].argmax()] == images[row].label)
    lost = [original(images[row].path) for row, old, new in zip(rows, hits, new_hits, strict=True) if old and not new]
    return InService(
        version=newest.number,
        images=len(rows),
        left_out=len(images) - len(rows),
        accuracy=float(np.mean(hits)) if rows else 0.0,
        new_accuracy=float(np.mean(new_hits)) if rows else 0.0,
        lost=tuple(lost),
    )


def _seen_by(version: VersionFolder, stores: Stores, progress: Progress) -> set[str]:
    """Digests of the images that a version was trained on."""
    try:
        seen = read_training_images(version.path, stores(version.path))
    except UsageError:
        seen = None
    if seen is None:
        progress.note(
            f"WARNING: version {version.number} in {printable(version.path)} does not say which images it was trained "
            "on: if it has seen some of the test images, it looks better than it is"
        )
    return {image.digest for image in seen or () if image.split != "test"}
