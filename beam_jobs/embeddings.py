"""Embeddings of a run: float16 in its parts, and rows of one Parquet file beside the predictions.

float16 keeps three digits, which is more than nearest neighbours need, in half of the bytes.
"""

import hashlib
import io
from collections.abc import Sequence
from typing import IO, Any, Self

import numpy as np

EMBEDDINGS = "embeddings.parquet"
_FLOAT16 = np.dtype("<f2")
_LARGEST = float(np.finfo(np.float16).max)
_GROUP_BYTES = 4 * 1024 * 1024
"""The size of a row group: what is in memory while the file is written, a few times."""

Array = np.ndarray[Any, np.dtype[Any]]


def pack(embedding: Array) -> bytes:
    """An embedding as float16, little-endian; what float16 can't hold becomes its largest number.

    Args:
      embedding: floats [width], finite.
    """
    return np.clip(embedding, -_LARGEST, _LARGEST).astype(_FLOAT16).tobytes()


def share_out(packed: bytes, count: int) -> Sequence[bytes]:
    """The embeddings that stand one after the other, in a part, for so many images."""
    size = len(packed) // count if count else 0
    return [packed[place * size : (place + 1) * size] for place in range(count)]


class EmbeddingsFile:
    """The Parquet file with the columns `path` and `embedding`; a context manager, whose end completes the file.

    The same rows give the same bytes.
    """

    def __init__(self, file: IO[bytes], width: int) -> None:
        """Begins the file.

        Args:
          file: to write to; it stays open.
          width: numbers of an embedding.
        """
        import pyarrow
        import pyarrow.parquet

        self._arrow = pyarrow
        self._width = width
        self._sink = _Hashing(file)
        numbers = pyarrow.list_(pyarrow.field("element", pyarrow.float16(), nullable=False), width)
        self._schema = pyarrow.schema(
            [
                pyarrow.field("path", pyarrow.string(), nullable=False),
                pyarrow.field("embedding", numbers, nullable=False),
            ]
        )
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd", use_dictionary=False)
        self._paths: list[str] = []
        self._packed: list[bytes] = []
        self._rows = max(1, _GROUP_BYTES // (width * _FLOAT16.itemsize))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._write_group()
        self._writer.close()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written."""
        return self._sink.digest.hexdigest()

    def write(self, path: str, packed: bytes) -> None:
        """Appends the row of an image.

        Args:
          path: as in predictions.csv.
          packed: its embedding, from `pack`.
        """
        self._paths.append(path)
        self._packed.append(packed)
        if len(self._paths) == self._rows:
            self._write_group()

    def _write_group(self) -> None:
        if not self._paths:
            return
        arrow = self._arrow
        numbers = arrow.py_buffer(b"".join(self._packed))
        values = arrow.Array.from_buffers(arrow.float16(), len(self._paths) * self._width, [None, numbers])
        embeddings = arrow.FixedSizeListArray.from_arrays(values, type=self._schema.field("embedding").type)
        self._writer.write_batch(
            arrow.record_batch([arrow.array(self._paths, arrow.string()), embeddings], schema=self._schema)
        )
        self._paths, self._packed = [], []


class _Hashing(io.RawIOBase):
    """Passes on what is written, and keeps its hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._file.write(data)
        return len(data)
