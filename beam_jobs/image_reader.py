"""Reads and decodes the images of rows ahead of the requests, within a limit of bytes.

Files' sizes are often unknown before they are opened. So a first attempt reads a file only if it is small, and gives
the size of one that is not; a second attempt reads the larger ones, within a window that counts their bytes. What is
read waits in its smaller form, mostly as the file, and is decoded shortly before it is sent.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from beam_jobs.bounded_map import bounded_map
from beam_jobs.manifest import Row
from beam_jobs.memory import Room, show
from beam_jobs.parts import Outcome
from serving.errors import FileError, FlowImagesError
from serving.images.encoder import CORRUPT, UNDECIDED, Payload, Undecided
from serving.images.facts import Fact, facts_of
from serving.images.limits import ImageRejected, bad_name, own_faults
from serving.process.cpus import usable_cpus
from serving.storage.local_file import TooLarge

T = TypeVar("T")


class HasSize(Protocol):
    """What tells where an image's file is, such as a row of the manifest."""

    @property
    def size(self) -> int | None:
        """Bytes of the file, where they are known before it is opened."""


Source = TypeVar("Source", bound=HasSize)
Read = Callable[[Source, int], bytes]
"""The bytes of a source's file; raises ImageRejected, TooLarge for one with more bytes than the caller has room for,
and the errors of `serving.storage.base`."""


class Prepared(NamedTuple):
    """A row whose image can be sent, or that has its outcome already."""

    row: int
    payload: Payload | None
    outcome: Outcome | None
    facts: Sequence[str | int | None] = ()
    """The facts of an image that can be sent, in the order in which they were asked for."""

    @property
    def bytes(self) -> int:
        """The size of the payload."""
        if self.payload is None:
            return 0
        return len(self.payload) if isinstance(self.payload, bytes) else self.payload.nbytes


class _Large(NamedTuple, Generic[Source]):
    """A file that has to wait for room."""

    number: int
    source: Source
    size: int


class _File(NamedTuple):
    """A file that waits to be decoded."""

    number: int
    data: bytes


