"""What a user names as input, as a stream of images: globs, folders, lists, CSVs, wherever they are."""

import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from beam_jobs.glob_patterns import Below, has_magic, split_pattern
from beam_jobs.image_lists import Named, check_kind, is_list, is_text, read_list
from beam_jobs.known_sources import Source, SourceFinder
from beam_jobs.path_hints import spelling_hint, why_not_there
from serving.errors import StorageError, StorageUnavailable, UsageError
from serving.storage.base import Storage, absolute, is_web, scheme, shown, within
from serving.storage.disk import disk_errors
from serving.storage.local_file import why_unreadable
from serving.storage.stores import Stores
from serving.text.utf8_files import is_utf8

_LOG = logging.getLogger(__name__)
_EVERYTHING = Below("**")
_FIRST = 10
"""Images of a list that are looked for before the run."""


class Listed(NamedTuple):
    """An image as it was listed; paths from folders, lists and CSVs are names, never patterns."""

    path: str
    """The path as the user gave it. Bytes that aren't UTF-8 stand as lone surrogates (PEP 383)."""
    size: int | None = None
    id: str | None = None
    label: str | None = None
    """The right answer, if a CSV has it."""
    seen: bool = False
    """There was such a file when it was listed; a list may name a file that never existed."""


def list_images(
    inputs: Sequence[str],
    *,
    leave_out: Sequence[str] = (),
    stores: Callable[[str], Storage] | None = None,
    images: str | None = None,
) -> "Listing":
    """Every image of the inputs, in no order, repeated ones included.

    Args:
      inputs: globs (`**/` is any number of folders, none too), folders (every file in them that isn't hidden, and no
        list or other text), lists (see `read_list`), single images. What is there by the very name that is given is no
        glob. Links to folders below a folder or in place of `**/` are not followed: they may lead in circles.
      leave_out: files and folders that are never input, such as a run's own.
      stores: gives the store that holds a path; None for those of the environment.
      images: the folder that a list's relative paths and ids are in; None for the working directory.
    """
    return Listing(inputs, leave_out, stores or Stores(), images)


def check_inputs(inputs: Sequence[str], stores: Callable[[str], Storage], images: str | None = None) -> None:
    """Refuses inputs that name nothing, before a server is waited for: each is listed up to its first image.

    Raises:
      UsageError: an input that isn't there, or that no storage can hold; a folder or pattern without images; a list
        whose first images aren't there.
    """
    for given in inputs:
        _check_name(given)
        stores(given)
        _check_kind(given)
        if is_list(given) and (scheme(given) or os.path.isfile(given)):
            Listing([given], [], stores, images).check_list(given)
        elif not scheme(given) and not os.path.exists(given) and not has_magic(given):
            raise _not_there(given)
        else:
            next(iter(Listing([given], [], stores, images)), None)


