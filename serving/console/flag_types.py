"""Types of command line flags that several commands share."""

import math
import re
from typing import Any

import click
from typing_extensions import override


class Number(click.FloatRange):
    """A finite float within a range: `nan` and `inf` compare like no number, so click's own range lets them in."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class ImageSize(click.ParamType[tuple[int, int]]):
    """`224` or `320x240`, to (width, height) in pixels."""

    name = "PIXELS|WIDTHxHEIGHT"
    _MOST = 8192

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value), re.ASCII | re.IGNORECASE)
        size = (int(found[1]), int(found[2] or found[1])) if found and len(value) < 20 else (0, 0)
        if not all(1 <= side <= self._MOST for side in size):
            self.fail(
                f"{value!r} is no size: expected 224, or 320x240 (width x height), up to {self._MOST}", param, ctx
            )
        return size


class ByteSize(click.ParamType[Any]):
    """A number of bytes with a unit: `2GiB`, `512Mi`, `1500M`; K, M, G, T are powers of 1,000, with an i of 1,024."""

    name = "SIZE"

    def __init__(self, least: int, most: int) -> None:
        """`least` and `most` are bytes."""
        self._least, self._most = least, most

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", str(value), re.IGNORECASE | re.ASCII)
        if not found:
            self.fail(f"{value!r} is no size, such as 2GiB or 1500M", param, ctx)
        number, unit, binary = found.groups()
        size = int(float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit.lower()) if unit else 0))
        if not self._least <= size <= self._most:
            self.fail(f"{value} is not within {self._least // 2**20:,} MiB and {self._most // 2**40:,} TiB", param, ctx)
        return size