class ImageReader(Generic[Source]):
    """Reads and decodes images in threads. `close` ends them."""

    def __init__(
        self,
        read: Read[Source],
        encode: Callable[[bytes], Payload],
        readers: int,
        room: Room,
        decoded_bytes: int | None,
        facts: Sequence[Fact] = (),
    ) -> None:
        """Starts threads that wait for work.

        Args:
          read: reads a source's file.
          encode: bytes to payload, raising ImageRejected.
          readers: images that are read and decoded at once.
          room: bytes that they may take.
          decoded_bytes: bytes of a payload; None where it is the file.
          facts: to find out about each image.
        """
        self._facts = facts
        self._read = read
        self._encode = encode
        self._room = room
        self._decoded_bytes = decoded_bytes
        self._small = max(0, room.peeking // readers - (decoded_bytes or 0)) // 2
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="read")
        self._decoders = ThreadPoolExecutor(usable_cpus(), thread_name_prefix="decode")

    def close(self) -> None:
        """Ends the threads, after the work under way."""
        self._threads.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def prepare(self, sources: Iterable[tuple[int, Source]], window: int) -> Iterator[Prepared]:
        """Each (place in the chunk, row) prepared, in their order, with up to `window` of them under way at once."""
        found = self._read_all(sources, window)
        if self._decoded_bytes is None:  # a file is sent as it was read
            return (one for one in found if isinstance(one, Prepared))
        return bounded_map(
            self._submit_decoding,
            found,
            window,
            room=self._room.decoded,
            cost=self._decoding_cost,
            held=_held,
            promptly=True,
        )

    def _read_all(self, sources: Iterable[tuple[int, Source]], window: int) -> Iterator[Prepared | _File]:
        room = self._room
        first = bounded_map(self._submit_first, sources, window, room=room.peeking, cost=self._first_cost, held=_held)
        second = bounded_map(
            self._submit_large, first, window, room=room.reading, cost=self._large_cost, held=_held, promptly=True
        )
        for one in second:
            while isinstance(one, _Large):  # it grew after its bytes were counted: it is read here, one at a time
                one = self._prepare(one.number, one.source, room.image)
            yield one

    def _submit_decoding(self, one: Prepared | _File) -> Future[Prepared]:
        return _done(one) if isinstance(one, Prepared) else self._decoders.submit(self._decode, one)

    def _decoding_cost(self, one: Prepared | _File) -> int:
        return _held(one) if isinstance(one, Prepared) else self._decoded_bytes or 0

    def _submit_first(self, numbered: tuple[int, Source]) -> "Future[_Read[Source]]":
        number, source = numbered
        if source.size is not None and source.size > self._small:
            return _done(_Large(number, source, source.size))
        return self._threads.submit(self._prepare, number, source, self._small)

    def _first_cost(self, numbered: tuple[int, Source]) -> int:
        size = numbered[1].size
        return self._cost(self._small) if size is None else self._cost(size) if size <= self._small else 0

    def _submit_large(self, one: "_Read[Source]") -> "Future[_Read[Source]]":
        return self._threads.submit(self._prepare, *one) if isinstance(one, _Large) else _done(one)

    def _large_cost(self, one: "_Read[Source]") -> int:
        return self._cost(min(one.size, self._room.image)) if isinstance(one, _Large) else _held(one)

    def _cost(self, size: int) -> int:
        """Bytes that a file takes while it is read, which a bucket's client puts together from pieces, and decoded."""
        return 2 * size + (self._decoded_bytes or 0)

    def _prepare(self, number: int, source: Source, size: int) -> "_Read[Source]":
        """Reads a file of up to `size` bytes, and decodes it if that makes it smaller."""
        try:
            file = _File(number, self._read(source, min(size, self._room.image)))
        except TooLarge as error:
            most = self._room.image
            found: int | None = error.args[0] if error.args else None
            if size < most and (found is None or found <= most):
                return _Large(number, source, most if found is None else found)
            message = (
                f"{'' if found is None else f'{found:,} bytes, '}over the {most:,} bytes that a file may have with "
                f"`max_memory` {show(self._room.limit)}: give it more"
            )
            return _rejected(number, ImageRejected("too_large", message))
        except Exception as error:
            return _without_image(number, error)
        return file if self._decoded_bytes and len(file.data) < self._decoded_bytes else self._decode(file)

    def _decode(self, file: _File) -> Prepared:
        try:
            payload = self._encode(file.data)
            return Prepared(file.number, payload, None, facts_of(file.data, self._facts) if self._facts else ())
        except Exception as error:
            return _without_image(file.number, error)


def read_row(read: Callable[[str, int], bytes], max_bytes: int) -> Read[Row]:
    """A reader of manifest rows that turns what is the image's own fault into ImageRejected."""

    def reader(row: Row, room: int) -> bytes:
        if row.unnameable:
            raise bad_name()
        with own_faults(max_bytes, room):
            return read(row.path, min(room, max_bytes))

    return reader


_Read = Prepared | _File | _Large[Source]
"""What reading a file came to."""


def _held(one: Prepared | _File | _Large[Any]) -> int:
    return one.bytes if isinstance(one, Prepared) else len(one.data) if isinstance(one, _File) else 0


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


def _without_image(number: int, error: Exception) -> Prepared:
    """The outcome of a row whose image can't be read or decoded.

    Raises:
      FlowImagesError: the error, where it is not the fault of a row: the run has to stop.
    """
    if isinstance(error, ImageRejected):
        return _rejected(number, error)
    if isinstance(error, Undecided):
        message = first_line(error)
        return Prepared(number, None, Outcome(number, "failed", stage="decode", reason=UNDECIDED, message=message))
    if isinstance(error, FlowImagesError) and not isinstance(error, FileError):
        raise error
    return _failed(number, error)  # also a library's error on one hostile row, which must not end that of all others


def _rejected(number: int, error: ImageRejected) -> Prepared:
    stage = "decode" if error.reason == CORRUPT else "read"
    return Prepared(number, None, Outcome(number, "rejected", stage=stage, reason=error.reason, message=error.message))


def _failed(number: int, error: Exception) -> Prepared:
    message = first_line(error)
    return Prepared(number, None, Outcome(number, "failed", stage="read", reason="unreadable", message=message))


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
