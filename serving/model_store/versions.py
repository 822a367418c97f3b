"""What a version of a model is: the folder `STORE/NAME/VERSION/`, whole once it has a `saved_model.pb`."""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.storage.base import FileInfo, Storage, scheme
from serving.text.utf8_files import is_utf8

MODEL_FILE = "saved_model.pb"
"""The file that is published last: a version without it is still being written, or was never finished."""
MODEL_FILES = (MODEL_FILE, "saved_model.pbtxt")
"""What TensorFlow Serving takes for a model. Ours have the first."""
HIGHEST_VERSION = 2**63 - 1
"""TensorFlow Serving holds a version's number in a signed 64-bit integer."""
EXTRA = "assets.extra"
"""The folder of a version for what is no part of the graph, such as the contract."""
TRAINING_FILE, REPORT_FILE = "training.json", "report.html"
"""What a version says of its training: a record in EXTRA, and a page beside the model."""
PUBLISHING = ".publishing"
"""The object in a version folder of a bucket that says which publisher is at work there."""


class VersionFolder(NamedTuple):
    """A folder whose name is a version, on a disk or in a bucket."""

    number: int
    path: str
    """The path of the folder, as it is named there: `STORE/NAME/007` is version 7."""
    is_whole: bool
    files: Mapping[str, FileInfo]
    """The files of a version in a bucket, by their path below the folder. Empty for a version on a disk."""


def version_number(name: str) -> int | None:
    """The version that a folder of this name holds, as TensorFlow Serving sees it; None if it holds none.

    Digits alone count, with zeros before them or not, up to HIGHEST_VERSION.
    """
    if not (name.isascii() and name.isdigit() and len(name.lstrip("0")) < 20):
        return None
    number = int(name)
    return number if number <= HIGHEST_VERSION else None


def check_model_name(name: str) -> None:
    """Raises UsageError for a name that can't become part of a URL, as TensorFlow Serving's REST API needs it."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise UsageError(
            f"`name` {printable(name)}: expected letters, digits, '.', '-' and '_', as it becomes part of URLs"
        )


def check_model_path(field: str, path: str) -> None:
    """Refuses a path that TensorFlow can't load a SavedModel from.

    Raises:
      UsageError: it is not UTF-8, or has characters that TensorFlow reads as a pattern.
    """
    name = f"`{field}` {printable(path)}"
    if not is_utf8(path):
        raise UsageError(f"{name}: the name is not UTF-8: rename it")
    if pattern := set(path if scheme(path) else os.path.abspath(path)) & set("*?[\\"):
        raise UsageError(
            f"{name}: TensorFlow loads no model from a path with {' '.join(sorted(pattern))} in it, which it reads as "
            "a pattern: take another folder"
        )


def versions(model: str, storage: Storage) -> dict[int, VersionFolder]:
    """Every version folder of a model, whole or not, by its number.

    Args:
      model: STORE/NAME, on a disk or in a bucket.
      storage: the one that holds it.

    Raises:
      OSError: on a disk, the folder can't be read; in a bucket, see `serving.storage.base.Storage`.
    """
    return _in_bucket(model, storage) if scheme(model) else versions_on_disk(model)


def versions_on_disk(model: str | os.PathLike[str]) -> dict[int, VersionFolder]:
    """Does what `versions` does, for a folder on a disk."""
    with os.scandir(model) as entries:
        numbered = [(entry, version_number(entry.name)) for entry in entries]
    return _by_number(
        VersionFolder(number, entry.path, _has_model(entry.path), {})
        for entry, number in sorted(numbered, key=lambda found: found[0].name)
        if number is not None
    )


def _has_model(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in MODEL_FILES)


def _in_bucket(model: str, storage: Storage) -> dict[int, VersionFolder]:
    root = model.rstrip("/") + "/"
    files: dict[str, dict[str, FileInfo]] = {}
    for info in storage.walk(model):
        folder, _, name = info.path.removeprefix(root).partition("/")
        if name:
            files.setdefault(folder, {})[name] = info
    return _by_number(
        VersionFolder(number, root + folder, any(name in there for name in MODEL_FILES), there)
        for folder, there in sorted(files.items())
        if (number := version_number(folder)) is not None
    )


def _by_number(folders: Iterable[VersionFolder]) -> dict[int, VersionFolder]:
    """One folder a number: of `7` and `007` the whole one, of two whole ones the last."""
    found: dict[int, VersionFolder] = {}
    for folder in folders:
        if folder.is_whole or folder.number not in found:
            found[folder.number] = folder
    return found


def whole(found: Mapping[int, VersionFolder]) -> dict[int, VersionFolder]:
    """The versions that can be served, lowest first."""
    return {number: found[number] for number in sorted(found) if found[number].is_whole}


def models_in(store: str | os.PathLike[str]) -> str:
    """A hint for somebody who named the store, and not a model in it; empty where there is none."""
    with contextlib.suppress(OSError):
        models = sorted(
            entry.path for entry in os.scandir(store) if entry.is_dir() and whole(versions_on_disk(entry.path))
        )
        return f"do you mean {' or '.join(models[:3])}?" if models else ""
    return ""
