"""Prepares an image for a wire form: decoded for `float32` and `uint8`, the checked file for `encoded`."""

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from serving.contract import Preprocessing
from serving.images.damage import why_not_decoded
from serving.images.exif import exif_orientation, turn_upright
from serving.images.header import RGB_BYTES, ImageHeader, needed_bytes
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.images.resize import resize
from serving.images.wire import Wire
from serving.process.cpus import usable_cpus
from serving.process.tensorflow_import import check_not_forked, import_tensorflow

Array = np.ndarray[Any, np.dtype[Any]]
Payload = Array | bytes
"""float32 or uint8 [height, width, 3], or a whole file."""

CORRUPT, UNDECIDED = "corrupt", "undecided"


class Undecided(Exception):
    """An image about which only TensorFlow can decide, and it is not installed."""


def make_encoder(
    preprocessing: Preprocessing,
    wire: Wire,
    limits: ImageLimits,
    *,
    memory: int | None = None,
    sends_doubtful: bool = False,
) -> Callable[[bytes], Payload]:
    """A thread-safe function from an image's bytes to its payload; it raises ImageRejected, or Undecided.

    Of an animated GIF whose further frames don't matter, only the first frame is sent or decoded. An image is decoded
    without TensorFlow. Where it is not certain that TensorFlow would give the same pixels, the model's own decoder
    decides: the server's, or else TensorFlow here, which is loaded then.

    Args:
      preprocessing: sizes and orientation.
      wire: what is sent.
      limits: an image over them is rejected before it is decoded.
      memory: bytes that all images which are being decoded may take together; one that takes more is rejected. By
        default what the largest ordinary image takes, and one that takes more is decoded alone.
      sends_doubtful: the server takes files, too, and says which it can't decode: a doubtful image's payload is its
        file, whatever the wire form.
    """
    if wire == "encoded":
        return lambda data: needed_bytes(data, inspect_image(data, limits))

    from serving.images.decoder import decode
    from serving.images.decoder import memory as memory_here

    most = memory or limits.decoding_memory
    room, at_export = _Room(most), ImageLimits()
    turn = threading.BoundedSemaphore(usable_cpus())  # more at once would take memory, and not be done sooner
    loading, loaded = threading.Lock(), functools.cache(lambda: _tensorflow_decoder(preprocessing, wire))

    def encode(data: bytes) -> Payload:
        header = inspect_image(data, limits)
        cost = decoding_memory(header, preprocessing)
        if memory is not None and cost > memory:
            raise ImageRejected(
                "too_large",
                f"decoding it takes {cost:,} bytes, over the {memory:,} that `max_memory` leaves: give it more",
            )
        file = needed_bytes(data, header)
        here = max(cost, memory_here(header))
        if here <= most:
            with turn, room.taken(here):
                pixels = decode(file, header)
                if pixels is not None:
                    return preprocess(pixels, data, preprocessing, wire)
        if sends_doubtful and _is_within(at_export, data, header):
            return file
        with loading:  # by one thread, for all
            decode_there = loaded()
        with turn, room.taken(cost):
            return decode_there(file)

    return encode


def _is_within(limits: ImageLimits, data: bytes, header: ImageHeader) -> bool:
    """Is an image within the limits of a server, which has those that its model was exported with?"""
    return len(data) <= limits.max_image_bytes and header.pixels <= limits.max_image_pixels


def preprocess(pixels: Array, data: bytes, preprocessing: Preprocessing, wire: Wire) -> Array:
    """What the wire form sends of decoded pixels; the numbers of `serving.images.preprocessing` without TensorFlow.

    Args:
      pixels: uint8 [h, w, 3], RGB.
      data: the image's file, for its orientation.
      preprocessing: of the model.
      wire: `float32` or `uint8`.

    Returns:
      [height, width, 3], float32 in the model's value range or uint8.
    """
    if preprocessing.orientation == "exif":
        pixels = turn_upright(pixels, exif_orientation(data))
    image = resize(pixels, preprocessing.height, preprocessing.width)
    image *= np.float32(1 / 255)
    if wire == "uint8":
        return np.rint(image * np.float32(255)).astype(np.uint8)
    black, white = preprocessing.value_range
    if (black, white) != (0.0, 1.0):
        image *= np.float32(white - black)
        image += np.float32(black)
    return image


def _tensorflow_decoder(preprocessing: Preprocessing, wire: Wire) -> Callable[[bytes], Array]:
    """`serving.images.preprocessing.make_decoder`, raising ImageRejected."""
    check_not_forked()  # a client may be older than the process
    try:
        import_tensorflow()
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise Undecided(
            "only TensorFlow can tell whether this image is damaged, and how it looks: install it (pip install "
            "tensorflow), or send `wire` encoded"
        ) from error
    from serving.images.preprocessing import make_decoder

    decoder = make_decoder(preprocessing, wire)

    def decode(data: bytes) -> Array:
        check_not_forked()
        try:
            return decoder(data)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            raise ImageRejected(CORRUPT, f"{why_not_decoded(data)} ({_cause(error.message)})") from error

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
