"""Keeps what TensorFlow's decoders say of an image out of the terminal and the notebook.

libjpeg prints "Corrupt JPEG data" by C's `stderr`, whatever TensorFlow's log level is, and does not say which image it
means. Whoever decodes learns from the error, and names the image. No descriptor is turned elsewhere, since other
threads and the notebook itself write there: only C's own variable `stderr`, which Python does not use, is another
stream for a while.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

_KNOWN = re.compile(
    rb"(Corrupt JPEG data|Premature end of|Input file read error|Improper call to JPEG library|Not a JPEG file|Bogus |"
    rb"Unsupported |Invalid |Unknown Adobe|Inconsistent progression|Application transferred|Warning: unknown JFIF|"
    rb"Sorry, |Didn't expect|Missing Huffman|Huffman |Arithmetic table|Quantization table|Component index|"
    rb"Image too big|JPEG datastream|Maximum supported image|Empty input file|Sampling factors|Too many color |"
    rb"[IWE]\d{4} .*\b(jpeg_mem|png_io|gif_io|decode_image_op|local_rendezvous)\.cc:|\s+\[\[\{\{node )"
)
"""Lines of libjpeg (its `jerror.h`), and of TensorFlow's log about an image."""
_UNBUFFERED = 2  # _IONBF


class _HeldStream:
    """A stream of C in a file in memory, and the variable `stderr` that it can stand in for."""

    def __init__(self) -> None:
        libc: Any = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(libc, "stderr")
        self._file = os.memfd_create("decoders")
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
        libc.fdopen.restype = ctypes.c_void_p
        self._stream = libc.fdopen(self._file, b"a")
        libc.setvbuf(ctypes.c_void_p(self._stream), None, _UNBUFFERED, ctypes.c_size_t(0))
        self._lock = threading.Lock()
        self._users = 0
        self._before: int | None = None

    def take(self) -> None:
        """Stands in for `stderr`."""
        with self._lock:
            if self._users == 0:
                self._before, self._variable.value = self._variable.value, self._stream
            self._users += 1

    def give_back(self) -> None:
        """Puts `stderr` back where no other thread needs it, and writes there what is not about an image."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._variable.value = self._before
                self._forward()

    def _forward(self) -> None:
        size = os.fstat(self._file).st_size
        if size:
            lines = os.pread(self._file, size, 0).splitlines(keepends=True)
            os.ftruncate(self._file, 0)
            if other := b"".join(line for line in lines if not _KNOWN.match(line)):
                with contextlib.suppress(OSError):
                    os.write(2, other)


def _held_stream() -> _HeldStream | None:
    try:
        return _HeldStream()
    except (AttributeError, ValueError, OSError):  # another system's library, which has no such variable or file
        return None


_HELD = _held_stream()


@contextlib.contextmanager
def without_decoder_messages() -> Iterator[None]:
    """Holds back what native code prints while images are decoded; all but what is about images is printed afterwards.

    In several threads at once, too. Where the system's C library doesn't allow it, nothing is held back.
    """
    if _HELD is None:
        yield
        return
    _HELD.take()
    try:
        yield
    finally:
        _HELD.give_back()
