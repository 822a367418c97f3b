"""Links that were signed anew since a run began: the same images, read by the new links.

A list that is written again names the images of the run by other links, as signatures last for hours or days. They are
kept beside the manifest, which stays as it is: one line a chunk, with the new links of its rows.
"""

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from beam_jobs.image_names import image_name
from beam_jobs.manifest import Row
from serving.storage.base import Storage, is_web, join


class Links(NamedTuple):
    """A file of new links, and where the line of each chunk is in it."""

    path: str
    offsets: tuple[int, ...]

    def apply(self, storage: Storage, chunk: int, rows: list[Row]) -> list[Row]:
        """The rows of a chunk by their new links, where they have one."""
        line = storage.read_range(self.path, self.offsets[chunk], self.offsets[chunk + 1])
        found = {int(number): link for number, link in json.loads(line).items()}
        return [row._replace(path=found.get(number, row.path)) for number, row in enumerate(rows)]


def keep_links(links: Iterable[str], chunks: Iterable[list[Row]], storage: Storage, folder: str) -> Links | None:
    """Stores the links that name rows of a run by another signature than the run has.

    Args:
      links: as they are now; other paths are left out.
      chunks: the rows of each chunk.
      storage: holds the folder.
      folder: for the file, which is named after its content.

    Returns:
      What a worker needs to find them; None if there is none.
    """
    with tempfile.TemporaryDirectory(prefix="flow-images-") as place:
        table = sqlite3.connect(Path(place) / "links.sqlite")  # there may be millions
        try:
            table.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                "CREATE TABLE links (name TEXT PRIMARY KEY, link TEXT) WITHOUT ROWID;"
            )
            named = ((image_name(link, ""), link) for link in links if is_web(link))
            table.executemany("INSERT OR IGNORE INTO links VALUES (?, ?)", named)
            return _store(table, chunks, storage, folder)
        finally:
            table.close()


def _store(table: sqlite3.Connection, chunks: Iterable[list[Row]], storage: Storage, folder: str) -> Links | None:
    digest, offsets, changed = hashlib.sha256(), [0], False
    with tempfile.TemporaryFile() as file:
        for rows in chunks:
            links = {number: _link(table, row) for number, row in enumerate(rows)}
            found = {number: link for number, link in links.items() if link not in (None, rows[number].path)}
            changed = changed or bool(found)
            line = json.dumps(found).encode() + b"\n"
            digest.update(line)
            file.write(line)
            offsets.append(offsets[-1] + len(line))
        if not changed:
            return None
        path = join(folder, f"links-{digest.hexdigest()[:16]}.jsonl")
        file.seek(0)
        with storage.replacing(path) as stored:
            shutil.copyfileobj(file, stored)
    return Links(path, tuple(offsets))


def _link(table: sqlite3.Connection, row: Row) -> str | None:
    if not is_web(row.path):
        return None
    found = table.execute("SELECT link FROM links WHERE name = ?", (image_name(row.path, ""),)).fetchone()
    return found[0] if found else None
