"""One chunk with a fake model: every row gets one verdict, whatever the server does."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.chunk_predictor import ChunkOptions, ChunkPredictor
from beam_jobs.image_reader import read_row
from beam_jobs.manifest import Row
from beam_jobs.memory import Allowance, divide
from beam_jobs.parts import Outcome
from serving.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, ServerUnavailable
from serving.images.encoder import Payload
from serving.images.limits import PictureRejected
from serving.options import RetryPolicy
from serving.predictor import Scores
from serving.scores import rank


class FakePredictor:
    """Scores a picture by its first byte; refuses requests that hold a `poison` byte."""

    def __init__(self, poison: bytes = b"", most: int = 10**6, innocent_refusals: int = 0) -> None:
        self.poison, self.most, self.innocent_refusals = poison, most, innocent_refusals
        self.sizes: list[int] = []
        self._lock = threading.Lock()

    def predict(self, pictures: Sequence[Payload]) -> Scores:
        first = [bytes(picture)[:1] for picture in pictures]
        with self._lock:
            self.sizes.append(len(pictures))
            if self.innocent_refusals:
                self.innocent_refusals -= 1
                raise InvalidRequest("another client's picture", "fake")
        if len(pictures) > self.most:
            raise RequestTooLarge("too large", "fake")
        if any(byte in self.poison for byte in first):
            raise InvalidRequest("refused", "fake")
        values = np.array([byte[0] for byte in first], np.float32)
        return Scores(np.stack([values / 256, 1 - values / 256], axis=1), np.array([b != b"\xff" for b in first]))


ROOM = divide(Allowance(2**31), 0, readers=4, decoded_bytes=None)
IMPATIENT = RetryPolicy(patience_s=0.2, first_delay_s=1e-3)


def outcomes(files: Sequence[bytes], predictor: FakePredictor, **options: Any) -> list[Outcome]:
    def read(row: Row, room: int) -> bytes:
        return files[int(row.path)]

    def encode(data: bytes) -> Payload:
        if not data:
            raise PictureRejected("empty", "no bytes")
        return data

    rows = [(i, Row(str(i))) for i in range(len(files))]
    with ChunkPredictor(
        read, encode, predictor, ChunkOptions(**options), ROOM, retry=IMPATIENT, known_good=b"g"
    ) as chunk:
        return list(chunk.outcomes(rows))


def verdicts(found: Sequence[Outcome]) -> str:
    return "".join(outcome.verdict[0] for outcome in found)


def test_rows_keep_their_order_and_their_own_scores() -> None:
    files = [bytes([i]) for i in range(200)]
    found = outcomes(files, FakePredictor(), batch_size=7, top_k=0)
    assert [outcome.row for outcome in found] == list(range(200))
    assert [outcome.scores[0] for outcome in found] == pytest.approx([i / 256 for i in range(200)], abs=1e-6)


def test_a_refused_picture_costs_only_itself() -> None:
    predictor = FakePredictor(poison=b"!")
    found = outcomes([b"a", b"b", b"!", b"c"] * 8, predictor, batch_size=16)
    assert verdicts(found) == "ppfp" * 8
    assert found[2].stage == "predict"
    assert found[2].reason == "refused"


def test_files_that_the_server_refuses_are_the_pictures_fault() -> None:
    assert verdicts(outcomes([b"a", b"!"], FakePredictor(poison=b"!"), decoded_by_server=True)) == "pr"


def test_another_clients_bad_picture_does_not_condemn_ours() -> None:
    assert verdicts(outcomes([b"a"], FakePredictor(innocent_refusals=2))) == "p"


def test_a_batch_over_the_servers_limit_is_halved_until_it_fits() -> None:
    predictor = FakePredictor(most=3)
    assert verdicts(outcomes([b"a"] * 32, predictor, batch_size=16)) == "p" * 32
    assert min(predictor.sizes) == 2


def test_a_server_that_falls_sick_condemns_nobody() -> None:
    class Sick(FakePredictor):
        def predict(self, pictures: Sequence[Payload]) -> Scores:
            if len(self.sizes) >= 2:
                raise InvalidRequest("INTERNAL: the GPU is lost", "fake")
            return super().predict(pictures)

    with pytest.raises(ServerUnavailable, match=r"refuses what it has answered before.*the GPU is lost"):
        outcomes([b"a"] * 12, Sick(), batch_size=4, doubtful_retries=1)


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


def test_the_servers_largest_batch_is_learned_once() -> None:
    class Small(FakePredictor):
        def predict(self, pictures: Sequence[Payload]) -> Scores:
            scores = super().predict(pictures)
            if len(pictures) > 4:
                raise InvalidRequest("Task size 16 is larger than maximum input batch size 4", "fake")
            return scores

    predictor = Small()
    assert verdicts(outcomes([b"a"] * 64, predictor, batch_size=16, requests_in_flight=1)) == "p" * 64
    assert predictor.sizes == [16] + [4] * 16


def test_an_unreachable_server_is_no_verdict() -> None:
    class Away(FakePredictor):
        def predict(self, pictures: Sequence[Payload]) -> Scores:
            raise ServerUnavailable("away", "fake")

    with pytest.raises(ServerUnavailable):
        outcomes([b"a"] * 5, Away())


def test_an_answer_that_is_no_number_is_a_failure() -> None:
    class Nan(FakePredictor):
        def predict(self, pictures: Sequence[Payload]) -> Scores:
            return Scores(np.full((len(pictures), 2), np.nan, np.float32), np.ones(len(pictures), bool))

    assert outcomes([b"a"], Nan())[0].reason == "not_finite"


def test_rejected_pictures_do_not_shrink_the_batches_of_others() -> None:
    predictor = FakePredictor()
    found = outcomes([b"a", b""] * 32, predictor, batch_size=8)
    assert verdicts(found) == "pr" * 32
    assert predictor.sizes == [8] * 4


@settings(max_examples=60, deadline=None)
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


def test_equal_scores_stand_in_label_order() -> None:
    assert rank(np.array([0.2, 0.4, 0.4000001, 0.0], np.float32), 3) == ([1, 2, 0], [0.4, 0.4, 0.2])
    assert rank(np.array([8e-9, 1.0, 9e-9], np.float32), 0) == ([0, 1, 2], [8e-9, 1.0, 9e-9])
    assert rank(np.array([8e-9, 1.0, 9e-9], np.float32), 3)[0] == [1, 2, 0]


def test_a_file_that_is_not_there_is_the_pictures_fault() -> None:
    def read(path: str, limit: int) -> bytes:
        raise FileNotFoundError(path)

    with pytest.raises(PictureRejected) as error:
        read_row(read, 10)(Row("gone.jpg"), 10)
    assert error.value.reason == "missing"


class Slow(FakePredictor):
    """Misses the deadline with an `s` byte, with more than `most_in_time` pictures, or from a call on."""

    def __init__(self, most_in_time: int = 10**6, hangs_from: float = float("inf")) -> None:
        super().__init__()
        self.most_in_time, self.hangs_from, self.asked_slow = most_in_time, hangs_from, 0

    def predict(self, pictures: Sequence[Payload]) -> Scores:
        scores = super().predict(pictures)
        slow = any(bytes(picture)[:1] == b"s" for picture in pictures)
        if slow or len(pictures) > self.most_in_time or len(self.sizes) > self.hangs_from:
            self.asked_slow += slow
            raise DeadlineExceeded("DEADLINE_EXCEEDED", "fake")
        return scores


@pytest.mark.parametrize("place", [0, 13, 31])
def test_a_slow_picture_costs_only_itself_and_few_deadlines(place: int) -> None:
    files = [b"a"] * 32
    files[place] = b"s"
    predictor = Slow()
    found = outcomes(files, predictor, requests_in_flight=1)
    assert [outcome.row for outcome in found if outcome.verdict != "predicted"] == [place]
    assert (found[place].stage, found[place].reason) == ("predict", "too_slow")
    assert "`deadline_s`" in found[place].message
    assert predictor.asked_slow == 5  # twice with all, once with its half, twice alone


def test_a_slow_picture_alone_in_its_request_is_asked_about_twice() -> None:
    predictor = Slow()
    assert verdicts(outcomes([b"s", b"a"], predictor, batch_size=1)) == "rp"
    assert predictor.asked_slow == 2


def test_several_slow_pictures_and_refused_ones_in_one_batch() -> None:
    class Mixed(Slow):
        def __init__(self) -> None:
            super().__init__()
            self.poison = b"!"

    assert verdicts(outcomes([b"a", b"s", b"!", b"a", b"s", b"\xff"], Mixed(), lone_retries=0)) == "prfprr"


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("missed", range(1, 7))
def test_a_hang_that_ends_makes_no_picture_slow(missed: int, batch_size: int) -> None:
    """Whatever call is the first to be answered again."""

    class Hangs(FakePredictor):
        def predict(self, pictures: Sequence[Payload]) -> Scores:
            scores = super().predict(pictures)
            if 2 < len(self.sizes) <= 2 + missed:
                raise DeadlineExceeded("DEADLINE_EXCEEDED", "fake")
            return scores

    files = [b"a"] * 16
    assert verdicts(outcomes(files, Hangs(), batch_size=batch_size, requests_in_flight=1)) == "p" * 16


@pytest.mark.parametrize("answered", [0, 2])
def test_a_server_that_hangs_makes_no_picture_slow(answered: int) -> None:
    with pytest.raises(DeadlineExceeded):
        outcomes([b"a"] * 32, Slow(hangs_from=answered), batch_size=4, requests_in_flight=1)


def test_a_batch_that_no_server_answers_within_the_deadline_is_taken_apart_and_learned_from() -> None:
    predictor = Slow(most_in_time=4)
    assert verdicts(outcomes([b"a"] * 80, predictor, batch_size=8, requests_in_flight=1)) == "p" * 80
    assert predictor.sizes.count(8) == 4  # two batches of ten
