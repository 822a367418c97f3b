"""What is published in a model store: the versions of each model, and what each says of its origin."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.model_store.versions import EXTRA, TRAINING_FILE, VersionFolder, version_number, versions, whole
from serving.storage.base import Storage, scheme
from serving.storage.explained_errors import explaining
from trainer.evaluation.evaluation import EVALUATION_FILE, Evaluation
from trainer.lineage import IMAGES_FILE, TrainingImage, TrainingRecord, read_images, read_record

_AT_ONCE = 16

Content = TypeVar("Content")


@dataclass(frozen=True, kw_only=True)
class PublishedVersion:
    """A version of a model in a store."""

    model: str
    """STORE/NAME."""
    number: int
    path: str
    """The path of the version's folder."""
    is_in_service: bool
    """Is it the highest, which servers take unless they are told another?"""
    record: TrainingRecord | None
    """None where it was not trained by `flow-images train`, or its file can't be read."""
    problem: str = ""
    """Why the record can't be read."""


def list_models(store: str, storage: Storage) -> list[str]:
    """STORE/NAME of each model in a store, sorted.

    Raises:
      UsageError: there is no such folder.
      StorageError: the bucket can't be read.
    """
    root = store.rstrip("/")
    _check_folder(store)
    with explaining(f"the store {printable(store)} can't be read"):
        if not scheme(store):
            names = [
                path.name for path in Path(store).iterdir() if path.is_dir() and whole(versions(str(path), storage))
            ]
        else:
            parts = [info.path.removeprefix(f"{root}/").split("/") for info in storage.walk(store)]
            names = [part[0] for part in parts if len(part) > 2 and version_number(part[1]) is not None]
    return [f"{root}/{name}" for name in sorted(set(names)) if not name.startswith(".")]


def _check_folder(path: str) -> None:
    """Raises UsageError where nothing is at a path of this machine."""
    if not scheme(path) and not os.path.exists(path):
        raise UsageError(f"{printable(path)}: no such folder")


def list_versions(model: str, storage: Storage) -> list[PublishedVersion]:
    """The versions of a model, the highest first.

    Raises:
      UsageError: there is no such model.
      StorageError: the bucket can't be read.
    """
    _check_folder(model)
    with explaining(f"the model {printable(model)} can't be read"):
        found = whole(versions(model, storage))
    if not found:
        raise UsageError(f"{printable(model)} has no version: name STORE/NAME, as `flow-images train` publishes to")
    highest = max(found)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        records = pool.map(lambda folder: _record(folder, storage), found.values())
    listed = [
        PublishedVersion(model=model.rstrip("/"), number=folder.number, path=folder.path,
                         is_in_service=folder.number == highest, record=record, problem=problem)
        for folder, (record, problem) in zip(found.values(), records, strict=True)
    ]  # fmt: skip
    return listed[::-1]


def find_version(path: str, storage: Storage) -> PublishedVersion:
    """A version by its path, STORE/NAME/VERSION, or the one in service by STORE/NAME.

    Raises:
      UsageError: there is no such version; the message names those that there are.
    """
    model, _, last = path.rstrip("/").rpartition("/")
    number = version_number(last)
    if number is None:
        return list_versions(path, storage)[0]
    there = {version.number: version for version in list_versions(model, storage)}
    if number not in there:
        raise UsageError(f"{printable(model)} has no version {number}, but {', '.join(map(str, there))}")
    return there[number]


def read_evaluation(version: PublishedVersion, storage: Storage) -> Evaluation | None:
    """What was measured before it was published; None where it does not say.

    Raises:
      UsageError: its file is damaged.
      StorageError: the bucket can't be read.
    """
    return _parsed(version.path, EVALUATION_FILE, storage, Evaluation.model_validate_json)


def read_training_images(version: str, storage: Storage) -> list[TrainingImage] | None:
    """The images that STORE/NAME/VERSION was made of; None where it does not say.

    Raises:
      UsageError: its file is damaged.
      StorageError: the bucket can't be read.
    """
    return _parsed(version, IMAGES_FILE, storage, read_images)


def _parsed(folder: str, name: str, storage: Storage, parse: Callable[[str], Content]) -> Content | None:
    text = _read(folder, name, storage)
    try:
        return parse(text) if text else None
    except ValueError as error:
        path = printable(f"{folder}/{EXTRA}/{name}")
        raise UsageError(f"{path} is damaged: {str(error).partition(chr(10))[0]}") from error


def _record(folder: VersionFolder, storage: Storage) -> tuple[TrainingRecord | None, str]:
    text = _read(folder.path, TRAINING_FILE, storage)
    if text is None:
        return None, ""
    try:
        return read_record(text), ""
    except (ValueError, json.JSONDecodeError) as error:
        return None, f"{TRAINING_FILE} can't be read: {str(error).partition(chr(10))[0]}"


def _read(folder: str, name: str, storage: Storage) -> str | None:
    path = f"{folder}/{EXTRA}/{name}"
    with explaining(f"{printable(path)} can't be read"):
        try:
            return storage.read(path).decode()
        except (FileNotFoundError, UnicodeDecodeError):
            return None


def changed_images(
    old: Sequence[TrainingImage], new: Sequence[TrainingImage]
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Images that only the new version was made of, and those that only the old one was, by content and label."""
    before, after = ({(image.digest, image.label) for image in images} for images in (old, new))
    added = [image for image in new if (image.digest, image.label) not in before]
    removed = [image for image in old if (image.digest, image.label) not in after]
    return added, removed
