"""Embeddings of a run: float16, as text in the rows of its parts and as numbers in one file beside the predictions.

float16 keeps three digits, which is more than nearest neighbours need, in half of the bytes. In the parts, as the
scores are, they are of one answer with them whichever of two workers is first; a stop or a retry needs no rule of its
own.
"""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_jobs.table_files import Hashed

_FLOAT16 = np.dtype("<f2")
_LARGEST = float(np.finfo(np.float16).max)
_GROUP_BYTES = 4 * 1024 * 1024
"""The size of a row group: what is in memory while the file is written, a few times."""

Array = np.ndarray[Any, np.dtype[Any]]


def pack(embedding: Array) -> str:
    """An embedding as base64 of float16, little-endian; what float16 can't hold becomes its largest number.

    Args:
      embedding: floats [width], finite.
    """
    packed = np.clip(embedding, -_LARGEST, _LARGEST).astype(_FLOAT16)
    return base64.b64encode(packed.tobytes()).decode()


class EmbeddingsTable:
    """A Parquet file with the columns `path` and `embedding`; the same rows give the same bytes."""

    def __init__(self, file: Hashed, width: int, metadata: Mapping[str, str]) -> None:
        """Begins the file.

        Args:
          file: that it is written into.
          width: numbers of an embedding.
          metadata: goes into the schema.
        """
        import pyarrow
        from pyarrow import parquet

        self._width = width
        numbers = pyarrow.list_(pyarrow.field("element", pyarrow.float16(), nullable=False), width)
        columns = {"path": pyarrow.string(), "embedding": numbers}
        fields = [pyarrow.field(name, kind, nullable=False) for name, kind in columns.items()]
        self._schema = pyarrow.schema(fields, dict(metadata))
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd", use_dictionary=False)
        self._paths: list[str] = []
        self._numbers: list[bytes] = []
        self._most = max(1, _GROUP_BYTES // (width * _FLOAT16.itemsize))

    def write(self, path: str, packed: str) -> None:
        """Adds the row of an image.

        Args:
          path: as in the predictions.
          packed: its embedding, from `pack`.
        """
        self._paths.append(path)
        self._numbers.append(base64.b64decode(packed))
        if len(self._paths) == self._most:
            self._flush()

    def close(self) -> None:
        """Writes what is left; the file itself stays open."""
        if self._paths:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        numbers = pyarrow.py_buffer(b"".join(self._numbers))
        values = pyarrow.Array.from_buffers(pyarrow.float16(), len(self._paths) * self._width, [None, numbers])
        embeddings = pyarrow.FixedSizeListArray.from_arrays(values, type=self._schema.field("embedding").type)
        paths = pyarrow.array(self._paths, pyarrow.string())
        self._writer.write_batch(pyarrow.record_batch([paths, embeddings], schema=self._schema))
        self._paths.clear()
        self._numbers.clear()