class Listing:
    """The images of some inputs. To be iterated once; then it has what was left out, and where images were."""

    def __init__(
        self,
        inputs: Sequence[str],
        leave_out: Sequence[str],
        stores: Callable[[str], Storage],
        images: str | None = None,
    ) -> None:
        """See `list_images`."""
        self._images = images
        self._inputs = inputs
        self._own = [absolute(path) for path in leave_out]
        self._stores = stores
        self._places = SourceFinder(stores)
        self.left_out: Counter[str] = Counter()
        """Number of files and folders that were left out, by reason."""
        self._unfollowed: list[str] = []
        self._unreadable: list[str] = []

    @property
    def sources(self) -> list[Source]:
        """The places where images were found."""
        return self._places.found

    def __iter__(self) -> Iterator[Listed]:
        """The images.

        Raises:
          UsageError: an input that isn't there, can't be read or holds no image, or a path that no storage can hold.
          StorageUnavailable: a bucket is away.
        """
        spelled: dict[str, str] = {}
        for given in self._inputs:
            _check_name(given)
            # So that a folder which is named twice in two ways is found to be one.
            one = spelled.setdefault(absolute(given), given)
            taken = 0
            before = self.left_out.copy()
            for listed in self._expand(one):
                path = absolute(listed.path)
                if self._is_own(path):
                    self.left_out["own_files"] += 1
                    continue
                taken += 1
                self._places.note(one, path, listed.seen)
                yield listed
            if not taken:
                raise UsageError(_nothing(one, self.left_out - before))
        _warn("links to folders are not followed (name them by `inputs` of their own)", self._unfollowed)
        _warn("folders that may not be read are left out", self._unreadable)

    def _expand(self, one: str) -> Iterator[Listed]:
        storage = self._stores(one)
        _check_kind(one)
        try:
            if is_list(one) and storage.exists(one):
                yield from self._listed_in(one, storage)
            elif is_web(one):
                yield self._on_web(one, storage)
            elif scheme(one):
                yield from self._remote(one, storage)
            else:
                yield from self._local(one)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise UsageError(f"`inputs` {shown(one)}: {why_unreadable(error)}") from error

    def check_list(self, one: str) -> None:
        """Refuses a list none of whose first images is there: then the list is wrong, not the images.

        Raises:
          UsageError: how they may be meant.
        """
        first = list(itertools.islice(self._named_in(one, self._stores(one)), _FIRST))
        if first and not any(self._is_there(named.path) for named in first):
            raise UsageError(_none_there(one, first))

    def _listed_in(self, one: str, storage: Storage) -> Iterator[Listed]:
        for named in self._named_in(one, storage):
            yield Listed(named.path, None, named.id, named.label)

    def _named_in(self, one: str, storage: Storage) -> Iterator[Named]:
        try:
            data = storage.read(one)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise UsageError(f"`inputs` {shown(one)}: {why_unreadable(error)}") from error
        for named in read_list(data, one, lambda path: self._stores(path).exists(path), self._images):
            self._check_path(one, named)
            yield named

    def _check_path(self, one: str, named: Named) -> None:
        try:
            self._stores(named.path)  # refuses what no store can hold before anything is sent
        except UsageError as error:
            raise UsageError(f"`inputs` {shown(one)}, {named.where}: {error}") from error

    def _is_there(self, path: str) -> bool:
        """Is there such an image, as far as a quick look tells? A web server is asked when the image is read."""
        if is_web(path):
            return True
        if not scheme(path):
            return os.path.lexists(os.fsencode(path)) if "\0" not in path else False
        try:
            return self._stores(path).exists(path)
        except (OSError, StorageError):
            return True

    def _is_own(self, path: str) -> bool:
        return any(within(path, mine) for mine in self._own)

    def _is_text(self, name: str, path: str) -> bool:
        """Is it a text among images? It is counted; a file of the run itself is counted as that."""
        if not is_text(name) or self._is_own(absolute(path)):
            return False
        self.left_out["texts"] += 1
        return True

    def _local(self, one: str) -> Iterator[Listed]:
        if os.path.isfile(one):
            yield Listed(one, seen=True)
        elif os.path.isdir(one):
            yield from self._below(re.sub("/+$", "", one) or "/", _EVERYTHING)
        elif has_magic(one):
            folder, wanted = split_pattern(re.sub("/+", "/", one))
            if os.path.isdir(folder or "."):
                yield from self._below(folder, Below(wanted))
        else:
            raise _not_there(one)

    def _below(self, top: str, wanted: Below) -> Iterator[Listed]:
        """Files in a folder and those below it; "" is the current one."""
        folders = [(top, "", 0)]
        while folders:
            folder, relative, level = folders.pop()
            try:
                with disk_errors(folder or "."), os.scandir(folder or ".") as entries:
                    for entry in entries:
                        path = os.path.join(folder, entry.name)
                        is_link = entry.is_symlink()
                        if not (entry.is_dir(follow_symlinks=False) or (is_link and os.path.isdir(path))):
                            is_meant = self._is_meant(wanted.takes(relative + entry.name), "hidden_files")
                            if is_meant and not self._is_text(entry.name, path):
                                yield Listed(path, seen=not is_link or os.path.exists(path))
                        elif self._is_meant(wanted.enters(level, entry.name), "hidden_folders"):
                            if is_link and not wanted.follows_links(level):
                                self.left_out["linked_folders"] += 1
                                self._unfollowed.append(path)
                            else:
                                folders.append((path, f"{relative}{entry.name}/", level + 1))
            except PermissionError as error:
                if folder == top:
                    raise UsageError(f"`inputs`: the folder {folder or '.'} may not be read") from error
                self.left_out["unreadable_folders"] += 1
                self._unreadable.append(folder)
            except FileNotFoundError:  # removed a moment ago
                if folder == top:
                    raise

    def _on_web(self, one: str, storage: Storage) -> Listed:
        """The one file of a URL, in which nothing is a pattern."""
        try:
            if storage.exists(one):
                return Listed(one, seen=True)
        except StorageUnavailable:  # what is read tells whether only this one does not answer
            return Listed(one)
        raise UsageError(
            f"`inputs` {shown(one)}: there is no such file. A web server is asked for single files, not for folders or "
            "globs: name the images' URLs in a .txt or .csv, or give the bucket behind it as gs://, s3:// or az://"
        )

    def _remote(self, one: str, storage: Storage) -> Iterator[Listed]:
        if not one.endswith("/") and storage.exists(one):
            yield Listed(one, seen=True)
            return
        folder, wanted = one.rstrip("/") + "/", _EVERYTHING
        if has_magic(one) and next(storage.walk(folder), None) is None:
            folder, pattern = split_pattern(one)
            wanted = Below(pattern)
        hidden = ""
        for info in storage.walk(folder):
            below = info.path[len(folder) :]
            unseen = self._hidden_folder(wanted, below)
            if unseen is None:
                if self._is_meant(wanted.takes(below), "hidden_files") and not self._is_text(below, info.path):
                    yield Listed(info.path, info.size, seen=True)
            elif unseen and unseen != hidden:  # a listing is sorted, so what is in one folder comes in a row
                hidden = unseen
                self.left_out["hidden_folders"] += 1

    def _hidden_folder(self, wanted: Below, path: str) -> str | None:
        """The first folder on the way to a file that is hidden; "" if one is not meant at all, None if all are."""
        end = path.find("/")
        start = level = 0
        while end >= 0:
            decision = wanted.enters(level, path[start:end])
            if decision != "yes":
                return path[: end + 1] if decision == "hidden" else ""
            start, level, end = end + 1, level + 1, path.find("/", end + 1)
        return None

    def _is_meant(self, decision: str, why_not: str) -> bool:
        if decision == "hidden":
            self.left_out[why_not] += 1
        return decision == "yes"


