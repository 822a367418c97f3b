"""The manifest: the frozen list of what a run must account for, sorted by path and cut into chunks.

One JSON line an image, and the byte offset of each chunk's first line, so that any worker reads just its own rows.
Sorting goes through a temporary SQLite table, so a listing of millions needs no memory of its own.
"""

import hashlib
import itertools
import json
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import pydantic

from beam_jobs.chunk_size import chunk_rows
from beam_jobs.image_names import image_name
from beam_jobs.kaggle_submission import image_id
from beam_jobs.listing import Listed
from serving.errors import FlowImagesError, UsageError
from serving.storage.base import Storage


class Row(NamedTuple):
    """A line of the manifest."""

    path: str
    size: int | None = None
    id: str | None = None
    label: str | None = None
    unnameable: bool = False
    """The name isn't UTF-8; `path` shows the bytes as escapes (and a backslash as two, so that different names look
    different), and the file can't be read."""
    seen: bool = False
    """The file was there when it was listed."""


class Manifest(pydantic.BaseModel):
    """Where the rows are and how they are cut."""

    model_config = pydantic.ConfigDict(frozen=True)

    digest: str
    """SHA-256 of the file's bytes."""
    listed: int
    duplicates: int
    """Repeated paths in the input, which are listed once."""
    chunk_rows: int
    offsets: list[int]
    """Byte offset of each chunk's first line, and the file's size at the end."""
    checks: list[int]
    """CRC-32 of each chunk's lines."""
    has_ids: bool
    has_labels: bool

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return len(self.offsets) - 1

    def rows_in(self, chunk: int) -> int:
        """Number of rows of a chunk."""
        return min(self.chunk_rows, self.listed - chunk * self.chunk_rows)

    def read_chunk(self, storage: Storage, path: str, chunk: int) -> list[Row]:
        """The rows of one chunk.

        Raises:
          FileNotFoundError: the file is gone.
          FlowImagesError: it is not as it was written.
        """
        data = storage.read_range(path, self.offsets[chunk], self.offsets[chunk + 1])
        if zlib.crc32(data) != self.checks[chunk]:
            raise FlowImagesError(f"{path} was changed, so the run can't be completed: start over with `fresh`")
        return [Row(*fields) for fields in json_lines(data)]


def json_lines(data: bytes) -> list[Any]:
    """The values of JSON lines; all at once takes half the time of one by one.

    Raises:
      ValueError: it isn't JSON.
    """
    values: list[Any] = json.loads("[" + data.decode("utf-8").rstrip("\n").replace("\n", ",") + "]")
    return values


def build_manifest(
    images: Iterable[Listed],
    file: IO[bytes],
    *,
    batch_size: int,
    shards: int,
    unique_ids: bool,
    scores: int = 1,
    base: str = "/",
) -> Manifest:
    """Writes the sorted, deduplicated rows to a file.

    Args:
      images: in any order, repeated ones included.
      file: to write to.
      batch_size: images a request.
      shards: processes that share the chunks.
      unique_ids: whether ids are refused that two images have.
      scores: how many the run keeps of an image.
      base: the folder that relative paths are below.

    Raises:
      UsageError: nothing is listed; or, with `unique_ids`, two images have one id.
    """
    with tempfile.TemporaryDirectory(prefix="flow-images-") as folder:
        table = sqlite3.connect(Path(folder) / "manifest.sqlite")
        try:
            seen = _fill(table, images, base)
            if unique_ids:
                _refuse_repeated_ids(table)
            return _write(table, file, seen, partial(chunk_rows, batch_size=batch_size, shards=shards, scores=scores))
        finally:
            table.close()


def _fill(table: sqlite3.Connection, images: Iterable[Listed], base: str) -> int:
    # An image that two paths name is one row, by the path that was first. Of most, the name is the path.
    table.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;"
        "CREATE TABLE named (name TEXT, other_path TEXT, size, id, label, unnameable, seen, "
        "PRIMARY KEY (name, unnameable)) WITHOUT ROWID;"
        "CREATE VIEW rows AS SELECT ifnull(other_path, name) AS path, size, id, label, unnameable, seen FROM named;"
    )
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


def _write(table: sqlite3.Connection, file: IO[bytes], seen: int, cut: Callable[[int], int]) -> Manifest:
    listed, ids, labels = table.execute("SELECT count(*), count(id), count(label) FROM rows").fetchone()
    if not listed:
        raise UsageError("`inputs` names no image")
    rows = cut(listed)
    digest, offsets, checks = hashlib.sha256(), [0], []
    lines = _lines(table)
    while chunk := b"".join(itertools.islice(lines, rows)):
        file.write(chunk)
        digest.update(chunk)
        offsets.append(offsets[-1] + len(chunk))
        checks.append(zlib.crc32(chunk))
    return Manifest(
        digest=digest.hexdigest(),
        listed=listed,
        duplicates=seen - listed,
        chunk_rows=rows,
        offsets=offsets,
        checks=checks,
        has_ids=ids > 0,
        has_labels=labels > 0,
    )


def _lines(table: sqlite3.Connection) -> Iterator[bytes]:
    # SQLite compares UTF-8 bytes, which is the order of code points and so Python's.
    others = table.execute("SELECT count(other_path) FROM named").fetchone()[0]
    in_order = "SELECT * FROM rows ORDER BY path, unnameable"
    if not others:  # then they lie in order
        in_order = "SELECT name, size, id, label, unnameable, seen FROM named ORDER BY name, unnameable"
    for row in table.execute(in_order):
        yield json.dumps([*row[:4], bool(row[4]), bool(row[5])], ensure_ascii=False).encode() + b"\n"
