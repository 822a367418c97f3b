"""What a refusal, a missed deadline and a wrong answer say of which image; with a fake model."""

from collections.abc import Sequence

import numpy as np
import pytest

from serving.client.image_calls import Scores
from serving.client.scores import rank
from serving.errors import DeadlineExceeded, InvalidRequest, ServerUnavailable
from serving.images.encoder import Payload
from tests.beam_jobs.fake_predictor import FakePredictor, outcomes, verdicts


def test_a_refused_image_costs_only_itself() -> None:
    predictor = FakePredictor(poison=b"!")
    found = outcomes([b"a", b"b", b"!", b"c"] * 8, predictor, batch_size=16)
    assert verdicts(found) == "ppfp" * 8
    assert found[2].stage == "predict"
    assert found[2].reason == "refused"


def test_files_that_the_server_refuses_are_the_images_fault() -> None:
    assert verdicts(outcomes([b"a", b"!"], FakePredictor(poison=b"!"), decoded_by_server=True)) == "pr"


def test_another_clients_bad_image_does_not_fail_ours() -> None:
    assert verdicts(outcomes([b"a"], FakePredictor(innocent_refusals=2))) == "p"


def test_a_batch_over_the_servers_limit_is_halved_until_it_fits() -> None:
    predictor = FakePredictor(most=3)
    assert verdicts(outcomes([b"a"] * 32, predictor, batch_size=16)) == "p" * 32
    assert min(predictor.sizes) == 2


def test_a_server_that_begins_to_refuse_everything_rejects_no_image() -> None:
    class Sick(FakePredictor):
        def predict(self, images: Sequence[Payload]) -> Scores:
            if len(self.sizes) >= 2:
                raise InvalidRequest("INTERNAL: the GPU is lost", "fake")
            return super().predict(images)

    with pytest.raises(ServerUnavailable, match=r"refuses what it has answered before.*the GPU is lost"):
        outcomes([b"a"] * 12, Sick(), batch_size=4, doubtful_retries=1)


def test_the_servers_largest_batch_is_learned_once() -> None:
    class Small(FakePredictor):
        def predict(self, images: Sequence[Payload]) -> Scores:
            scores = super().predict(images)
            if len(images) > 4:
                raise InvalidRequest("Task size 16 is larger than maximum input batch size 4", "fake")
            return scores

    predictor = Small()
    assert verdicts(outcomes([b"a"] * 64, predictor, batch_size=16, requests_in_flight=1)) == "p" * 64
    assert predictor.sizes == [16] + [4] * 16


def test_an_unreachable_server_is_no_verdict() -> None:
    class Away(FakePredictor):
        def predict(self, images: Sequence[Payload]) -> Scores:
            raise ServerUnavailable("away", "fake")

    with pytest.raises(ServerUnavailable):
        outcomes([b"a"] * 5, Away())


def test_an_answer_that_is_no_number_is_a_failure() -> None:
    class Nan(FakePredictor):
        def predict(self, images: Sequence[Payload]) -> Scores:
            return Scores(np.full((len(images), 2), np.nan, np.float32), np.ones(len(images), bool))

    assert outcomes([b"a"], Nan())[0].reason == "not_finite"


def test_equal_scores_stand_in_label_order() -> None:
    assert rank(np.array([0.2, 0.4, 0.4000001, 0.0], np.float32), 3) == ([1, 2, 0], [0.4, 0.4, 0.2])
    assert rank(np.array([8e-9, 1.0, 9e-9], np.float32), 0) == ([0, 1, 2], [8e-9, 1.0, 9e-9])
    assert rank(np.array([8e-9, 1.0, 9e-9], np.float32), 3)[0] == [1, 2, 0]


class Slow(FakePredictor):
    """Misses the deadline with an `s` byte, with more than `most_in_time` images, or from a call on."""

    def __init__(self, most_in_time: int = 10**6, hangs_from: float = float("inf")) -> None:
        super().__init__()
        self.most_in_time, self.hangs_from, self.asked_slow = most_in_time, hangs_from, 0

    def predict(self, images: Sequence[Payload]) -> Scores:
        scores = super().predict(images)
        slow = any(bytes(image)[:1] == b"s" for image in images)
        if slow or len(images) > self.most_in_time or len(self.sizes) > self.hangs_from:
            self.asked_slow += slow
            raise DeadlineExceeded("DEADLINE_EXCEEDED", "fake")
        return scores


@pytest.mark.parametrize("place", [0, 13, 31])
def test_a_slow_image_costs_only_itself_and_few_deadlines(place: int) -> None:
    files = [b"a"] * 32
    files[place] = b"s"
    predictor = Slow()
    found = outcomes(files, predictor, requests_in_flight=1)
    assert [outcome.row for outcome in found if outcome.verdict != "predicted"] == [place]
    assert (found[place].stage, found[place].reason) == ("predict", "too_slow")
    assert "`deadline_s`" in found[place].message
    assert predictor.asked_slow == 5  # twice with all, once with its half, twice alone


def test_a_slow_image_alone_in_its_request_is_asked_about_twice() -> None:
    predictor = Slow()
    assert verdicts(outcomes([b"s", b"a"], predictor, batch_size=1)) == "rp"
    assert predictor.asked_slow == 2


def test_several_slow_images_and_refused_ones_in_one_batch() -> None:
    class Mixed(Slow):
        def __init__(self) -> None:
            super().__init__()
            self.poison = b"!"

    assert verdicts(outcomes([b"a", b"s", b"!", b"a", b"s", b"\xff"], Mixed(), lone_retries=0)) == "prfprr"


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("missed", range(1, 7))
def test_a_hang_that_ends_makes_no_image_slow(missed: int, batch_size: int) -> None:
    """Whatever call is the first to be answered again."""

    class Hangs(FakePredictor):
        def predict(self, images: Sequence[Payload]) -> Scores:
            scores = super().predict(images)
            if 2 < len(self.sizes) <= 2 + missed:
                raise DeadlineExceeded("DEADLINE_EXCEEDED", "fake")
            return scores

    files = [b"a"] * 16
    assert verdicts(outcomes(files, Hangs(), batch_size=batch_size, requests_in_flight=1)) == "p" * 16


@pytest.mark.parametrize("answered", [0, 2])
def test_a_server_that_hangs_makes_no_image_slow(answered: int) -> None:
    with pytest.raises(DeadlineExceeded):
        outcomes([b"a"] * 32, Slow(hangs_from=answered), batch_size=4, requests_in_flight=1)


def test_a_batch_that_no_server_answers_within_the_deadline_is_taken_apart_and_learned_from() -> None:
    predictor = Slow(most_in_time=4)
    assert verdicts(outcomes([b"a"] * 80, predictor, batch_size=8, requests_in_flight=1)) == "p" * 80
    assert predictor.sizes.count(8) == 4  # two batches of ten
