"""What a user names as input, as a stream of pictures: globs, folders, lists and CSVs, on a disk or in a bucket."""

import csv
import fnmatch
import glob
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from beam_jobs.storage import FileInfo, join, scheme, storage_for
from serving.errors import UsageError

_LISTS = (".txt", ".csv")


class Listed(NamedTuple):
    """A picture as it was listed; paths from folders, lists and CSVs are names, never patterns."""

    path: str
    """As the user gave it. Bytes that aren't UTF-8 stand as lone surrogates (PEP 383)."""
    size: int | None = None
    id: str | None = None
    label: str | None = None
    """The right answer, if a CSV has it."""


def list_pictures(inputs: Sequence[str], *, leave_out: str, beam_flags: Sequence[str] = ()) -> Iterator[Listed]:
    """Every picture of the inputs, in no order, repeated ones included.

    Args:
      inputs: globs (`**/` is any number of folders, none too), folders (every file in them that isn't hidden), text
        files (a path a line), CSVs (a column `path`, and perhaps `id` and `label`), single pictures.
      leave_out: the output folder, whose files are never input.
      beam_flags: for buckets.
    Raises:
      UsageError: an input that isn't there or can't be read.
    """
    for one in inputs:
        if not one:
            raise UsageError("--input is empty")
        for listed in _expand(one, beam_flags):
            if not _is_below(listed.path, leave_out):
                yield listed


def _expand(one: str, beam_flags: Sequence[str]) -> Iterable[Listed]:
    if one.endswith(_LISTS) and storage_for(one, beam_flags).exists(one):
        return _listed_in(one, beam_flags)
    found = _local(one) if scheme(one) == "" else _remote(one, beam_flags)
    return (Listed(info.path, info.size) for info in found)


def _local(one: str) -> Iterator[FileInfo]:
    if os.path.isfile(one):
        yield FileInfo(one, None)
    elif os.path.isdir(one):
        for where, folders, names in os.walk(one, onerror=_unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from (FileInfo(os.path.join(where, name), None) for name in names if not name.startswith("."))
    elif glob.has_magic(one):
        yield from (FileInfo(path, None) for path in glob.iglob(one, recursive=True) if not os.path.isdir(path))
    else:
        raise UsageError(f"--input {one}: no such file or folder")


def _unreadable(error: OSError) -> None:
    raise UsageError(f"--input: the folder {error.filename} can't be listed: {error.strerror}")


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
    if path.endswith(".txt"):
        return (Listed(line) for line in re.split(r"\r?\n", text) if line)
    return _rows(path, text)


def _rows(path: str, text: str) -> Iterator[Listed]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if "path" not in (rows.fieldnames or ()):
        raise UsageError(f"--input {path}: no column 'path' in its first line; it has {rows.fieldnames or 'no line'}")
    try:
        for row in rows:
            if not row["path"]:
                raise UsageError(f"--input {path}, line {rows.line_num}: the path is empty")
            yield Listed(row["path"], None, row.get("id"), row.get("label"))
    except csv.Error as error:
        raise UsageError(f"--input {path}, line {rows.line_num}: {error}") from error


def _is_below(path: str, folder: str) -> bool:
    if scheme(path) != scheme(folder):
        return False
    if scheme(path) == "":
        path, folder = os.path.abspath(path), os.path.abspath(folder)
    return path.startswith(join(folder, ""))
