"""Prepares an image for a wire form: decoded for `float32` and `uint8`, the checked file for `encoded`."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from serving.contract import Preprocessing
from serving.images.header import RGB_BYTES, ImageHeader, needed_bytes
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.images.wire import Wire
from serving.process.tensorflow_import import check_not_forked, import_tensorflow

Payload = np.ndarray[Any, np.dtype[Any]] | bytes
"""float32 or uint8 [height, width, 3], or a whole file."""

CORRUPT = "corrupt"
NOT_DECODED = "the image is damaged, of a kind that TensorFlow can't decode, or over the limits of the model"


def make_encoder(
    preprocessing: Preprocessing, wire: Wire, limits: ImageLimits, *, memory: int | None = None
) -> Callable[[bytes], Payload]:
    """A thread-safe function from an image's bytes to its payload; it raises ImageRejected.

    Of an animated GIF whose further frames don't matter, only the first frame is sent or decoded. TensorFlow is loaded
    only where pixels are decoded.

    Args:
      preprocessing: sizes and orientation.
      wire: what is sent.
      limits: an image over them is rejected before it is decoded.
      memory: bytes that all images which are being decoded may take together; one that takes more is rejected. By
        default what the largest ordinary image takes, and one that takes more is decoded alone.
    """
    if wire == "encoded":
        return lambda data: needed_bytes(data, inspect_image(data, limits))

    import_tensorflow()
    import tensorflow as tf

    from serving.images.preprocessing import make_decoder

    decoder = make_decoder(preprocessing, wire)
    most = memory or limits.decoding_memory
    room = _Room(most)

    def decode(data: bytes) -> Payload:
        check_not_forked()  # a client may be older than the process
        header = inspect_image(data, limits)
        cost = decoding_memory(header, preprocessing)
        if memory is not None and cost > memory:
            raise ImageRejected(
                "too_large",
                f"decoding it takes {cost:,} bytes, over the {memory:,} that `max_memory` leaves: give it more",
            )
        with room.taken(cost):
            try:
                return decoder(needed_bytes(data, header))
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
                raise ImageRejected(CORRUPT, f"{NOT_DECODED}: {_cause(error.message)}") from error

    return decode


def decoding_memory(header: ImageHeader, preprocessing: Preprocessing) -> int:
    """Bytes that decoding an image for the `float32` or `uint8` form takes at its peak, the file not included."""
    turned = 2 * RGB_BYTES * header.width * header.height if preprocessing.orientation == "exif" else 0
    return max(header.memory, turned)


class _Room:
    """A semaphore with weights: `taken(n)` waits until n of the capacity are free, or all of it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = self._free = capacity
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        amount = min(amount, self._capacity)
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
