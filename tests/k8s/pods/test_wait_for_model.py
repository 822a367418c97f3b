"""Waiting until a server has loaded a model."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from k8s.pods import wait_for_model


@pytest.fixture
def status_server() -> Iterator[tuple[str, dict[str, int]]]:
    """A server that answers each path with the status that the test puts there."""
    answers: dict[str, int] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", answers
        server.shutdown()


def test_loaded_means_that_a_version_can_be_asked(status_server: tuple[str, dict[str, int]]) -> None:
    url, answers = status_server
    answers["/v1/models/dogs"] = 200  # The status page answers for a model that failed to load, too.
    assert not wait_for_model.loaded(url, "dogs")
    answers["/v1/models/dogs/metadata"] = 200
    assert wait_for_model.loaded(url, "dogs")
    assert not wait_for_model.loaded("http://127.0.0.1:9", "dogs")


def test_waiting_in_vain_is_resumable(status_server: tuple[str, dict[str, int]]) -> None:
    url, answers = status_server
    arguments = [f"--url={url}", "--model-name=dogs", "--timeout=0.1", "--every=0.05"]
    assert CliRunner().invoke(wait_for_model.main, arguments).exit_code == 75
    answers["/v1/models/dogs/metadata"] = 200
    assert CliRunner().invoke(wait_for_model.main, arguments).exit_code == 0


@pytest.mark.parametrize("url", ["serving:8501", "http://", "http://a:b", "gs://a"])
def test_an_address_that_is_none_is_not_waited_for(url: str) -> None:
    assert CliRunner().invoke(wait_for_model.main, [f"--url={url}", "--model-name=dogs"]).exit_code == 2
