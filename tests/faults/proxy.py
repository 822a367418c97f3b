"""A TCP proxy that cuts connections in the middle of what they carry, and an HTTP front to a store that misbehaves."""

import contextlib
import http.client
import http.server
import random
import socket
import threading
from typing import Any, Self


class CuttingProxy:
    """Passes bytes on; cuts each of the first connections after some bytes. A context manager."""

    def __init__(self, upstream: str, *, cuts: int, after_bytes: int) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._left, self._after = cuts, after_bytes
        self._random = random.Random(7)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut = 0
        """Connections cut so far."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            room = [self._random.randrange(self._after // 2, self._after)] if self._left > 0 else None
            self._left -= 1
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(*pair, room), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, room: list[int] | None) -> None:
        try:
            while data := source.recv(1000):
                if room is not None:
                    room[0] -= len(data)
                    if room[0] < 0:
                        self.cut += 1
                        break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class StoreFront:
    """An HTTP front to a store that answers 503, or not at all, while it is told to. A context manager."""

    def __init__(self, upstream: str) -> None:
        self.unavailable_share = 0.0
        """Of all requests."""
        self.only: str | None = None
        """Method that alone is affected: GET, PUT, …"""
        self.cut_share = 0.0
        """Of all requests, which are carried out, but of their answers only the headers come back."""
        self.denied = "no such name"
        """Objects with this in their names are forbidden."""
        self.denied_code = "AccessDenied"
        self.broken = "no such name"
        """Objects with this in their names are answered with 503."""
        self.cut = "no such name"
        """Of objects with this in their names, half the body comes."""
        self.trickling = "no such name"
        """Of objects with this in their names a byte comes every tenth of a second."""
        self.delay_s = 0.0
        self.hangs = False
        self._over = threading.Event()
        self.hung = threading.Event()
        """Set by the first request that hangs."""
        self.refused = 0
        """Requests answered with 503 or cut off so far."""
        front, chance = self, random.Random(11)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                if self.headers.get("Expect", "").lower() == "100-continue":
                    pass  # parse_request has answered it
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if front.delay_s:
                    threading.Event().wait(front.delay_s)
                if front.only in (None, self.command):
                    if front.hangs:
                        front.hung.set()
                        front._over.wait(120)
                        self.close_connection = True
                        return
                    if chance.random() < front.unavailable_share or front.broken in self.path:
                        front.refused += 1
                        self._answer(
                            503, [("Content-Type", "application/xml"), ("Retry-After", "1")], _error("SlowDown")
                        )
                        return
                if front.denied in self.path:
                    self._answer(403, [("Content-Type", "application/xml")], _error(front.denied_code))
                    return
                connection = http.client.HTTPConnection(upstream.removeprefix("http://"), timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, body, headers)
                reply = connection.getresponse()
                body = reply.read()
                if body and chance.random() < front.cut_share:
                    front.refused += 1
                    self.close_connection = True
                    body = b""
                if front.cut in self.path:
                    self.close_connection = True
                    body = body[: len(body) // 2]
                self._answer(reply.status, reply.getheaders(), body)
                connection.close()

            def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                length = str(len(body))
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value  # also where the body is left out: of a HEAD, and of an answer that is cut off
                    elif name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command == "HEAD":
                    return
                if front.trickling in self.path and self.command == "GET":
                    with contextlib.suppress(OSError):
                        for byte in body:
                            if front._over.wait(0.1):
                                break
                            self.wfile.write(bytes([byte]))
                    self.close_connection = True
                    return
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


def _error(code: str) -> bytes:
    """S3's answer that says why."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