LEFT_OUT = {
    "hidden_files": ("hidden file", "hidden files"),
    "hidden_folders": ("hidden folder", "hidden folders"),
    "linked_folders": ("link to a folder", "links to folders"),
    "unreadable_folders": ("folder that may not be read", "folders that may not be read"),
    "texts": ("list or other text", "lists and other texts"),
    "own_files": ("file of this run", "files of this run"),
}
"""The reasons in words, for one and for more, by their names in run.json."""


def left_out_in_words(left_out: Mapping[str, int]) -> str:
    """One line, or "" if nothing was left out."""
    return ", ".join(
        f"{number:,} {words[number != 1]}" for why, words in LEFT_OUT.items() if (number := left_out.get(why, 0))
    )


def _check_name(given: str) -> None:
    if not given:
        raise UsageError("`inputs` is empty")
    if not is_utf8(given):
        raise UsageError(f"`inputs` {given!r}: the name is not UTF-8; rename it, or name the folder above it")


def _check_kind(given: str) -> None:
    if scheme(given) or os.path.isfile(given):
        check_kind(given)


def _nothing(one: str, left_out: Counter[str]) -> str:
    words = left_out_in_words(left_out)
    if is_list(one):
        why = "names no image: it has no line with a path"
    elif has_magic(one):
        why = "matches no image; check the path"
    else:
        why = "has no image in it"
    return f"`inputs` {shown(one)} {why}" + (f" (left out: {words})" if words else "")


def _not_there(one: str) -> UsageError:
    return UsageError(f"`inputs` {one}: {why_not_there(one)}")


def _none_there(one: str, first: Sequence[Named]) -> str:
    """The message for a list none of whose first images is there."""
    path = first[0].path
    hint = "" if scheme(path) else spelling_hint(path, os.path.dirname(one))
    others = f", nor any of the next {len(first) - 1}" if first[1:] else ""
    return f"`inputs` {shown(one)}, {first[0].where}: there is no {shown(path)}{others}; {hint or 'correct the paths'}"


def _warn(text: str, paths: Sequence[str]) -> None:
    if paths:
        _LOG.warning("%s: %s%s", text, ", ".join(paths[:3]), f" and {len(paths) - 3:,} more" if paths[3:] else "")
