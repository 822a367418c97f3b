"""The retry loop: what it repeats, what it never does, and what ends it."""

import dataclasses
import threading
from collections.abc import Callable, Iterable

import pytest

from serving.errors import (
    AccessDenied,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServerBusy,
    ServerUnavailable,
    ServingError,
    Unsupported,
)
from serving.network.retry import Retrier, RetryPolicy, retry_rejected

PATIENT = RetryPolicy(patience_s=600, first_delay_s=1e-4, max_delay_s=1e-3, budget=5, refund=0.5)


class Server:
    """Raises the errors in turn, then answers; counts how often it is asked."""

    def __init__(self, errors: Iterable[ServingError]) -> None:
        self._errors = iter(errors)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        for error in self._errors:
            raise error
        return "answer"


def away(times: int) -> Server:
    return Server([ServerUnavailable("away", "fake")] * times)


def test_what_may_pass_is_asked_again() -> None:
    server = Server([kind("for now", "fake") for kind in (ServerUnavailable, ServerBusy, DeadlineExceeded)])
    retrier = Retrier(PATIENT)
    assert retrier(server) == "answer"
    assert (server.asked, retrier.retries) == (4, 3)


@pytest.mark.parametrize("kind", [InvalidRequest, ModelNotFound, AccessDenied, Unsupported])
def test_what_would_be_refused_again_is_not(kind: type[ServingError]) -> None:
    server = Server([kind("no", "fake")])
    with pytest.raises(kind):
        Retrier(PATIENT)(server)
    assert server.asked == 1


def test_a_server_that_comes_and_goes_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    retrier = Retrier(dataclasses.replace(PATIENT, budget=1000))
    for _ in range(20):
        assert retrier(away(3)) == "answer"
    assert [record.getMessage() for record in caplog.records] == ["waiting up to 600 s: away"]


def test_the_budget_is_one_for_all_calls_and_successes_refill_it() -> None:
    retrier, gone = Retrier(PATIENT), away(100)
    with pytest.raises(ServerUnavailable):
        retrier(gone)
    assert gone.asked == 1 + 5
    with pytest.raises(ServerUnavailable):
        retrier(gone)
    assert gone.asked == 1 + 5 + 1  # nothing is left
    for _ in range(4):
        retrier(away(0))
    assert retrier(away(2)) == "answer"
    with pytest.raises(ServerUnavailable):
        retrier(away(1))


@pytest.mark.parametrize(
    "impatient",
    [
        lambda: Retrier(RetryPolicy(patience_s=0)),
        lambda: Retrier(PATIENT, stopped()),
    ],
    ids=["no-patience", "stop"],
)
def test_patience_and_a_stop_end_it(impatient: Callable[[], Retrier]) -> None:
    server = away(1)
    with pytest.raises(ServerUnavailable):
        impatient()(server)
    assert server.asked == 1


def stopped() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_a_call_without_fault_is_heard_again() -> None:
    innocent = Server([InvalidRequest("another client's", "fake")] * 2)
    assert retry_rejected(innocent) == "answer"
    assert innocent.asked == 3


def test_a_server_that_does_not_answer_is_not_heard_again() -> None:
    server = away(1)
    with pytest.raises(ServerUnavailable):
        retry_rejected(server)
    assert server.asked == 1
