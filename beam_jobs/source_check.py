"""Tells whether one image is gone, or its whole source, such as a mount: then no image is at fault."""

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from beam_jobs.manifest import Row
from beam_jobs.parts import BrokenPart, Parts
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.sources import Source, is_empty
from serving.errors import FileError, Resumable, StorageError
from serving.storage.base import Storage, absolute, is_web, scheme, shown, within

_ASKED = 64
"""Images that are looked for before a source is said to be gone."""


class SourceGone(StorageError, Resumable):
    """All that was in a folder or bucket is gone; the run can go on once it is back."""


class _Known(NamedTuple):
    path: str
    was_there: bool
    """It was listed in its folder, or read before; a list may name what never was."""


class SourceCheck:
    """Asked only when an image can't be read, or before a run goes on. Safe to use from several threads."""

    def __init__(self, plan: Plan, folder: RunFolder, parts: Parts, stores: Callable[[str], Storage]) -> None:
        """Reads nothing yet.

        Args:
          plan: of the run.
          folder: of the run.
          parts: of the run.
          stores: gives the store that holds a path.
        """
        self._plan = plan
        self._folder = folder
        self._parts = parts
        self._stores = stores
        self._sources = sorted(plan.sources, key=lambda source: -len(source.folder))
        self._recent: deque[str] = deque(maxlen=_ASKED)
        self._there: dict[Source, str] = {}
        self._something: dict[Source, str] = {}
        self._gone: dict[Source, str] = {}
        self._asking = threading.Lock()
        self._some = functools.lru_cache(maxsize=64)(self._choose)

    def note_read(self, path: str) -> None:
        """Takes note of a file that was read."""
        self._recent.append(path)

    def forget(self) -> None:
        """Forgets which sources were gone, as they may be back."""
        self._gone.clear()

    def before_reading(self, chunks: Sequence[int]) -> None:
        """Checks whether the sources of three of the chunks are there.

        Raises:
          SourceGone: one isn't.
        """
        for chunk in sorted({chunks[0], chunks[len(chunks) // 2], chunks[-1]} if chunks else ()):
            paths = (self._plan.locate(row.path) for row in self._rows(chunk))
            for source in {self._source_of(path) for path in paths}:
                if source:
                    self._check(source, (chunk,), self._exists)

    def after_missing(self, path: str, chunks: Sequence[int]) -> None:
        """Checks whether only this one file is gone.

        Args:
          path: of the file, where it was looked for.
          chunks: those under way, of which the file is.

        Raises:
          SourceGone: its whole source is.
        """
        source = self._source_of(path)
        if source:
            self._check(source, tuple(sorted(chunks)), self._exists, but=path)

    def after_unreadable(self, path: str, chunks: Sequence[int]) -> None:
        """Checks whether this is the only file that can't be read, although it is there.

        Args:
          path: of the file.
          chunks: those under way, of which the file is.

        Raises:
          SourceGone: no other file of its source can be read.
        """
        source = self._source_of(path)
        if source:
            self._check(source, tuple(sorted(chunks)), self._is_readable, but=path)

    def _source_of(self, path: str) -> Source | None:
        whole = absolute(path)
        return next((source for source in self._sources if within(whole, source.folder)), None)

    def _check(self, source: Source, chunks: tuple[int, ...], look: Callable[[str], bool], but: str = "") -> None:
        with self._asking:
            why = self._gone.get(source)
            if why is None and source in self._there and look(self._there[source]):
                return
            why = why or self._why_gone(source, chunks, look, but)
            if not why:
                return
            self._gone[source] = why  # the other readers of the chunk needn't look again
            raise SourceGone(
                f"{shown(source.folder)} (`inputs` {shown(source.input)}) {why}. That is no image's "
                "fault: bring it back, and the same command continues. If the files are gone for good, `fresh` lists "
                "anew what is there"
            )

    def _why_gone(self, source: Source, chunks: tuple[int, ...], look: Callable[[str], bool], but: str) -> str:
        if reason := self._folder_is_gone(source):
            return reason
        recent = [_Known(path, True) for path in tuple(self._recent) if self._source_of(path) == source]
        asked = [one for one in (*self._some(source, chunks), *recent) if one.path != but]
        if not any(one.was_there for one in asked):
            return ""
        for one in asked:
            if look(one.path):
                self._there[source] = one.path
                return ""
        found = f"of the {len(asked)} images that were looked for, such as {shown(asked[0].path)}"
        return f"has none {found}" if look == self._exists else f"can't be read any more: none {found}, can"

    def _folder_is_gone(self, source: Source) -> str:
        folder = source.folder
        try:
            if scheme(folder) == "":
                return "is empty now" if is_empty(folder) else ""
            if is_web(folder):  # which can't be listed
                return ""
            if source in self._something and self._exists(self._something[source]):
                return ""
            first = next(self._stores(folder).walk(folder), None)
            if first is None:
                return "has nothing in it any more"
            self._something[source] = first.path
            return ""
        except (FileNotFoundError, NotADirectoryError):
            return "is not there any more"
        except PermissionError:
            return ""
        except OSError as error:  # a mount whose server is gone
            return f"can't be read any more ({error.strerror})"
        except FileError as error:
            return f"can't be read any more ({error})"

    def _exists(self, path: str) -> bool:
        try:
            return self._stores(path).exists(path)
        except PermissionError:
            return True
        except FileError:
            return False

    def _is_readable(self, path: str) -> bool:
        try:
            self._stores(path).read_range(path, 0, 1)
        except PermissionError:
            return True
        except (FileNotFoundError, IsADirectoryError, FileError):
            return False
        return True

    def _choose(self, source: Source, chunks: tuple[int, ...]) -> list["_Known"]:
        """Images of the source: from some chunks, from their neighbours, and from all over the run."""
        every = range(self._plan.manifest.chunks)
        beside = {near for chunk in chunks for near in (chunk - 1, chunk, chunk + 1)}
        found = self._known_of(source, (beside & set(every)) | _quarters(every))
        if not any(one.was_there for one in found):  # a list proves nothing, so look for images that were read
            found += self._known_of(source, _quarters(sorted(self._parts.done(0))))
        known, named = ([one for one in found if one.was_there == kind] for kind in (True, False))
        return _spread(known) + _spread(named)

    def _known_of(self, source: Source, chunks: set[int]) -> list["_Known"]:
        return [one for chunk in sorted(chunks) for one in self._known(chunk) if self._source_of(one.path) == source]

    def _known(self, chunk: int) -> Iterator["_Known"]:
        try:
            read = {one.row for one in self._parts.read(0, chunk) if one.was_read}
        except (FileNotFoundError, BrokenPart):
            read = set()
        for number, row in enumerate(self._rows(chunk)):
            if not row.unnameable:
                yield _Known(self._plan.locate(row.path), row.seen or number in read)

    def _rows(self, chunk: int) -> list[Row]:
        return self._folder.read_chunk(self._plan, chunk)


def _quarters(chunks: Sequence[int]) -> set[int]:
    """The first, the last, and three between."""
    return {chunks[(len(chunks) - 1) * quarter // 4] for quarter in range(5)} if chunks else set()


def _spread(some: list[_Known]) -> list[_Known]:
    return some[:: -(-len(some) // _ASKED) or 1]
