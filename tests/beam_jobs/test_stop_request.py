"""The request to stop: it closes what is waited for, and is withdrawn when the last run has ended."""

import threading

import pytest

from beam_jobs import stop_request
from beam_jobs.stop_request import (
    Interrupted,
    StopRequest,
    closed_on_stop,
    raise_if_stopped,
    request_stop,
    run_in_progress,
)


def test_a_stop_lasts_until_the_last_run_has_ended() -> None:
    with run_in_progress():
        with run_in_progress():
            raise_if_stopped()
            request_stop()
            with pytest.raises(Interrupted) as error:
                raise_if_stopped()
            assert error.value.exit_code == 75
        assert stop_request.STOP.is_set()
    assert not stop_request.STOP.is_set()


def test_a_stop_before_a_run_is_not_forgotten() -> None:
    request_stop()
    with run_in_progress(), pytest.raises(Interrupted):
        raise_if_stopped()
    raise_if_stopped()


def test_what_is_waited_for_after_a_stop_is_closed() -> None:
    request, closed = StopRequest(), threading.Event()
    request.make()
    with request.closing(closed.set):
        assert closed.is_set()
    assert not stop_request.STOP.is_set()


def test_what_is_waited_for_is_closed_though_another_hangs() -> None:
    hangs, closed, forgotten = threading.Event(), threading.Event(), threading.Event()
    with closed_on_stop(forgotten.set):
        pass
    with run_in_progress(), closed_on_stop(lambda: hangs.wait(60)), closed_on_stop(closed.set):
        request_stop()
        assert closed.wait(60)
        hangs.set()
    assert not forgotten.is_set()
