"""Types of command line flags that several commands share."""

import math
import re
from typing import Any

import click


class Number(click.FloatRange):
    """A finite float within a range: `nan` and `inf` compare like no number, so click's own range lets them in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class ByteSize(click.ParamType[Any]):
    """A number of bytes with a unit: `2GiB`, `512Mi`, `1500M`; K, M, G, T are powers of 1,000, with an i of 1,024."""

    name = "SIZE"

    def __init__(self, least: int, most: int) -> None:
        """`least` and `most` are bytes."""
        self._least, self._most = least, most

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
