"""Files are read within bytes, whatever was known of their sizes."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from beam_jobs.image_reader import ImageReader, Prepared, read_row
from beam_jobs.manifest import Row
from beam_jobs.memory import MIB, Allowance, divide
from serving.images.encoder import Payload
from serving.images.limits import ImageRejected
from serving.storage.local_file import TooLarge

LIMIT = 256 * MIB
READERS = 4
ROOM = divide(Allowance(LIMIT), 64 * MIB, readers=READERS, decoded_bytes=None)


class Store:
    """Files of given sizes, read as from a bucket; it may not know a size without reading."""

    def __init__(self, sizes: Sequence[int], *, tells: bool = True) -> None:
        self.sizes = list(sizes)
        self.reads: list[tuple[int, int]] = []
        self._tells = tells
        self._lock = threading.Lock()

    def read(self, path: str, limit: int) -> bytes:
        number = int(path)
        with self._lock:
            self.reads.append((number, limit))
        if self.sizes[number] > limit:
            raise TooLarge(self.sizes[number]) if self._tells else TooLarge
        return b"x" * self.sizes[number]


def prepare(store: Store, known: Sequence[int | None], max_bytes: int = 64 * MIB) -> list[Prepared]:
    rows = [(i, Row(str(i), size)) for i, size in enumerate(known)]
    reader = ImageReader(read_row(store.read, max_bytes), lambda data: data, READERS, ROOM, None)
    try:
        return list(reader.prepare(rows, 16))
    finally:
        reader.close()


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_small_and_large_files_come_whole_and_in_order(known: bool, tells: bool) -> None:
    sizes = [10, 3 * MIB, 0, 5 * MIB, 20, ROOM.image, 30]
    store = Store(sizes, tells=tells)
    found = prepare(store, sizes if known else [None] * len(sizes))
    assert [(one.row, one.bytes) for one in found] == list(enumerate(sizes))
    if known:
        assert len(store.reads) == len(sizes)


def test_a_small_file_of_unknown_size_is_asked_for_once() -> None:
    store = Store([1000] * 20)
    prepare(store, [None] * 20)
    assert sorted(number for number, _ in store.reads) == list(range(20))


def test_a_file_that_grew_since_it_was_listed_is_read_as_it_is() -> None:
    sizes = [5 * MIB, 6 * MIB, 10]
    found = prepare(Store(sizes), [3 * MIB, 7, 10])
    assert [one.bytes for one in found] == sizes


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_memory_has_no_room_for_is_rejected_by_that_flag(known: bool, tells: bool) -> None:
    size = ROOM.image + 1
    small, large = prepare(Store([10, size], tells=tells), [10, size if known else None])
    assert small.outcome is None
    assert large.outcome
    assert (large.outcome.verdict, large.outcome.reason) == ("rejected", "too_large")
    assert "`max_memory` 256MiB" in large.outcome.message


def test_a_file_over_the_users_limit_is_rejected_by_that_flag() -> None:
    (one,) = prepare(Store([3 * MIB]), [None], max_bytes=2 * MIB)
    assert one.outcome
    assert "over the limit of 2,097,152 bytes (`max_image_bytes`)" in one.outcome.message


SMALL, DECODED = 100, 200_000
DECODED_ROOM = divide(Allowance(2048 * MIB), 64 * MIB, readers=READERS, decoded_bytes=DECODED)


class Decoder:
    """Makes arrays of one size, whose numbers are the file's own length."""

    def __init__(self) -> None:
        self.decoded = 0
        self._lock = threading.Lock()

    def __call__(self, data: bytes) -> Payload:
        with self._lock:
            self.decoded += 1
        return np.full(DECODED // 4, len(data), np.float32)


def test_files_wait_as_such_and_are_decoded_shortly_before_their_turn() -> None:
    store, decoder = Store([SMALL] * 100), Decoder()
    reader = ImageReader(read_row(store.read, 64 * MIB), decoder, READERS, DECODED_ROOM, DECODED)
    rows = ((number, Row(str(number), SMALL)) for number in range(100))
    prepared = reader.prepare(rows, 50)
    next(prepared)
    while len(store.reads) < 50:
        pass
    reader.close()
    assert 1 <= decoder.decoded <= 1 + DECODED_ROOM.decoded // DECODED


def test_small_and_large_files_are_decoded_in_their_order() -> None:
    sizes = [SMALL, DECODED + 1, 3 * MIB, SMALL, DECODED - 1, 2 * SMALL] * 5
    reader = ImageReader(read_row(Store(sizes).read, 64 * MIB), Decoder(), READERS, DECODED_ROOM, DECODED)
    found = list(reader.prepare([(number, Row(str(number))) for number in range(len(sizes))], 8))
    reader.close()
    assert [(one.row, one.bytes) for one in found] == [(number, DECODED) for number in range(len(sizes))]
    assert [int(np.asarray(one.payload)[0]) for one in found] == sizes


def test_a_file_that_is_not_there_is_the_images_fault() -> None:
    def read(path: str, limit: int) -> bytes:
        raise FileNotFoundError(path)

    with pytest.raises(ImageRejected) as error:
        read_row(read, 10)(Row("gone.jpg"), 10)
    assert error.value.reason == "missing"
