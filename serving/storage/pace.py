"""Receives the body of a web server's or bucket's answer, which must not trickle.

A time-out of the network counts from one byte to the next, so by itself it lets a byte a second go on for days.
"""

import email.utils
import time
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

PIECE = 64 * 1024
_LEAST_BYTES_PER_S = 1024
"""A server that is slower than that on average is taken for one that hangs."""


def pieces(
    answer: urllib3.BaseHTTPResponse, wait_s: float, size: int = PIECE, decode: bool | None = None
) -> Iterator[bytes]:
    """The body as it comes, up to `size` bytes at once.

    Raises:
      TimeoutError: it came too slowly, after `wait_s` seconds in which any pace is right.
      urllib3.exceptions.HTTPError: it broke off.
    """
    started, received = time.monotonic(), 0
    more = {} if decode is None else {"decode_content": decode}
    while piece := answer.read1(size, **more):
        received += len(piece)
        yield piece
        seconds = time.monotonic() - started
        if received < (seconds - wait_s) * _LEAST_BYTES_PER_S:
            raise TimeoutError(f"only {received:,} bytes in {seconds:.0f} s")


def receive(answer: urllib3.BaseHTTPResponse, wait_s: float, most: int | None = None) -> bytes:
    """The whole body, or its first `most` bytes; raises as `pieces`."""
    data = bytearray()
    if most == 0:
        return b""
    for piece in pieces(answer, wait_s):
        data += piece
        if most is not None and len(data) >= most:
            return bytes(data[:most])
    return bytes(data)


def keep_pace(session: Any, wait_s: float) -> None:
    """Has each answer that a `requests.Session` gives come in `pieces`, whoever reads it."""

    def hook(answer: Any, *_: object, **__: object) -> None:
        raw = answer.raw
        raw.stream = lambda amt=PIECE, decode_content=None: pieces(raw, wait_s, amt, decode_content)

    session.hooks["response"].append(hook)


def retry_after_s(headers: Mapping[str, str] | None) -> float:
    """Seconds that an answer asks to wait before another try, by its `Retry-After`; 0 where it doesn't say."""
    value = (headers or {}).get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
