"""Wire forms: the ways in which images travel to a server, and what each does to their pixels."""

from typing import Literal

Wire = Literal["float32", "uint8", "encoded"]
"""What travels of an image:

- `float32`: its pixels as the model takes them, in 0..1 unless it wants another range; exact.
- `uint8`: the same, rounded to 0..255 (`serving.images.preprocessing.to_uint8`); a quarter of the bytes.
- `encoded`: its file; the server decodes it.
"""
WireOrAuto = Literal["auto", "float32", "uint8", "encoded"]
"""What a user may say: a wire form, or that the best one is chosen (`serving.client.wire_choice`)."""
WIRES: tuple[Wire, ...] = ("float32", "uint8", "encoded")
