"""Where the images of a run were when it was planned; checked when some are gone later."""

import itertools
import os
from collections.abc import Callable

import pydantic

from serving.errors import UsageError
from serving.storage.base import Storage, absolute, is_web, scheme, within
from serving.text.utf8_files import is_utf8


class Source(pydantic.BaseModel):
    """A folder, mount or bucket that images were in."""

    model_config = pydantic.ConfigDict(frozen=True)

    input: str
    """The input as the user gave it."""
    folder: str
    """Absolute, or of a bucket: it had something in it. Of the web, the server."""


class SourceFinder:
    """Finds the sources; it is told of each image as it is listed.

    For each input and each file system or bucket under it, that is the folder that all are below. So a mount below a
    folder is a source of its own.
    """

    def __init__(self, stores: Callable[[str], Storage]) -> None:
        """`stores` gives the store that holds a path."""
        self._stores = stores
        self._found: dict[tuple[str, str | int], Source] = {}
        self._last = ("", "")
        self._buckets: dict[str, bool] = {}

    @property
    def found(self) -> list[Source]:
        """The sources so far; of inputs with the same folder only the first."""
        distinct = {source.folder: source for source in reversed(self._found.values())}
        return list(reversed(distinct.values()))

    def note(self, given: str, path: str, seen: bool) -> None:
        """Takes an image into account.

        Args:
          given: the input that it is of.
          path: absolute, or in a bucket.
          seen: it was there, and is not only named by a list.

        Raises:
          UsageError: a list names a bucket that does not exist.
        """
        folder = "/".join(path.split("/")[:3]) if is_web(path) else path.rpartition("/")[0] or "/"
        group = "" if path == absolute(given) else given  # images that are named one by one are as those of a list
        if (given, folder) == self._last or not is_utf8(folder):
            return
        self._last = given, folder
        if is_web(path):
            self._widen(group, folder, given, folder)
        elif scheme(path):
            self._note_bucket(group, given, folder, seen)
        else:
            self._note_folder(group, given, folder, seen)

    def _note_folder(self, group: str, given: str, folder: str, seen: bool) -> None:
        try:
            device = os.stat(folder).st_dev
            if not seen and is_empty(folder):
                return
        except (OSError, ValueError):
            return
        self._widen(group, device, given, folder)

    def _note_bucket(self, group: str, given: str, folder: str, seen: bool) -> None:
        bucket = "/".join(folder.split("/")[:3])
        if seen:
            self._widen(group, bucket, given, folder)
        elif self._has_something(given, bucket):
            self._widen(group, bucket, given, bucket)

    def _widen(self, group: str, place: str | int, given: str, folder: str) -> None:
        known = self._found.setdefault((group, place), Source(input=given, folder=folder))
        if within(folder, known.folder):
            return
        common = _common(known.folder.split("/"), folder.split("/")) or "/"
        self._found[group, place] = known.model_copy(update={"folder": common})

    def _has_something(self, given: str, bucket: str) -> bool:
        if bucket not in self._buckets:
            try:
                self._buckets[bucket] = next(self._stores(bucket).walk(bucket), None) is not None
            except PermissionError:  # who may read may not be allowed to list
                self._buckets[bucket] = False
            except FileNotFoundError as error:
                raise UsageError(f"`inputs` {given}: {error}") from error
        return self._buckets[bucket]


def _common(one: list[str], other: list[str]) -> str:
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "/".join(name for name, _ in same)


def is_empty(folder: str) -> bool:
    """Has a folder of a disk nothing in it?"""
    with os.scandir(folder) as entries:
        return next(entries, None) is None
