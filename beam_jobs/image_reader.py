"""Reads and decodes the images of rows ahead of the requests, within a limit of bytes.

Files' sizes are often unknown before they are opened. So a first attempt reads a file only if it is small, and gives
the size of one that is not; a second attempt reads the larger ones, within a window that counts their bytes.
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

    def close(self) -> None:
        """Ends the threads, after the work under way."""
        self._threads.shutdown(cancel_futures=True)

    def prepare(self, sources: Iterable[tuple[int, Source]], window: int) -> Iterator[Prepared]:
        """Each (place in the chunk, row) prepared, in their order, with up to `window` of them under way at once."""
        room = self._room
        first = bounded_map(self._submit_first, sources, window, room=room.peeking, cost=self._first_cost, held=_held)
        second = bounded_map(
            self._submit_large, first, window, room=room.reading, cost=self._large_cost, held=_held, promptly=True
        )
        for one in second:
            while isinstance(one, _Large):  # it grew after its bytes were counted: it is read here, one at a time
                one = self._prepare(one.number, one.source, room.image)
            yield one

    def _submit_first(self, numbered: tuple[int, Source]) -> "Future[Prepared | _Large[Source]]":
        number, source = numbered
        if source.size is not None and source.size > self._small:
            return _done(_Large(number, source, source.size))
        return self._threads.submit(self._prepare, number, source, self._small)

    def _first_cost(self, numbered: tuple[int, Source]) -> int:
        size = numbered[1].size
        return self._cost(self._small) if size is None else self._cost(size) if size <= self._small else 0

    def _submit_large(self, one: Prepared | _Large[Source]) -> "Future[Prepared | _Large[Source]]":
        if isinstance(one, Prepared):
            return _done(one)
        return self._threads.submit(self._prepare, *one)

    def _large_cost(self, one: Prepared | _Large[Source]) -> int:
        return _held(one) if isinstance(one, Prepared) else self._cost(min(one.size, self._room.image))

    def _cost(self, size: int) -> int:
        """Bytes that a file takes while it is read, which a bucket's client puts together from pieces, and decoded."""
        return 2 * size + (self._decoded_bytes or 0)

    def _prepare(self, number: int, source: Source, size: int) -> Prepared | _Large[Source]:
        """Reads and decodes a file of up to `size` bytes."""
        try:
            data = self._read(source, min(size, self._room.image))
            payload = self._encode(data)
            return Prepared(number, payload, None, facts_of(data, self._facts) if self._facts else ())
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
        except ImageRejected as error:
            return _rejected(number, error)
        except Undecided as error:
            message = first_line(error)
            return Prepared(number, None, Outcome(number, "failed", stage="decode", reason=UNDECIDED, message=message))
        except (FileError, PermissionError) as error:
            return _failed(number, error)
        except FlowImagesError:  # not the fault of a row: the run has to stop
            raise
        except Exception as error:  # a library's error on one hostile row must not end the run of all others
            return _failed(number, error)


def read_row(read: Callable[[str, int], bytes], max_bytes: int) -> Read[Row]:
    """A reader of manifest rows that turns what is the image's own fault into ImageRejected."""

    def reader(row: Row, room: int) -> bytes:
        if row.unnameable:
            raise bad_name()
        with own_faults(max_bytes, room):
            return read(row.path, min(room, max_bytes))

    return reader


def _held(one: Prepared | _Large[Any]) -> int:
    return one.bytes if isinstance(one, Prepared) else 0


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


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
