"""A real web server that misbehaves on request."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Mapping
from typing import Self

BODY = bytes(range(256)) * 40
"""Of a plain file; a server that is told of files has others."""


class Web(http.server.ThreadingHTTPServer):
    """Answers `/NAME` by the function of that name."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = dict(files or {})
        """By path, such as `/a.jpg`; they come before the functions."""
        self.answers: dict[str, Callable[[], bytes]] = {}
        """Makes the bytes of a path when it is asked for; they come before the files."""
        self.fail = False
        """Is every request answered with 500?"""
        self.signature = ""
        """What a query must have in it."""
        self.asked: list[str] = []
        self.connections = 0
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of a client that has gone."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    """One function a path; HTTP/1.1, so connections are kept."""

    protocol_version = "HTTP/1.1"
    server: Web

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.split("?")[0]
        if self.server.fail:
            return self.send(500)
        if self.server.signature not in self.path:
            return self.send(403)
        if path in self.server.answers:
            return self.send(200, self.server.answers[path]())
        if path in self.server.files:
            return self.send(200, self.server.files[path])
        name = path.strip("/").split("/")[-1].split(".")[0]
        answer: Callable[[], None] = getattr(self, f"answer_{name}", self.missing)
        return answer()

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def missing(self) -> None:
        name = self.path.split("?")[0].strip("/")
        self.send(int(name) if name.isdigit() else 404, b"a page that says why")

    def answer_plain(self) -> None:
        self.send(200, BODY)

    def answer_empty(self) -> None:
        self.send(416 if "Range" in self.headers else 200)

    def answer_ranges(self) -> None:
        if "Range" not in self.headers:
            return self.send(200, BODY)
        start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        return self.send(206, BODY[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(BODY)}")

    def answer_stamped(self) -> None:
        self.send(200, BODY, ETag='"1"', Last_Modified="Mon, 30 Nov 2026 12:00:00 GMT")

    def answer_elsewhere(self) -> None:
        self.send(206, BODY, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")

    def answer_unsized(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(BODY)
        self.close_connection = True

    def answer_chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))

    def answer_endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while not self.server.closing.is_set():
                self.wfile.write(BODY)

    def answer_cut(self) -> None:
        self.send(200, BODY[:1000], Content_Length=str(len(BODY)))
        self.close_connection = True

    def answer_cutonce(self) -> None:
        if self.server.asked.count(self.path) > 1:
            return self.send(200, BODY)
        return self.answer_cut()

    def answer_busyonce(self) -> None:
        if self.server.asked.count(self.path) > 1:
            return self.send(200, BODY)
        return self.send(503, Retry_After="1")

    def answer_cutchunk(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(BODY), BODY))
        self.close_connection = True

    def answer_dripping(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.closing.wait(0.1):
                self.wfile.write(b"x")

    def answer_silent(self) -> None:
        self.server.closing.wait(60)

    def answer_moved(self) -> None:
        self.send(302, Location="/plain.jpg")

    def answer_to_a_disk(self) -> None:
        self.send(302, Location="file:///etc/hostname")

    def answer_round(self) -> None:
        self.send(302, Location="/round.jpg")

    def answer_guarded(self) -> None:
        self.send(200, self.headers.get("Authorization", "nobody").encode())
