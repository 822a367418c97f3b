"""Embeddings of a run: float16, as text in the rows of its parts and as numbers in one file beside the predictions.

float16 keeps three digits, which is more than nearest neighbours need, in half of the bytes. In the parts, as the
scores are, they are of one answer with them whichever of two workers is first; a stop or a retry needs no rule of its
own.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from beam_jobs.table_files import Hashed, RowGroups

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


class EmbeddingsTable(RowGroups[tuple[str, bytes]]):
    """A Parquet file with the columns `path` and `embedding`."""

    def __init__(self, file: Hashed, width: int, metadata: Mapping[str, str]) -> None:
        """Begins the file.

        Args:
          file: that it is written into.
          width: numbers of an embedding.
          metadata: goes into the schema.
        """
        import pyarrow

        self._width = width
        numbers = pyarrow.list_(pyarrow.field("element", pyarrow.float16(), nullable=False), width)
        columns = {"path": pyarrow.string(), "embedding": numbers}
        fields = [pyarrow.field(name, kind, nullable=False) for name, kind in columns.items()]
        schema = pyarrow.schema(fields, dict(metadata))
        most = max(1, _GROUP_BYTES // (width * _FLOAT16.itemsize))
        super().__init__(file, schema, most, compression="zstd", use_dictionary=False)

    def write(self, path: str, packed: str) -> None:
        """Adds the row of an image.

        Args:
          path: as in the predictions.
          packed: its embedding, from `pack`.
        """
        self.add((path, base64.b64decode(packed)))

    @override
    def columns(self, rows: Sequence[tuple[str, bytes]]) -> Sequence[Any]:
        import pyarrow

        numbers = pyarrow.py_buffer(b"".join(packed for _, packed in rows))
        values = pyarrow.Array.from_buffers(pyarrow.float16(), len(rows) * self._width, [None, numbers])
        embeddings = pyarrow.FixedSizeListArray.from_arrays(values, type=self.schema.field("embedding").type)
        return [pyarrow.array([path for path, _ in rows], pyarrow.string()), embeddings]
