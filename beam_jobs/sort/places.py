"""Where each image of a run belongs: in the folder of its label, under a name that no other image of the run has.

A name depends on the images that the run has, never on their order or labels, so it is the same in every call.
"""

import contextlib
import itertools
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from beam_jobs.image_names import image_name
from beam_jobs.sort.safe_names import marked, needs_mark, safe_name, same_name
from serving.storage.base import without_query

Kind = Literal["label", "unknown", "rejected", "failed"]
OWN_FOLDERS: dict[Kind, str] = {"unknown": "_unknown", "rejected": "_rejected", "failed": "_failed"}
"""Folders of images without a label; that of a label never has such a name."""
_BETWEEN = "__"
"""Stands for the / of the folders that an image is in."""


class Sorted(NamedTuple):
    """An image and what it was found to be."""

    path: str
    kind: Kind
    label: str = ""


class Place(NamedTuple):
    """Where an image belongs."""

    path: str
    """The image, as the results have it."""
    folder: str
    name: str


class Places:
    """The places of all images, in a temporary table: there may be millions."""

    def __init__(self, table: sqlite3.Connection, images: Iterable[Sorted]) -> None:
        """Reads all images; see `find_places`."""
        self.counts: Counter[Kind] = Counter()
        """How many images are of each kind."""
        self.labels: set[str] = set()
        self._table = table
        self._root: list[str] | None = None
        table.create_function("plain", 1, self._plain, deterministic=True)
        table.create_function("same", 1, same_name, deterministic=True)
        table.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE images (path TEXT, kind TEXT, label TEXT);"
        )
        table.executemany("INSERT INTO images VALUES (?, ?, ?)", map(self._seen, images))
        self._folders = _folders(self.labels)
        # Names first, as the folder that all images are in is known only now.
        table.executescript(
            "CREATE TABLE named AS SELECT path, kind, label, plain(path) AS name FROM images; DROP TABLE images;"
            "CREATE TABLE repeated (same TEXT PRIMARY KEY) WITHOUT ROWID;"
            "INSERT INTO repeated SELECT same(name) AS s FROM named GROUP BY s HAVING count(*) > 1;"
        )

    def __iter__(self) -> Iterator[Place]:
        """All places, in the order of the images' paths."""
        rows = self._table.execute(
            "SELECT path, kind, label, name, same(name) IN (SELECT same FROM repeated) FROM named ORDER BY path"
        )
        for path, kind, label, name, is_repeated in rows:
            folder = self._folders[label] if kind == "label" else OWN_FOLDERS[kind]
            yield Place(path, folder, marked(name, image_name(path, "")) if is_repeated or needs_mark(name) else name)

    def _seen(self, image: Sorted) -> Sorted:
        self.counts[image.kind] += 1
        if image.kind == "label":
            self.labels.add(image.label)
        folders = without_query(image.path).split("/")[:-1]
        if self._root is None:
            self._root = folders
        elif self._root != folders[: len(self._root)]:
            pairs = zip(self._root, folders, strict=False)
            self._root = [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
        return image

    def _plain(self, path: str) -> str:
        """A name that tells the image's folders below the one that all are in."""
        names = without_query(path).split("/")[len(self._root or ()) :]
        return safe_name(_BETWEEN.join(name for name in names if name not in ("", ".")))


@contextlib.contextmanager
def find_places(images: Iterable[Sorted]) -> Iterator[Places]:
    """The places of all images of a run, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="flow-images-") as folder:
        table = sqlite3.connect(Path(folder) / "places.sqlite")
        try:
            yield Places(table, images)
        finally:
            table.close()


def _folders(labels: Iterable[str]) -> dict[str, str]:
    """The name of each label's folder."""
    plain = {label: safe_name(label) for label in labels}
    taken = Counter([*map(same_name, plain.values()), *OWN_FOLDERS.values()])
    return {
        label: marked(name, label) if taken[same_name(name)] > 1 or needs_mark(name) else name
        for label, name in plain.items()
    }
