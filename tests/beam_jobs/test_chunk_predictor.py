"""One chunk with a fake model: every row gets one outcome, whatever the server does."""

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.chunk_predictor import ChunkOptions, ChunkPredictor
from beam_jobs.image_reader import Read
from beam_jobs.manifest import Row
from serving.client.image_calls import Scores
from serving.images.encoder import Payload
from tests.beam_jobs.fake_predictor import ROOM, FakePredictor, outcomes, verdicts


def test_rows_keep_their_order_and_their_own_scores() -> None:
    files = [bytes([i]) for i in range(200)]
    found = outcomes(files, FakePredictor(), batch_size=7, top_k=0)
    assert [outcome.row for outcome in found] == list(range(200))
    assert [outcome.scores[0] for outcome in found] == pytest.approx([i / 256 for i in range(200)], abs=1e-6)


def test_a_row_that_trips_a_library_up_fails_alone() -> None:
    def encode(data: bytes) -> Payload:
        if data == b"!":
            raise IndexError("string index out of range")
        return data

    rows = [(i, Row(name)) for i, name in enumerate("a!b")]
    with ChunkPredictor[Row](lambda row, _: row.path.encode(), encode, FakePredictor(), ChunkOptions(), ROOM) as chunk:
        found = list(chunk.outcomes(rows))
    assert verdicts(found) == "pfp"
    assert found[1].message == "string index out of range"


def test_images_are_not_held_beside_the_message_that_they_are_packed_into() -> None:
    decoded: list[weakref.ref[np.ndarray[Any, Any]]] = []

    def encode(data: bytes) -> Payload:
        image = np.full(100, data[0], np.uint8)
        decoded.append(weakref.ref(image))
        return image

    class Packs(FakePredictor):
        def pack(self, images: Sequence[Payload]) -> Sequence[Payload]:
            return list(np.stack([np.asarray(image) for image in images]))

        def predict(self, images: Sequence[Payload]) -> Scores:
            held.append(sum(image() is not None for image in decoded))
            return super().predict(images)

    held: list[int] = []
    options = ChunkOptions(batch_size=4, requests_in_flight=1)
    room = ROOM._replace(decoded=100)
    rows = [(i, Row(name)) for i, name in enumerate("abcdefghijkl")]
    read: Read[Row] = lambda row, _: row.path.encode()  # noqa: E731
    with ChunkPredictor(read, encode, Packs(), options, room, decoded_bytes=100) as chunk:
        assert verdicts(list(chunk.outcomes(rows))) == "p" * 12
    assert len(held) == 3
    assert held[-1] == 0  # nothing is prepared any more, and of its own none is left


def test_rejected_images_do_not_shrink_the_batches_of_others() -> None:
    predictor = FakePredictor()
    found = outcomes([b"a", b""] * 32, predictor, batch_size=8)
    assert verdicts(found) == "pr" * 32
    assert predictor.sizes == [8] * 4


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([b"a", b"b", b"!", b"\xff", b""]), max_size=60),
    st.integers(1, 9),
    st.integers(1, 5),
)
def test_every_row_gets_the_verdict_it_gets_alone(files: list[bytes], batch_size: int, in_flight: int) -> None:
    expected = {b"a": "p", b"b": "p", b"!": "f", b"\xff": "r", b"": "r"}
    found = outcomes(files, FakePredictor(poison=b"!"), batch_size=batch_size, requests_in_flight=in_flight,
                     readers=3, lone_retries=0)  # fmt: skip
    assert verdicts(found) == "".join(expected[file] for file in files)
