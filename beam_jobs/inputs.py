"""What a user names as input, as a stream of pictures: globs, folders, lists and CSVs, on a disk or in a bucket."""

import csv
import fnmatch
import glob
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from beam_jobs.storage import FileInfo, scheme, storage_for
from serving.errors import UsageError

_LOG = logging.getLogger(__name__)
_LISTS = (".txt", ".csv")


class Listed(NamedTuple):
    """A picture as it was listed; paths from folders, lists and CSVs are names, never patterns."""

    path: str
    """As the user gave it. Bytes that aren't UTF-8 stand as lone surrogates (PEP 383)."""
    size: int | None = None
    id: str | None = None
    label: str | None = None
    """The right answer, if a CSV has it."""


def list_pictures(
    inputs: Sequence[str], *, leave_out: Sequence[str] = (), beam_flags: Sequence[str] = ()
) -> Iterator[Listed]:
    """Every picture of the inputs, in no order, repeated ones included.

    Args:
      inputs: globs (`**/` is any number of folders, none too), folders (every file in them that isn't hidden), text
        files (a path a line), CSVs (a column `path`, and perhaps `id` and `label`), single pictures. Links to folders
        below a folder or in place of `**/` are not followed: they may lead in circles.
      leave_out: files and folders that are never input, such as a run's own.
      beam_flags: for buckets.
    Raises:
      UsageError: an input that isn't there or can't be read, or a path that no storage can hold.
    """
    own = [_absolute(path) for path in leave_out]
    for one in inputs:
        if not one:
            raise UsageError("--input is empty")
        for listed in _expand(one, beam_flags):
            storage_for(listed.path, beam_flags)  # a scheme that nobody can read is told before anything is sent
            path = _absolute(listed.path)
            if not any(path == mine or path.startswith(mine + "/") for mine in own):
                yield listed


def _expand(one: str, beam_flags: Sequence[str]) -> Iterable[Listed]:
    if one.lower().endswith(_LISTS) and storage_for(one, beam_flags).exists(one):
        return _listed_in(one, beam_flags)
    found = _local(one) if scheme(one) == "" else _remote(one, beam_flags)
    return (Listed(info.path, info.size) for info in found)


def _local(one: str) -> Iterator[FileInfo]:
    if os.path.isfile(one):
        yield FileInfo(one, None)
    elif os.path.isdir(one):
        yield from _below(one)
    elif "**" in one:
        # Not by `glob`, which follows links: one that leads upwards lists a picture 40 times, two of them 2^40 times.
        top, wanted = one[: one.rfind("/", 0, one.index("**")) + 1], re.compile(glob_to_regex(one), re.DOTALL)
        for folder in glob.iglob(top) if glob.has_magic(top) else [top]:
            yield from (info for info in _below(folder) if wanted.fullmatch(info.path))
    elif glob.has_magic(one):
        yield from (FileInfo(path, None) for path in glob.iglob(one) if not os.path.isdir(path))
    else:
        raise UsageError(f"--input {one}: no such file or folder")


def _below(top: str) -> Iterator[FileInfo]:
    """Every file in a folder and those below it, hidden ones left out; "" is the current one."""
    folders, links = [top], []
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder or ".") as entries:
                for entry in entries:
                    path = os.path.join(folder, entry.name)
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    elif entry.is_symlink() and os.path.isdir(path):
                        links.append(path)
                    else:
                        yield FileInfo(path, None)
        except OSError as error:
            raise UsageError(f"--input: the folder {folder} can't be listed: {error.strerror}") from error
    if links:
        _LOG.warning("links to folders are not followed (name them by --input of their own): %s%s",
                     ", ".join(links[:3]), ", …" if links[3:] else "")  # fmt: skip


def _remote(one: str, beam_flags: Sequence[str]) -> Iterator[FileInfo]:
    storage = storage_for(one, beam_flags)
    try:
        if not glob.has_magic(one):
            if not one.endswith("/") and storage.exists(one):
                yield FileInfo(one, None)
            else:
                for info in storage.walk(one):
                    if not re.search(r"/\.", info.path[len(one.rstrip("/")) :]):
                        yield info
            return
        literal = re.match(r"[^*?[]*", one)
        folder = (literal.group() if literal else one).rpartition("/")[0]
        wanted = re.compile(glob_to_regex(one), re.DOTALL)
        yield from (info for info in storage.walk(folder) if wanted.fullmatch(info.path))
    except (FileNotFoundError, PermissionError) as error:
        raise UsageError(f"--input {one}: {error}") from error


def glob_to_regex(pattern: str) -> str:
    """A regular expression for whole object names; `*` and `?` stay within a folder, `**/` is zero or more folders."""
    out = []
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\]|.", pattern, re.DOTALL):
        if token == "**/":
            out.append("(?:[^/]+/)*")
        elif token == "**":
            out.append(".*")
        elif token == "*":
            out.append("[^/]*")
        elif token == "?":
            out.append("[^/]")
        elif len(token) > 1:
            out.append(re.sub(r"\\[Zz]$", "", fnmatch.translate(token)))
        else:
            out.append(re.escape(token))
    return "".join(out)


def _listed_in(path: str, beam_flags: Sequence[str]) -> Iterator[Listed]:
    try:
        data = storage_for(path, beam_flags).read(path)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UsageError(f"--input {path}: {error}") from error
    # A path of a list may hold bytes that aren't UTF-8, as names on a disk may.
    text = data.decode("utf-8-sig", errors="surrogateescape")
    if path.lower().endswith(".txt"):
        return (Listed(line) for line in re.split(r"\r?\n", text) if line)
    return _rows(path, text)


def _rows(path: str, text: str) -> Iterator[Listed]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = rows.fieldnames or []
        if columns.count("path") != 1:
            raise UsageError(f"--input {path}: its first line must name one column 'path'; it has {columns or 'none'}")
        for row in rows:
            if not row["path"]:
                raise UsageError(f"--input {path}, line {rows.line_num}: the path is empty")
            yield Listed(row["path"], None, row.get("id") or None, row.get("label") or None)
    except csv.Error as error:
        raise UsageError(f"--input {path}, line {rows.line_num}: {error}") from error


def _absolute(path: str) -> str:
    return path if scheme(path) else os.path.abspath(path)
