"""What is wrong with a model's base path, in plain words, before anything heavy is imported."""

import os

from serving.model_store.versions import MODEL_FILES, models_in, version_number
from serving.server.rpc.status_error import Code, StatusError


def absolute(path: str | os.PathLike[str]) -> str:
    """A local path made absolute, as TensorFlow Serving wants it; gs:// and the like stay as they are."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def check_base_path(path: str) -> None:
    """Says plainly what is wrong with a model's base path.

    Raises:
      StatusError: NOT_FOUND if it is missing or holds no version folder; PERMISSION_DENIED if it can't be read;
        UNIMPLEMENTED for s3://.
    """
    if path.startswith("s3://"):
        raise StatusError(
            Code.UNIMPLEMENTED, f"{path}: TensorFlow can't read s3://; copy the model to a local folder and serve that"
        )
    if "://" in path:
        return
    try:
        names = os.listdir(path)
    except NotADirectoryError as error:
        raise StatusError(Code.NOT_FOUND, f"{path} is a file, not a folder") from error
    except FileNotFoundError as error:
        raise StatusError(Code.NOT_FOUND, f"{path}: no such folder") from error
    except OSError as error:
        raise StatusError(Code.PERMISSION_DENIED, f"{path} can't be read: {error.strerror}") from error
    if any(version_number(name) is not None for name in names):
        return
    hint = f"; {models}" if (models := models_in(path)) else ""
    if not set(MODEL_FILES).isdisjoint(names):
        parent, name = os.path.split(path.rstrip("/"))
        hint = f"; it is a SavedModel itself: move it to {path}/1"
        if version_number(name) is not None:
            hint = f"; it is a version folder itself: give the folder that it is in, {parent}"
    raise StatusError(
        Code.NOT_FOUND,
        f"no version folder in {path}: a model's folder holds folders named 1, 2, … with a saved_model.pb in each"
        + hint,
    )
