"""How much memory a worker may take, and what each step of its work gets of it."""

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import NamedTuple

from serving.errors import UsageError
from serving.process.cpus import usable_cpus

MIB = 1024 * 1024
CHUNKS_AT_ONCE = 2
"""Chunks that a worker has under way: the second is read while the first waits for its last answers and is written, so
a store's latency is hidden."""
LARGEST_BATCH = 128 * MIB
"""Bytes of a request of several images, however much memory there is: a server holds a few copies of each."""
_ENOUGH_ASKING, _ENOUGH_A_PROCESSOR = 64 * MIB, 16 * MIB
"""Bytes that requests of decoded images take in each chunk, however much memory there is: one request of the largest
usual ones (32 images of 224 pixels as float32), three of smaller ones. With few processors images come slowly, and
requests that are half as large cost no more."""
_AHEAD_A_PROCESSOR = 2
"""Images that are decoded ahead in each chunk, however much memory there is: one under way, and one that is done. The
next batch is there already, so these only smooth what comes."""
_GROWTH = 96 * MIB
"""What a process takes beyond what it had before the first image and what is counted: gRPC's buffers, outcomes, and
memory that its allocator keeps."""
_THREAD = 128 * 1024
"""Stack and buffers of a thread that reads."""
_USUAL_SENDING, _USUAL_DECODING = 256 * MIB, 512 * MIB
"""Free bytes to reckon with where no limit was given and the usual one is small: images of everyday sizes pass, and
a container that can't hold them ends the run, not their rows."""


class Allowance(NamedTuple):
    """How much memory a process may take, as the user has it."""

    given: int | None = None
    """Bytes; None for what is usual where it runs."""
    beside_server: bool = False
    """A server of the run's own takes half of what is usual."""
    ceiling: int | None = None
    """Bytes at which whoever started the process stops it."""
    sharers: int = 1
    """Workers of the process, which share it."""

    @property
    def limit(self) -> int:
        """Bytes that the process may take."""
        limit = default_limit(beside_server=self.beside_server) if self.given is None else self.given
        return limit if self.ceiling is None else min(limit, self.ceiling)


class Room(NamedTuple):
    """Bytes that the steps of one chunk may take."""

    limit: int
    """That of the whole process, for messages."""
    image: int
    """Largest file; one over it is rejected."""
    peeking: int
    """Files that are read at the first attempt, as they are small, and wait for their turn."""
    reading: int
    """Larger files that are read, and what waits to be decoded or sent."""
    decoded: int
    """Images that are decoded before their batch begins."""
    batch: int
    """Images of a request; a single one may have more."""
    asking: int
    """Requests under way, their copies included."""
    decoding: int
    """Images that are being decoded, in all chunks together."""


def divide(allowance: Allowance, taken: int, *, readers: int, decoded_bytes: int | None) -> Room:
    """Divides what a process may take among its steps.

    A file is there twice while a bucket's client reads it, once in a batch, and three times while it is asked about:
    itself, in the request's message, and in gRPC's copy of that.

    Args:
      allowance: what the process may take in all.
      taken: bytes that it takes before the first image.
      readers: number of its threads that read.
      decoded_bytes: bytes of an image as it is sent; None where files are sent as they are.

    Raises:
      UsageError: what was given is too little for any image.
    """
    sent_as_files = decoded_bytes is None
    spent = taken + readers * _THREAD + _GROWTH
    free, least = (allowance.limit - spent) // allowance.sharers, _least(decoded_bytes)
    if allowance.given is None:
        free = max(free, least, _USUAL_SENDING if sent_as_files else _USUAL_DECODING)
    if free < least:
        raise UsageError(
            f"`max_memory` {show(allowance.limit)} is too little for any image, as the process itself takes "
            f"{show(spent)}: give it at least {show(spent + least * allowance.sharers + MIB)}"
        )
    if decoded_bytes is None:
        unit = free // CHUNKS_AT_ONCE * 2 // 15  # 1 + 2 + (a batch and the image that begins the next) 1.5 + 3
        return Room(
            limit=spent + free,
            image=unit,
            peeking=unit,
            reading=2 * unit,
            decoded=0,
            batch=min(unit // 2, LARGEST_BATCH),
            asking=3 * unit,
            decoding=0,
        )
    decoding = free * 5 // 8
    unit = (free - decoding) // CHUNKS_AT_ONCE // 9  # 1 + 3 + 1 + 1 + 3
    enough = min(_ENOUGH_ASKING, usable_cpus() * _ENOUGH_A_PROCESSOR)
    asking = min(3 * unit, max(enough, 3 * decoded_bytes))
    return Room(
        limit=spent + free,
        image=3 * unit // 2,
        peeking=unit,
        reading=3 * unit,
        decoded=min(unit, _AHEAD_A_PROCESSOR * usable_cpus() * decoded_bytes),
        batch=min(unit, LARGEST_BATCH, asking // 3),
        asking=asking,
        decoding=decoding,
    )


def _least(decoded_bytes: int | None) -> int:
    """Free bytes with which a file of a megabyte, or one decoded image, passes through all steps."""
    if decoded_bytes is None:
        return 15 * CHUNKS_AT_ONCE * MIB // 2
    return 9 * CHUNKS_AT_ONCE * max(decoded_bytes, MIB) * 8 // 3


def show(amount: int) -> str:
    """Bytes for people, and for `max_memory`: `1536MiB`."""
    return f"{amount // MIB}MiB"


def default_limit(*, beside_server: bool = False) -> int:
    """Bytes to take where no limit is given: nine tenths of the container's limit, else half of the machine's memory.

    Args:
      beside_server: a server of the run's own takes the other half.
    """
    container = container_limit()
    limit = machine_memory() // 2 if container is None else container * 9 // 10
    return limit // 2 if beside_server else limit


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def container_limit(root: Path = Path("/")) -> int | None:
    """The smallest memory limit of this process's control groups and those above them; None if they have none.

    It reads version 2 and version 1, whose files are those of the group itself in a container that sees itself as the
    root, and those of the path in /proc/self/cgroup elsewhere.
    """
    limits = []
    for folder, name in _groups(root):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < machine_memory():  # else `max`, or version 1's number for none
            limits.append(int(text))
    return min(limits, default=None)


def _groups(root: Path) -> list[tuple[Path, str]]:
    """Folders of the control groups that this process is in, up to the root, and the files that may limit it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    mounted, found = root / "sys/fs/cgroup", []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tops, names = [mounted, mounted / "unified"], ["memory.max", "memory.high"]
        elif "memory" in controllers.split(","):
            tops, names = [mounted / "memory", mounted / controllers], ["memory.limit_in_bytes"]
        else:
            continue
        steps = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(steps), -1, -1):
            found += [(top.joinpath(*steps[:depth]), name) for top in tops for name in names]
    return found


def tame_allocator() -> None:
    """Makes the C library keep less of what is freed, and ask the system less often; before a process starts threads.

    By default it has a heap for each of many threads, keeps freed memory in each, and lets blocks grow that it keeps:
    twice what is in use. With one heap for all threads little is kept, so that requests and images of usual sizes may
    lie in it, too. Otherwise the system would clear fresh pages for each of them: a fifth of an image's CPU as float32.
    Threads that wait for the heap cost nothing, as Python's seldom allocate together. Only glibc has `mallopt`.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 32 * MIB), (_M_TRIM_THRESHOLD, 64 * MIB)):
            library.mallopt(parameter, value)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def resident() -> int:
    """Bytes of memory that this process takes now; where the system doesn't say, the most that it took."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
