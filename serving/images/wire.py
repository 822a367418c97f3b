"""The ways in which images travel to a server."""

from typing import Literal

Wire = Literal["float32", "uint8", "encoded"]
"""Preprocessed as float32 (0..1, unless the model wants another range), rounded to uint8, or as whole files that the
server decodes."""
WIRES: tuple[Wire, ...] = ("float32", "uint8", "encoded")
