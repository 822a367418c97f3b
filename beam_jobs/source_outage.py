"""Tells whether one image is gone or can't be read, or its whole source, such as a mount: then no image is at fault."""

import contextlib
import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from beam_jobs.image_lists import is_list
from beam_jobs.known_sources import Source, is_empty
from beam_jobs.manifest import Row
from beam_jobs.parts import BrokenPart, Parts
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.read_patience import ReadPatience
from serving.errors import FileError, Resumable, StorageError, StorageUnavailable
from serving.storage.base import absolute, is_web, place_of, scheme, shown, within
from serving.storage.retrying_store import RetryingStorage
from serving.storage.transfer import together

_ASKED = 64
"""Images that are looked for before a source is said to be gone."""
_TRIED = 16
"""Images that are tried before a source is said not to answer: all at once, as each may take a time-out."""


class SourceGone(StorageError, Resumable):
    """All that was in a folder or bucket is gone; the run can go on once it is back."""


class _Known(NamedTuple):
    path: str
    was_there: bool
    """It was listed in its folder, or read before; a list may name a file that never existed."""


class SourceCheck:
    """Asked only when an image can't be read, or before a run goes on. Safe to use from several threads."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        parts: Parts,
        stores: Callable[[str], RetryingStorage],
        patience_s: float = 0.0,
    ) -> None:
        """Reads nothing yet.

        Args:
          plan: of the run.
          folder: of the run.
          parts: of the run.
          stores: gives the store that holds a path.
          patience_s: how long to try an image whose place does not answer.
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
        self._patience = ReadPatience(patience_s)
        self._read_at: dict[str, float] = {}
        self._silent: set[str] = set()
        self._asking = threading.Lock()
        self._source_below = functools.lru_cache(maxsize=4096)(self._find_source)
        self._some = functools.lru_cache(maxsize=64)(self._choose)

    def patience_s(self, path: str) -> float:
        """How long to go on trying a file whose place does not answer."""
        return self._patience.seconds(self._place_of(path))

    def note_read(self, path: str, *, tried_again: bool = False) -> None:
        """Takes note of a file that was read, perhaps after tries that failed."""
        self._recent.append(path)
        self._read_at[self._input_of(path)] = time.monotonic()
        self._patience.note_read(self._place_of(path), tried_again=tried_again)

    def forget(self) -> None:
        """Forgets which sources were gone or did not answer, as they may be back."""
        self._gone.clear()
        self._silent.clear()

    def before_reading(self, chunks: Sequence[int]) -> None:
        """Checks whether the sources of three of the chunks are there.

        Raises:
          SourceGone: one isn't.
        """
        for chunk in sorted({chunks[0], chunks[len(chunks) // 2], chunks[-1]} if chunks else ()):
            paths = (row.path for row in self._rows(chunk))
            for source in {self._source_of(path) for path in paths}:
                if source:
                    with contextlib.suppress(StorageUnavailable):  # the reads tell whether others answer
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

    def fails_alone(self, path: str, chunks: Sequence[int], since: float) -> bool:
        """Is this file's place the only one that does not answer, or only for this file?

        Otherwise nothing that its input names can be read for now, which is not an image's fault. A list may name
        images of many web servers: one of them that is gone for ever is no reason to read nothing of the others.

        Args:
          path: of the file, which was tried for all of its patience.
          chunks: those under way, of which the file is.
          since: when it was tried first, by `time.monotonic`.
        """
        named = self._input_of(path)
        with self._asking:
            if self._read_at.get(named, float("-inf")) < since:
                if named in self._silent or not any(together(self._answers, self._others(path, tuple(sorted(chunks))))):
                    self._silent.add(named)
                    return False
                self._read_at[named] = time.monotonic()
        self._patience.note_failed_alone(self._place_of(path), since)
        return True

    def _others(self, path: str, chunks: tuple[int, ...]) -> list[str]:
        """Files of the same input: one of each place first, and in each those that were read before."""
        recent = [_Known(one, True) for one in reversed(tuple(self._recent))]
        known = [*recent, *(one for chunk in self._around(chunks) for one in self._known(chunk))]
        named = self._input_of(path)
        found = {one.path: one for one in known if one.path != path and self._input_of(one.path) == named}
        places: Counter[str] = Counter()
        ranked = []
        for one in sorted(found.values(), key=lambda one: not one.was_there):
            place = self._place_of(one.path)
            ranked.append((places[place], one.path))
            places[place] += 1
        return [one for _, one in sorted(ranked, key=lambda pair: pair[0])[:_TRIED]]

    def _answers(self, path: str) -> bool:
        """Is a file read when it is tried once, or does its place at least say why not?"""
        try:
            self._once(path).read_range(path, 0, 1)
        except PermissionError:
            return True
        except StorageUnavailable:
            return False
        except (FileNotFoundError, IsADirectoryError, FileError):
            return scheme(path) != ""  # a disk says so of a mount that is gone, too
        return True

    def _once(self, path: str) -> RetryingStorage:
        """The store of a path, whose calls are tried once."""
        return self._stores(path).within(lambda: 0.0)

    def _input_of(self, path: str) -> str:
        """The input that names a file; "" for all that are named one by one, and where it isn't known."""
        source = self._source_of(path)
        return "" if source is None or (is_web(source.input) and not is_list(source.input)) else source.input

    def _place_of(self, path: str) -> str:
        """The web server or bucket of a file; on a disk its source."""
        source = None if scheme(path) else self._source_of(path)
        return source.folder if source else place_of(path)

    def _source_of(self, path: str) -> Source | None:
        return self._source_below(absolute(path).rpartition("/")[0] or "/")

    def _find_source(self, folder: str) -> Source | None:
        return next((source for source in self._sources if within(folder, source.folder)), None)

    def _check(self, source: Source, chunks: tuple[int, ...], look: Callable[[str], bool], but: str = "") -> None:
        with self._asking:
            why = self._gone.get(source)
            if why is None and source in self._there:
                with contextlib.suppress(StorageUnavailable):
                    if look(self._there[source]):
                        return
            why = why or self._why_gone(source, chunks, look, but)
            if not why:
                return
            self._gone[source] = why  # the other readers of the chunk needn't look again
            raise SourceGone(
                f"{shown(source.folder)} (`inputs` {shown(source.input)}) {why}. That is not an image's "
                "fault: bring it back, and the same command continues. If the files are gone for good, `fresh` lists "
                "again what is there"
            )

    def _why_gone(self, source: Source, chunks: tuple[int, ...], look: Callable[[str], bool], but: str) -> str:
        if reason := self._folder_is_gone(source):
            return reason
        recent = [_Known(path, True) for path in tuple(self._recent) if self._source_of(path) == source]
        asked = [one for one in (*self._some(source, chunks), *recent) if one.path != but]
        if not any(one.was_there for one in asked):
            return ""
        unanswered = ""
        for one in asked:
            try:
                if look(one.path):
                    self._there[source] = one.path
                    return ""
            except StorageUnavailable:
                unanswered = one.path
        if unanswered and (is_web(unanswered) or self._stores(unanswered).exists(unanswered)):
            return ""  # of the web, what says that it has no such file has answered
        found = f"of the {len(asked)} images that were looked for, such as {shown(asked[0].path)}"
        return f"has none {found}" if look == self._exists else f"can no longer be read: none {found}, can"

    def _folder_is_gone(self, source: Source) -> str:
        folder = source.folder
        try:
            if scheme(folder) == "":
                return "is empty now" if is_empty(folder) else ""
            if is_web(folder):  # which can't be listed
                return ""
            if source in self._something and self._exists(self._something[source]):
                return ""
            first = next(self._once(folder).walk(folder), None)
            if first is None:
                return "is empty now"
            self._something[source] = first.path
            return ""
        except (FileNotFoundError, NotADirectoryError):
            return "has gone away"
        except (PermissionError, StorageUnavailable):
            return ""
        except OSError as error:  # a mount whose server is gone
            return f"can no longer be read ({error.strerror})"
        except FileError as error:
            return f"can no longer be read ({error})"

    def _exists(self, path: str) -> bool:
        try:
            return self._once(path).exists(path)
        except PermissionError:
            return True
        except FileError:
            return False

    def _is_readable(self, path: str) -> bool:
        try:
            self._once(path).read_range(path, 0, 1)
        except PermissionError:
            return True
        except (FileNotFoundError, IsADirectoryError, FileError):
            return False
        return True

    def _choose(self, source: Source, chunks: tuple[int, ...]) -> list["_Known"]:
        """Images of the source: from some chunks, from their neighbours, and from all over the run."""
        found = self._known_of(source, self._around(chunks))
        if not any(one.was_there for one in found):  # a list proves nothing, so look for images that were read
            found += self._known_of(source, _quarters(sorted(self._parts.done(0))))
        known, named = ([one for one in found if one.was_there == kind] for kind in (True, False))
        return _spread(known) + _spread(named)

    def _around(self, chunks: tuple[int, ...]) -> list[int]:
        every = range(self._plan.manifest.chunks)
        beside = {near for chunk in chunks for near in (chunk - 1, chunk, chunk + 1)}
        return sorted((beside & set(every)) | _quarters(every))

    def _known_of(self, source: Source, chunks: Collection[int]) -> list["_Known"]:
        return [one for chunk in sorted(chunks) for one in self._known(chunk) if self._source_of(one.path) == source]

    def _known(self, chunk: int) -> Iterator["_Known"]:
        try:
            read = {one.row for one in self._parts.read(0, chunk) if one.was_read}
        except (FileNotFoundError, BrokenPart):
            read = set()
        for number, row in enumerate(self._rows(chunk)):
            if not row.unnameable:
                yield _Known(row.path, row.seen or number in read)

    def _rows(self, chunk: int) -> list[Row]:
        return self._folder.read_places(self._plan, chunk)


def _quarters(chunks: Sequence[int]) -> set[int]:
    """The first, the last, and three between."""
    return {chunks[(len(chunks) - 1) * quarter // 4] for quarter in range(5)} if chunks else set()


def _spread(some: list[_Known]) -> list[_Known]:
    return some[:: -(-len(some) // _ASKED) or 1]
