"""What is wrong with a model's base path, in plain words, before anything heavy is imported."""

from __future__ import annotations

import os

from serving.server.status import Code, ServingError


def absolute(path: str | os.PathLike[str]) -> str:
    """A local path made absolute, as TensorFlow Serving wants it; gs:// and the like stay as they are."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def whole_versions(path: str | os.PathLike[str]) -> dict[int, str]:
    """The version folders of a model's folder on a disk that hold a SavedModel, version to path."""
    numbered = (entry for entry in os.scandir(path) if entry.name.isascii() and entry.name.isdigit())
    models = ("saved_model.pb", "saved_model.pbtxt")
    return {
        int(entry.name): entry.path
        for entry in numbered
        if any(os.path.exists(os.path.join(entry.path, model)) for model in models)
    }


def check_base_path(path: str) -> None:
    """Says plainly what is wrong with a model's base path.

    Raises:
      ServingError: NOT_FOUND if it is missing or holds no version folder; UNIMPLEMENTED for s3://.
    """
    if path.startswith("s3://"):
        raise ServingError(
            Code.UNIMPLEMENTED, f"{path}: TensorFlow can't read s3://; copy the model to a local folder and serve that"
        )
    if "://" in path:
        return
    if not os.path.isdir(path):
        raise ServingError(Code.NOT_FOUND, f"no such folder: {path}")
    if not any(name.isascii() and name.isdigit() for name in os.listdir(path)):
        hint = f"; it is a SavedModel itself, so serve its parent as a version folder: move it to {path}/1"
        is_model = os.path.exists(os.path.join(path, "saved_model.pb"))
        raise ServingError(
            Code.NOT_FOUND,
            f"no version folder in {path}: a model's folder holds folders named 1, 2, … with a saved_model.pb in each"
            + (hint if is_model else ""),
        )
