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


class ImageSize(click.ParamType[tuple[int, int]]):
    """`224` or `320x240`, to (width, height) in pixels."""

    name = "PIXELS|WIDTHxHEIGHT"
    _MOST = 8192

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
