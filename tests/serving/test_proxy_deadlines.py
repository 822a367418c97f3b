"""A proxy that gives up on a slow request says so in words of its own."""

import grpc
import pytest

from serving.errors import DeadlineExceeded, ServerUnavailable, from_status


@pytest.mark.parametrize("words", ["upstream request timeout", "Received http2 header with status: 504"])
def test_a_proxys_time_out_is_a_missed_deadline(words: str) -> None:
    error = from_status(grpc.StatusCode.UNAVAILABLE, words, "proxy:443")
    assert isinstance(error, DeadlineExceeded)
    assert "a proxy's time-out" in str(error)


def test_a_server_that_is_away_misses_no_deadline() -> None:
    error = from_status(grpc.StatusCode.UNAVAILABLE, "Received http2 header with status: 503", "proxy:443")
    assert isinstance(error, ServerUnavailable)
