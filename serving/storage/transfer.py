"""Copies files of a bucket to this machine's disk, several at once."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from serving.errors import FlowImagesError
from serving.storage.base import FileInfo, Storage

_AT_ONCE = 16
"""Files that are copied together: many small ones wait for the network, not for a CPU."""
_PART_BYTES = 16 * 1024 * 1024
"""Read at once of a larger file, so that copying it takes little memory."""

T = TypeVar("T")
R = TypeVar("R")


class NameLeadsOut(FlowImagesError):
    """An object has a name like `../x`, which would be written outside of the folder that it is copied to."""


def files_below(storage: Storage, folder: str) -> dict[str, FileInfo]:
    """Every file below a folder of a bucket, by its path from there."""
    root = folder.rstrip("/") + "/"
    return {info.path.removeprefix(root): info for info in storage.walk(folder)}


def download(storage: Storage, files: Mapping[str, FileInfo], folder: Path) -> None:
    """Copies files of a bucket into a folder, which is made.

    Args:
      storage: the one that holds them.
      files: by their path below the folder.
      folder: on this machine's disk.
    Raises:
      NameLeadsOut: a path leads out of the folder; then nothing was copied.
      OSError, FlowImagesError: see `serving.storage.base.Storage`.
    """
    root = folder.resolve()
    places = {(root / name).resolve(): info for name, info in files.items()}
    for place, info in places.items():
        if not place.is_relative_to(root) or place == root:
            raise NameLeadsOut(f"{info.path} would be written outside of {folder}: remove or rename it in the bucket")
    root.mkdir(parents=True, exist_ok=True)
    for parent in {place.parent for place in places}:
        parent.mkdir(parents=True, exist_ok=True)
    together(lambda place: _download_file(storage, places[place], place), places)


def _download_file(storage: Storage, info: FileInfo, place: Path) -> None:
    with place.open("wb") as file:
        if info.size is None or info.size <= _PART_BYTES:
            file.write(storage.read(info.path))
            return
        for start in range(0, info.size, _PART_BYTES):
            file.write(storage.read_range(info.path, start, min(start + _PART_BYTES, info.size)))


def together(do: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What a function gives for each item, called for several at once; after an error, no further call is begun."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        return [done.result() for done in [pool.submit(do, item) for item in items]]
    finally:
        pool.shutdown(cancel_futures=True)
