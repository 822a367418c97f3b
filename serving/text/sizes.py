"""Values of flags as text, for types that Python has no text for."""

import re

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE | re.ASCII)


def parse_image_size(text: str) -> tuple[int, int]:
    """`224` or `320x240`, to width and height in pixels.

    Raises:
      ValueError: it is neither.
    """
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text, re.ASCII | re.IGNORECASE)
    if not found or len(text) > 20:
        raise ValueError(f"{text!r} is not a size: expected 224, or 320x240 (width x height)")
    return int(found[1]), int(found[2] or found[1])


def format_image_size(size: tuple[int, int]) -> str:
    """The text that `parse_image_size` takes."""
    return "{}x{}".format(*size)


def parse_byte_size(text: str) -> int:
    """Bytes of a number with a unit: `2GiB`, `512Mi`, `1500M`; K, M, G, T are powers of 1,000, with an i of 1,024.

    Raises:
      ValueError: the text is not a size.
    """
    found = _SIZE.fullmatch(text)
    if not found or len(text) > 40:
        raise ValueError(f"{text!r} is not a size, such as 2GiB or 1500M")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit.lower()) if unit else 0))


def format_byte_size(size: float) -> str:
    """The text that `parse_byte_size` takes: in whole MiB, or else in bytes."""
    mebibytes, rest = divmod(int(size), 2**20)
    return f"{int(size)}" if rest else f"{mebibytes}MiB"
