"""A server within this process: its addresses, and a base path that can't be read."""

import time
from pathlib import Path

import pytest

from serving.server import EmbeddedServer
from serving.server.rpc.status_error import StatusError
from tests.conftest import MODEL_NAME
from tests.serving.server.client import Client


def test_an_ipv6_address(written: Path) -> None:
    with EmbeddedServer(written / "m", model_name="m", host="::1", rest_api_port=-1) as server:
        assert (server.address[:6], server.rest_address[:6]) == ("[::1]:", "[::1]:")
        assert Client(server.address).status() == [(3, "AVAILABLE")]


def test_a_base_path_that_cannot_be_read_is_an_error_at_once() -> None:
    with pytest.raises(StatusError, match="nosuch://bucket"):
        EmbeddedServer("nosuch://bucket/m", model_name="m").start()


def test_batching_does_not_make_the_start_of_an_image_model_slow(model_store: Path) -> None:
    """The runtime optimised each function of the decoder by itself, and all of them again where they are used."""

    def start(*, enable_batching: bool = False) -> float:
        started = time.process_time()
        with EmbeddedServer(model_store, model_name=MODEL_NAME, enable_batching=enable_batching):
            return time.process_time() - started

    start()  # what a process does once
    assert start(enable_batching=True) < 3 * start()
