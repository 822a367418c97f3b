"""The state of a training in one file of the work folder, which is written whole or not at all."""

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.work_folder import WorkFolder

Array = np.ndarray[Any, np.dtype[Any]]

_NUMBERS = "numbers"


class Checkpoints:
    """Keeps the last state that was saved; without a work folder, none."""

    def __init__(self, work: WorkFolder | None, name: str) -> None:
        """Looks at nothing yet.

        Args:
          work: the folder; None to keep nothing.
          name: of the file.
        """
        self._work, self._name = work, f"{name}.npz"

    def save(self, numbers: dict[str, Any], **arrays: Sequence[Array]) -> None:
        """Replaces the state.

        Args:
          numbers: values of JSON, floats and nan among them, which are found again to the last bit.
          **arrays: lists of arrays, by name.

        Raises:
          DiskFull, UsageError: it can't be written; the state before is still there.
        """
        if self._work is None:
            return
        named: dict[str, Any] = {_NUMBERS: np.frombuffer(json.dumps(numbers).encode(), np.uint8)}
        for name, values in arrays.items():
            named |= {f"{name}/{index}": value for index, value in enumerate(values)}
        data = io.BytesIO()
        np.savez(data, **named)
        self._work.write(self._name, data.getvalue())

    def load(self) -> tuple[dict[str, Any], dict[str, list[Array]]] | None:
        """The numbers and arrays that were saved last; None where there are none, or the file is damaged."""
        place = self._work.path / self._name if self._work is not None else None
        if place is None or not place.exists():
            return None
        try:
            with np.load(place) as found:
                numbers = json.loads(found[_NUMBERS].tobytes())
                arrays: dict[str, list[Array]] = {}
                for key in found.files:  # in the order in which they were saved
                    if key != _NUMBERS:
                        arrays.setdefault(key.partition("/")[0], []).append(found[key])
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            return None
        return numbers, arrays
