"""Kaggle's submission file: an id and a score for each class, with a row for every image that is listed."""

from collections.abc import Sequence

from serving.storage.base import without_query


def image_id(path: str, given: str | None = None) -> str:
    """The id of an image: the one that was given, else the file's name without its ending."""
    return given if given is not None else without_query(path).rsplit("/", 1)[-1].rsplit(".", 1)[0]


def columns(labels: Sequence[str]) -> list[str]:
    """Names of the columns."""
    return ["id", *labels]


def values(identifier: str, scores: Sequence[float], labels: Sequence[str]) -> list[str | float]:
    """A row.

    Args:
      identifier: of the image.
      scores: one for each label; none of an image that was not predicted. Kaggle wants a row for it, too, so each
        class gets the same.
      labels: the classes, in the order of `columns`.
    """
    return [identifier, *(scores or [1 / len(labels)] * len(labels))]
