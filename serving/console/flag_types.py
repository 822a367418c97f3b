"""Types of command line flags that several commands share."""

import math
from typing import Any

import click
from typing_extensions import override


class Number(click.FloatRange):
    """A finite float within a range: `nan` and `inf` compare like no number, so click's own range lets them in."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number
