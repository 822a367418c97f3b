"""What each wire form sends of a picture: decoding for `float32` and `uint8`, the checked file for `encoded`."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from serving.contract import Preprocessing, Wire
from serving.pictures import PictureLimits, PictureRejected, inspect_picture
from serving.quiet import import_tensorflow

Payload = np.ndarray[Any, np.dtype[Any]] | bytes
"""float32 or uint8 [height, width, 3], or a whole file."""

BYTES_A_PIXEL = 15
"""What decoding takes: the pixels as bytes and as float32."""
CORRUPT = "corrupt"
NOT_DECODED = "the picture is damaged, or of a kind that TensorFlow can't decode"


def make_payload(
    preprocessing: Preprocessing, wire: Wire, limits: PictureLimits, *, memory: int | None = None
) -> Callable[[bytes], Payload]:
    """A thread-safe function from a picture's bytes to its payload; it raises PictureRejected.

    Several threads may decode at once, but all together never take more than `memory` bytes, by default what one
    picture of `limits.max_pixels` takes. TensorFlow is loaded only where pixels are decoded.
    """
    if wire == "encoded":

        def check(data: bytes) -> Payload:
            inspect_picture(data, limits)
            return data

        return check

    import_tensorflow()
    import tensorflow as tf

    from serving.preprocessing import make_decoder

    decoder = make_decoder(preprocessing, wire)
    most = BYTES_A_PIXEL * limits.max_pixels if memory is None else memory
    room = _Room(most)

    def decode(data: bytes) -> Payload:
        cost = BYTES_A_PIXEL * inspect_picture(data, limits)
        if cost > most:
            raise PictureRejected(
                "too_large",
                f"decoding it takes {cost:,} bytes, over the {most:,} that --max-memory leaves: give it more",
            )
        with room.taken(cost):
            try:
                return decoder(data)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
                raise PictureRejected(CORRUPT, f"{NOT_DECODED}: {_cause(error.message)}") from error

    return decode


class _Room:
    """A semaphore with weights: `taken(n)` waits until n of the capacity are free."""

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


def _cause(message: str) -> str:
    """TensorFlow's own sentence, without the graph's node and the stack around it."""
    found = re.search(r"([^\n]+)\n\s*\[\[", message)
    return found.group(1) if found else message.strip().splitlines()[0]
