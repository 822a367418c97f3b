"""The manifest: the frozen list of what a run must account for, sorted by path and cut into chunks.

One JSON line an image, and the byte offset of each chunk's first line, so that any worker reads just its own rows.
"""

import json
import zlib
from typing import Any, NamedTuple

import pydantic

from serving.errors import FlowImagesError
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
