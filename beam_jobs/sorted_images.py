"""The listed images in the order of a manifest: sorted by path, without duplicates, as a file of its lines.

Sorting goes through a temporary SQLite table, so a listing of millions needs no memory of its own. How many rows a
chunk has is decided later, as it depends on the model.
"""

import contextlib
import hashlib
import itertools
import json
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from beam_jobs.image_names import image_name
from beam_jobs.kaggle_submission import image_id
from beam_jobs.listing import Listed
from beam_jobs.manifest import Manifest, Row
from serving.errors import UsageError


class SortedImages(NamedTuple):
    """The lines of a manifest, one an image."""

    file: IO[bytes]
    listed: int
    duplicates: int
    """Repeated paths in the input, which are listed once."""
    has_ids: bool
    has_labels: bool

    def cut(self, rows: int) -> Manifest:
        """The manifest with chunks of so many rows."""
        digest, offsets, checks = hashlib.sha256(), [0], []
        self.file.seek(0)
        while chunk := b"".join(itertools.islice(self.file, rows)):
            digest.update(chunk)
            offsets.append(offsets[-1] + len(chunk))
            checks.append(zlib.crc32(chunk))
        return Manifest(
            digest=digest.hexdigest(),
            listed=self.listed,
            duplicates=self.duplicates,
            chunk_rows=rows,
            offsets=offsets,
            checks=checks,
            has_ids=self.has_ids,
            has_labels=self.has_labels,
        )


def sort_images(
    images: Iterable[Listed], file: IO[bytes], *, unique_ids: bool = False, base: str = "/"
) -> SortedImages:
    """Writes the sorted, distinct rows to a file.

    Args:
      images: in any order, repeated ones included.
      file: to write to, and to read again.
      unique_ids: whether ids are refused that two images have.
      base: the folder that relative paths are below.

    Raises:
      UsageError: nothing is listed; or, with `unique_ids`, two images have one id.
    """
    with contextlib.closing(_temporary_table()) as table:
        seen = _fill(table, images, base)
        if unique_ids:
            _refuse_repeated_ids(table)
        listed, ids, labels = table.execute("SELECT count(*), count(id), count(label) FROM rows").fetchone()
        if not listed:
            raise UsageError("`inputs` names no image")
        file.writelines(_lines(table))
        return SortedImages(file, listed, seen - listed, has_ids=ids > 0, has_labels=labels > 0)


def _temporary_table() -> sqlite3.Connection:
    """An empty table in a file that has no name any more, so that it goes however the process ends."""
    with tempfile.TemporaryDirectory(prefix="flow-images-") as folder:
        table = sqlite3.connect(Path(folder) / "images.sqlite")
        # An image that two paths name is one row, by the path that was first. Of most, the name is the path.
        table.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;"
            "CREATE TABLE named (name TEXT, other_path TEXT, size, id, label, unnameable, seen, "
            "PRIMARY KEY (name, unnameable)) WITHOUT ROWID;"
            "CREATE VIEW rows AS SELECT ifnull(other_path, name) AS path, size, id, label, unnameable, seen FROM named;"
        )
    return table


def _fill(table: sqlite3.Connection, images: Iterable[Listed], base: str) -> int:
    seen = 0
    for one in images:
        seen += 1
        path, *rest = _row(one)
        name = image_name(path, base)
        other = None if name == path else path
        table.execute("INSERT OR IGNORE INTO named VALUES (?, ?, ?, ?, ?, ?, ?)", (name, other, *rest))
    return seen


def _row(one: Listed) -> Row:
    path, identifier, label = (None if value is None else _escaped(value) for value in (one.path, one.id, one.label))
    return Row(path or "", one.size, identifier, label, unnameable=path != one.path, seen=one.seen)


def _escaped(text: str) -> str:
    """The text, or if it holds bytes that aren't UTF-8 one that shows them, different for different bytes."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _refuse_repeated_ids(table: sqlite3.Connection) -> None:
    table.create_function("image_id", 2, image_id, deterministic=True)
    repeated = table.execute(
        "SELECT image_id(path, id) AS k, min(path), max(path) FROM rows GROUP BY k HAVING count(*) > 1 LIMIT 1"
    ).fetchone()
    if repeated:
        raise UsageError(
            f"`format` kaggle: {repeated[1]} and {repeated[2]} have the same id {repeated[0]!r}; "
            "list one of them only, or give ids in a CSV with the columns path,id"
        )


def _lines(table: sqlite3.Connection) -> Iterator[bytes]:
    # SQLite compares UTF-8 bytes, which is the order of code points and so Python's.
    others = table.execute("SELECT count(other_path) FROM named").fetchone()[0]
    in_order = "SELECT * FROM rows ORDER BY path, unnameable"
    if not others:  # then they lie in order
        in_order = "SELECT name, size, id, label, unnameable, seen FROM named ORDER BY name, unnameable"
    for row in table.execute(in_order):
        yield json.dumps([*row[:4], bool(row[4]), bool(row[5])], ensure_ascii=False).encode() + b"\n"
