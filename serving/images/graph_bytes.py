"""Reads numbers and texts in the bytes of one file (a string scalar), and walks through its pieces, inside a graph."""

from collections.abc import Callable

import tensorflow as tf

_MOST_PIECES = 20_000
"""Segments or chunks that are followed: more than a file has that isn't made to keep its reader busy."""


def follow(
    look: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]], start: int | tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Goes from piece to piece of a file, as far as `size`, and finds one.

    Args:
      look: from a piece's position to that of the next one, and whether this is the one.
      start: position of the first piece.
      size: where to end.

    Returns:
      The position of the one, or `size`.
    """

    def step(position: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        after, found = look(position)
        after = tf.where(after > position, after, size)  # a sum over 31 bits is negative
        return tf.where(found, position, after), found

    position, found = tf.while_loop(
        lambda position, found: (position < size) & ~found,
        step,
        (tf.convert_to_tensor(start), tf.constant(False)),
        maximum_iterations=_MOST_PIECES,
    )
    return tf.where(found, position, size)


def part(data: tf.Tensor, start: int | tf.Tensor, count: int | tf.Tensor = 2**31 - 1) -> tf.Tensor:
    """Up to `count` bytes from `start`; fewer, or none, at the end."""
    start = tf.clip_by_value(start, 0, tf.strings.length(data))
    return tf.strings.substr(data, start, tf.maximum(count, 0))


def has(data: tf.Tensor, start: int | tf.Tensor, text: bytes) -> tf.Tensor:
    """Is this text at `start`? A bool scalar."""
    return tf.equal(part(data, start, len(text)), text)


def numbers(
    data: tf.Tensor, start: int | tf.Tensor, kind: tf.DType, count: int | tf.Tensor, *, little_endian: bool
) -> tf.Tensor:
    """int32 [count]: integers of a type at `start`; past the end of the file they are 0."""
    length = kind.size * count
    found = part(data, start, length)
    return tf.cast(tf.io.decode_raw(found, kind, little_endian, fixed_length=length), tf.int32)
