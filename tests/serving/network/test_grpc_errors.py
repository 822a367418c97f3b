"""Errors made of what gRPC says: one for each status, and the texts that tell two of one status apart."""

import grpc
import pytest

from serving.errors import DeadlineExceeded, RequestTooLarge, ServerBusy, ServerUnavailable
from serving.network.grpc_errors import from_status


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=str)
def test_every_status_of_grpc_is_an_error_with_code_and_target(code: grpc.StatusCode) -> None:
    error = from_status(code, "details", "localhost:8500")
    assert (error.code, error.target) == (code, "localhost:8500")
    assert str(error) == f"{code.name}: details (asked localhost:8500)"


def test_one_status_may_have_several_errors() -> None:
    full = from_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory", "t")
    too_large = from_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max (5 vs. 4)", "t")
    assert (type(full), type(too_large)) == (ServerBusy, RequestTooLarge)
    assert too_large.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("words", ["upstream request timeout", "Received http2 header with status: 504"])
def test_a_proxys_time_out_is_a_missed_deadline(words: str) -> None:
    error = from_status(grpc.StatusCode.UNAVAILABLE, words, "proxy:443")
    assert isinstance(error, DeadlineExceeded)
    assert "a proxy's time-out" in str(error)


def test_a_server_that_is_away_misses_no_deadline() -> None:
    error = from_status(grpc.StatusCode.UNAVAILABLE, "Received http2 header with status: 503", "proxy:443")
    assert isinstance(error, ServerUnavailable)
